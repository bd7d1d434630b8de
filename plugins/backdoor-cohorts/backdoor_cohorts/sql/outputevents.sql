-- observations from outputevents.
INSERT INTO observations
SELECT
    s.stay_id,
    s.subject_id,
    m.itemid,
    DATE_DIFF('second', s.intime, o.charttime) / 3600.0 AS hours,
    o.value,
    CAST(NULL AS VARCHAR) AS remark
FROM outputevents AS o
INNER JOIN item_map AS m ON o.itemid = m.itemid AND m.source = 'outputevents'
INNER JOIN stays AS s ON o.stay_id = s.stay_id
CROSS JOIN settings AS t
WHERE
    o.value IS NOT NULL
    AND o.charttime >= s.intime
    AND o.charttime < s.intime + t.window_hours * INTERVAL '1' HOUR;
