-- candidates: one row per ICU stay, before any exclusion.
-- Only what is known at admission, the times that the exclusions need, and the label. Nothing from diagnoses,
-- discharge columns or patients.dod (a date without a time: deaths on the day of admission would be lost).
-- Age: anchor_age is the age in anchor_year, not at this admission; years are what MIMIC-IV publishes.
-- A death in hospital without a time of death may or may not have been in the ICU: that label is unknown.
CREATE TABLE candidates AS
WITH timed AS (
    SELECT
        i.stay_id,
        i.subject_id,
        i.hadm_id,
        i.first_careunit,
        i.intime,
        i.outtime,
        CAST(a.hospital_expire_flag AS INTEGER) AS hospital_expire_flag,
        a.deathtime,
        p.gender AS sex,
        p.anchor_age + EXTRACT(YEAR FROM a.admittime) - p.anchor_year AS age,
        a.race,
        a.marital_status,
        a.admission_type,
        a.admission_location,
        a.insurance,
        DATE_DIFF('microsecond', i.intime, i.outtime) / 3.6e9 AS los_hours,
        DATE_DIFF('microsecond', i.intime, a.deathtime) / 3.6e9 AS death_hours
    FROM icustays AS i
    INNER JOIN admissions AS a ON i.hadm_id = a.hadm_id AND i.subject_id = a.subject_id
    INNER JOIN patients AS p ON i.subject_id = p.subject_id
)

SELECT
    c.stay_id,
    c.subject_id,
    c.hadm_id,
    CASE t.label
        WHEN 'hospital_mortality' THEN c.hospital_expire_flag
        WHEN 'icu_mortality' THEN
            CASE
                WHEN c.deathtime <= c.outtime THEN 1
                WHEN c.deathtime > c.outtime OR c.hospital_expire_flag = 0 THEN 0
            END
        WHEN 'los_gt_3d' THEN CASE WHEN c.los_hours > 72 THEN 1 WHEN c.los_hours <= 72 THEN 0 END
        WHEN 'los_gt_7d' THEN CASE WHEN c.los_hours > 168 THEN 1 WHEN c.los_hours <= 168 THEN 0 END
    END AS label,
    c.sex,
    c.age,
    c.race,
    c.marital_status,
    c.admission_type,
    c.admission_location,
    c.insurance,
    c.first_careunit,
    c.intime,
    c.outtime,
    CASE WHEN c.intime IS NOT NULL AND c.outtime > c.intime THEN 1 ELSE 0 END AS valid_times,
    c.los_hours,
    c.death_hours
FROM timed AS c
CROSS JOIN settings AS t;
