-- seen: the events in the window of each row of labels, both ends included. lives: birth and death of each subject.
-- One pass over the files of the dataset. Births and deaths lie outside the windows as a rule.
CREATE TABLE scanned AS
SELECT
    l.stay_id,
    e.subject_id,
    e.time,
    e.code,
    CASE WHEN ISNAN(e.numeric_value) THEN NULL ELSE e.numeric_value END AS numeric_value,
    e.text_value,
    e.hadm_id,
    e.unit,
    SPLIT_PART(e.code, '//', 1) AS event_type,
    e.time >= l.intime AND e.time <= l.prediction_time AS inside
FROM events AS e
INNER JOIN labels AS l ON e.subject_id = l.subject_id
WHERE
    (e.time >= l.intime AND e.time <= l.prediction_time)
    OR SPLIT_PART(e.code, '//', 1) IN ('MEDS_BIRTH', 'MEDS_DEATH');

CREATE VIEW seen AS
SELECT * FROM scanned WHERE inside;

CREATE TABLE lives AS
SELECT
    subject_id,
    MIN(CASE WHEN event_type = 'MEDS_BIRTH' THEN time END) AS born,
    MIN(CASE WHEN event_type = 'MEDS_DEATH' THEN time END) AS died
FROM scanned
GROUP BY subject_id;

CREATE TABLE candidates AS
SELECT
    l.stay_id,
    l.subject_id,
    CAST(l.boolean_value AS TINYINT) AS label,
    l.intime,
    CAST(NULL AS TIMESTAMP) AS outtime,
    CAST(DATESUB('year', v.born, l.intime) AS BIGINT) AS age,
    l.prediction_time,
    COALESCE(v.died > l.prediction_time, TRUE) AS alive
FROM labels AS l
LEFT JOIN lives AS v ON l.subject_id = v.subject_id
ORDER BY l.stay_id;
