-- lab_rows: laboratory results in the window; table and series take the mapped ones of them, events all.
-- Joined by patient and time: labevents has no stay_id and its hadm_id is often NULL.
CREATE TABLE lab_rows AS
SELECT
    s.stay_id,
    CAST(l.itemid AS INTEGER) AS itemid,
    l.charttime,
    DATE_DIFF('microsecond', s.intime, l.charttime) / 3.6e9 AS hours,
    l.valuenum,
    CASE WHEN l.valuenum IS NULL THEN l.value END AS text_value,
    NULLIF(TRIM(l.valueuom), '') AS unit,
    CAST(CASE WHEN t.visibility = 'storetime' AND l.storetime IS NULL THEN 1 ELSE 0 END AS TINYINT) AS unfiled
FROM labevents AS l
INNER JOIN stays AS s ON l.subject_id = s.subject_id
CROSS JOIN settings AS t
WHERE
    l.charttime >= s.intime
    AND l.charttime < s.window_end
    AND (t.visibility = 'charttime' OR l.storetime IS NULL OR l.storetime < s.window_end);
