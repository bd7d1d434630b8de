-- measurements: one row per usable measurement, in the unit of the feature; every later view starts here.
-- place: the feature's place in `features`. hours: since ICU admission.
-- preference: 0 goes before 1 where the first value is taken.
-- A value outside the plausible range of its feature is a charting error and is dropped, not clipped.
CREATE TABLE measurements AS
WITH converted AS (
    SELECT
        o.stay_id,
        m.place,
        o.hours,
        CASE m.conversion
            WHEN 'fahrenheit' THEN CASE WHEN o.value > 70 AND o.value < 120 THEN (o.value - 32) / 1.8 END
            WHEN 'pound' THEN o.value * 0.45359237
            WHEN 'inch' THEN o.value * 2.54
            WHEN 'percent' THEN CASE WHEN o.value <= 1 THEN o.value * 100 ELSE o.value END
            -- An intubated patient cannot speak: the charted 1 is not a verbal response of 1.
            WHEN 'gcs_verbal' THEN CASE WHEN o.remark = 'No Response-ETT' THEN NULL ELSE o.value END
            ELSE o.value
        END AS value,
        m.conversion,
        m.preference,
        m.low,
        m.high
    FROM observations AS o
    INNER JOIN item_map AS m ON o.itemid = m.itemid
)

SELECT
    stay_id,
    place,
    hours,
    -- Irrigant is what went into the bladder: it comes out again as urine that is not the patient's.
    CASE WHEN conversion = 'irrigant' THEN -value ELSE value END AS value,
    preference
FROM converted
WHERE value >= low AND value <= high;

-- The total score of the coma scale is not charted in MIMIC-IV: it is the sum of the three components that were
-- charted at the same time, where a view asks for it.
INSERT INTO measurements
WITH components AS (
    SELECT m.stay_id, m.place, m.hours, MIN(m.value) AS value
    FROM measurements AS m
    INNER JOIN features AS c ON m.place = c.place AND c.feature IN ('gcs_eye', 'gcs_verbal', 'gcs_motor')
    INNER JOIN features AS t ON t.feature = 'gcs_total'
    GROUP BY m.stay_id, m.place, m.hours
)

SELECT c.stay_id, t.place, c.hours, SUM(c.value) AS value, 0 AS preference
FROM components AS c
INNER JOIN features AS t ON t.feature = 'gcs_total'
GROUP BY c.stay_id, t.place, c.hours
HAVING COUNT(*) = 3;
