-- observations from labevents. Joined by patient and time: labevents has no stay_id and its hadm_id is often NULL.
INSERT INTO observations
SELECT
    s.stay_id,
    s.subject_id,
    m.itemid,
    DATE_DIFF('second', s.intime, l.charttime) / 3600.0 AS hours,
    l.valuenum AS value,
    CAST(NULL AS VARCHAR) AS remark
FROM labevents AS l
INNER JOIN item_map AS m ON l.itemid = m.itemid AND m.source = 'labevents'
INNER JOIN stays AS s ON l.subject_id = s.subject_id
CROSS JOIN settings AS t
WHERE
    l.valuenum IS NOT NULL
    AND l.charttime >= s.intime
    AND l.charttime < s.intime + t.window_hours * INTERVAL '1' HOUR;
