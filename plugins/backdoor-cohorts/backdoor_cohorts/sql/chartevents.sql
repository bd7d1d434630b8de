-- observations from chartevents: mapped items charted in [intime, intime + window), as they were charted.
INSERT INTO observations
SELECT
    s.stay_id,
    s.subject_id,
    m.itemid,
    DATE_DIFF('second', s.intime, c.charttime) / 3600.0 AS hours,
    c.valuenum AS value,
    CASE WHEN m.conversion = 'gcs_verbal' THEN c.value END AS remark
FROM chartevents AS c
INNER JOIN item_map AS m ON c.itemid = m.itemid AND m.source = 'chartevents'
INNER JOIN stays AS s ON c.stay_id = s.stay_id
CROSS JOIN settings AS t
WHERE
    c.valuenum IS NOT NULL
    AND c.charttime >= s.intime
    AND c.charttime < s.intime + t.window_hours * INTERVAL '1' HOUR;
