-- candidates: one row per ICU stay, before any exclusion.
-- Only what is known at admission, the times that the exclusions need, and the label. Nothing from diagnoses,
-- discharge columns or patients.dod (a date without a time: deaths on the day of admission would be lost).
-- Age: anchor_age is the age in anchor_year, not at this admission; years are what MIMIC-IV publishes.
CREATE TABLE candidates AS
SELECT
    i.stay_id,
    i.subject_id,
    CAST(a.hospital_expire_flag AS INTEGER) AS label,
    p.gender AS sex,
    p.anchor_age + EXTRACT(YEAR FROM a.admittime) - p.anchor_year AS age,
    a.race,
    a.marital_status,
    a.admission_type,
    a.admission_location,
    a.insurance,
    i.first_careunit,
    i.intime,
    CASE WHEN i.intime IS NOT NULL AND i.outtime > i.intime THEN 1 ELSE 0 END AS valid_times,
    DATE_DIFF('second', i.intime, i.outtime) / 3600.0 AS los_hours,
    DATE_DIFF('second', i.intime, a.deathtime) / 3600.0 AS death_hours
FROM icustays AS i
INNER JOIN admissions AS a ON i.hadm_id = a.hadm_id AND i.subject_id = a.subject_id
INNER JOIN patients AS p ON i.subject_id = p.subject_id;
