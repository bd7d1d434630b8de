-- meds_table: the mean (or sum) of each mapped feature in the window of each stay, one row for each that was measured.
-- In order of the values: a floating-point sum depends on the order of the rows, hence on the threads.
CREATE TABLE meds_table AS
SELECT
    s.stay_id,
    m.feature,
    CASE
        WHEN MAX(m.aggregate) = 'sum' THEN SUM(CAST(e.numeric_value AS DOUBLE) ORDER BY e.numeric_value)
        ELSE AVG(CAST(e.numeric_value AS DOUBLE) ORDER BY e.numeric_value)
    END AS value
FROM seen AS e
INNER JOIN stays AS s ON e.stay_id = s.stay_id
INNER JOIN code_map AS m ON e.code = m.code
WHERE e.numeric_value >= m.low AND e.numeric_value <= m.high
GROUP BY s.stay_id, m.feature;
