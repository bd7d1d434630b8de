-- The events in the order of a MEDS dataset: each subject's by time. The rest of the order makes equal data equal
-- bytes (hadm_id follows from stay_id). A number that no measurement can be (infinite, not a number) counts as none.
SELECT
    s.subject_id,
    e.event_time AS "time",
    e.code,
    CASE WHEN ABS(e.numeric_value) < 1e30 THEN CAST(e.numeric_value AS FLOAT) END AS numeric_value,
    e.text_value,
    s.hadm_id,
    e.stay_id,
    e.unit
FROM events AS e
INNER JOIN stays AS s ON e.stay_id = s.stay_id
ORDER BY s.subject_id, e.event_time, e.stay_id, code, numeric_value, text_value, unit;
