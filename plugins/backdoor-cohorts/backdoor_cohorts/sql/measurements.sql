-- The total score of the coma scale is not charted in MIMIC-IV: it is the sum of the three components that were
-- charted at the same time, where a view asks for it.
INSERT INTO chart_rows
WITH components AS (
    SELECT m.stay_id, m.place, m.hours, MIN(m.value) AS value
    FROM chart_rows AS m
    INNER JOIN features AS c ON m.place = c.place AND c.feature IN ('gcs_eye', 'gcs_verbal', 'gcs_motor')
    INNER JOIN features AS t ON t.feature = 'gcs_total'
    GROUP BY m.stay_id, m.place, m.hours
)

SELECT c.stay_id, t.place, c.hours, SUM(c.value) AS value, 0 AS preference, 0 AS unfiled
FROM components AS c
INNER JOIN features AS t ON t.feature = 'gcs_total'
GROUP BY c.stay_id, t.place, c.hours
HAVING COUNT(*) = 3;

-- measurements: one row per usable measurement (see chartevents.sql), without a copy of it. Labs are charted in the
-- unit of their feature.
CREATE VIEW measurements AS
SELECT stay_id, place, hours, value, preference FROM chart_rows
UNION ALL
SELECT l.stay_id, m.place, l.hours, l.valuenum AS value, m.preference
FROM lab_rows AS l
INNER JOIN item_map AS m ON l.itemid = m.itemid AND m.source = 'labevents'
WHERE l.valuenum >= m.low AND l.valuenum <= m.high
UNION ALL
SELECT stay_id, place, hours, value, preference FROM output_rows;
