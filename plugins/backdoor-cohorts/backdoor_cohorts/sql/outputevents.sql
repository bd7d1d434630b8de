-- output_rows: likewise from outputevents.
CREATE TABLE output_rows AS
SELECT
    s.stay_id,
    m.place,
    DATE_DIFF('microsecond', s.intime, o.charttime) / 3.6e9 AS hours,
    -- Irrigant is what went into the bladder: it comes out again as urine that is not the patient's.
    CASE WHEN m.conversion = 'irrigant' THEN -o.value ELSE o.value END AS value,
    m.preference,
    CAST(CASE WHEN t.visibility = 'storetime' AND o.storetime IS NULL THEN 1 ELSE 0 END AS TINYINT) AS unfiled
FROM outputevents AS o
INNER JOIN item_map AS m ON o.itemid = m.itemid AND m.source = 'outputevents'
INNER JOIN stays AS s ON o.stay_id = s.stay_id
CROSS JOIN settings AS t
WHERE
    o.value >= m.low
    AND o.value <= m.high
    AND o.charttime >= s.intime
    AND o.charttime < s.window_end
    AND (t.visibility = 'charttime' OR o.storetime IS NULL OR o.storetime < s.window_end);
