-- chart_rows: mapped items charted in [intime, intime + window), as they were charted.
-- intubated: 1 where no verbal response could be given. unfiled: 1 where the time of filing decides but is not given.
CREATE TABLE chart_rows AS
SELECT
    s.stay_id,
    m.itemid,
    DATE_DIFF('microsecond', s.intime, c.charttime) / 3.6e9 AS hours,
    c.valuenum AS value,
    CAST(CASE WHEN m.conversion = 'gcs_verbal' AND c.value = 'No Response-ETT' THEN 1 ELSE 0 END AS TINYINT) AS intubated,
    CAST(CASE WHEN t.visibility = 'storetime' AND c.storetime IS NULL THEN 1 ELSE 0 END AS TINYINT) AS unfiled
FROM chartevents AS c
INNER JOIN item_map AS m ON c.itemid = m.itemid AND m.source = 'chartevents'
INNER JOIN stays AS s ON c.stay_id = s.stay_id
CROSS JOIN settings AS t
WHERE
    c.valuenum IS NOT NULL
    AND c.charttime >= s.intime
    AND c.charttime < s.window_end
    AND (t.visibility = 'charttime' OR c.storetime IS NULL OR c.storetime < s.window_end);
