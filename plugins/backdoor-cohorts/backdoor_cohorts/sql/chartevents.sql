-- chart_rows: the usable measurements of chartevents in [intime, intime + window), in the unit of their feature.
-- place: the feature's place in `features`. hours: since ICU admission.
-- preference: 0 goes before 1 where the first value is taken.
-- unfiled: 1 where the time of filing decides but is not given.
-- A value outside the plausible range of its feature is a charting error and is dropped, not clipped.
CREATE TABLE chart_rows AS
WITH converted AS (
    SELECT
        s.stay_id,
        m.place,
        DATE_DIFF('microsecond', s.intime, c.charttime) / 3.6e9 AS hours,
        CASE m.conversion
            WHEN 'fahrenheit' THEN CASE WHEN c.valuenum > 70 AND c.valuenum < 120 THEN (c.valuenum - 32) / 1.8 END
            WHEN 'pound' THEN c.valuenum * 0.45359237
            WHEN 'inch' THEN c.valuenum * 2.54
            WHEN 'percent' THEN CASE WHEN c.valuenum <= 1 THEN c.valuenum * 100 ELSE c.valuenum END
            -- An intubated patient cannot speak: the charted 1 is not a verbal response of 1.
            WHEN 'gcs_verbal' THEN CASE WHEN c.value = 'No Response-ETT' THEN NULL ELSE c.valuenum END
            ELSE c.valuenum
        END AS value,
        m.preference,
        m.low,
        m.high,
        CAST(CASE WHEN t.visibility = 'storetime' AND c.storetime IS NULL THEN 1 ELSE 0 END AS TINYINT) AS unfiled
    FROM chartevents AS c
    INNER JOIN item_map AS m ON c.itemid = m.itemid AND m.source = 'chartevents'
    INNER JOIN stays AS s ON c.stay_id = s.stay_id
    CROSS JOIN settings AS t
    WHERE
        c.valuenum IS NOT NULL
        AND c.charttime >= s.intime
        AND c.charttime < s.window_end
        AND (t.visibility = 'charttime' OR c.storetime IS NULL OR c.storetime < s.window_end)
)

SELECT
    stay_id,
    place,
    hours,
    value,
    preference,
    unfiled
FROM converted
WHERE value >= low AND value <= high;
