-- summary: one row per stay and measured feature. firsts: the first value, likewise, where it counts.
-- Sums are taken in whole millionths: a floating-point sum depends on the order of the rows, hence on the threads.
CREATE TABLE summary AS
SELECT
    stay_id,
    place,
    COUNT(*) AS measured,
    CAST(SUM(CAST(ROUND(value * 1000000) AS BIGINT)) AS DOUBLE) / 1e6 AS total,
    MIN(value) AS lowest,
    MAX(value) AS highest,
    MAX(hours) AS latest
FROM measurements
GROUP BY stay_id, place;

CREATE TABLE firsts AS
SELECT stay_id, place, value
FROM (
    SELECT
        m.stay_id,
        m.place,
        m.value,
        ROW_NUMBER() OVER (PARTITION BY m.stay_id, m.place ORDER BY m.preference, m.hours, m.value) AS turn
    FROM measurements AS m
    INNER JOIN features AS f ON m.place = f.place
    WHERE f.aggregate = 'first'
) AS ranked
WHERE turn = 1;
