-- stays: the candidates that pass every rule. attrition: how many are left after each rule, in this order.
-- window_end: when the window ends and the prediction is made.
-- A patient's first ICU stay is the first in the source, whether or not it passes the other rules.
CREATE TABLE screened AS
WITH numbered AS (
    SELECT
        c.*,
        ROW_NUMBER() OVER (PARTITION BY c.subject_id ORDER BY c.intime, c.stay_id) AS stay_number
    FROM candidates AS c
)

SELECT
    c.*,
    CASE
        WHEN c.age IS NULL OR c.age < s.min_age THEN 1
        WHEN c.valid_times = 0 THEN 2
        WHEN s.first_stay_only = 1 AND c.stay_number > 1 THEN 3
        WHEN c.los_hours IS NULL OR c.los_hours < s.min_los_hours THEN 4
        WHEN s.gap_hours > 0 AND c.los_hours < s.window_hours + s.gap_hours THEN 5
        WHEN c.death_hours < s.window_hours + s.gap_hours THEN 6
        WHEN c.label IS NULL THEN 7
        ELSE 8
    END AS failed_rule
FROM numbered AS c
CROSS JOIN settings AS s;

CREATE TABLE attrition AS
SELECT
    COUNT(*) AS in_source,
    COALESCE(SUM(CASE WHEN failed_rule > 1 THEN 1 ELSE 0 END), 0) AS old_enough,
    COALESCE(SUM(CASE WHEN failed_rule > 2 THEN 1 ELSE 0 END), 0) AS times_valid,
    COALESCE(SUM(CASE WHEN failed_rule > 3 THEN 1 ELSE 0 END), 0) AS first_stay,
    COALESCE(SUM(CASE WHEN failed_rule > 4 THEN 1 ELSE 0 END), 0) AS stayed_long_enough,
    COALESCE(SUM(CASE WHEN failed_rule > 5 THEN 1 ELSE 0 END), 0) AS stayed_through_gap,
    COALESCE(SUM(CASE WHEN failed_rule > 6 THEN 1 ELSE 0 END), 0) AS alive_at_prediction,
    COALESCE(SUM(CASE WHEN failed_rule > 7 THEN 1 ELSE 0 END), 0) AS label_known
FROM screened;

CREATE TABLE stays AS
SELECT
    c.*,
    c.intime + s.window_hours * INTERVAL '1' HOUR AS window_end
FROM screened AS c
CROSS JOIN settings AS s
WHERE c.failed_rule = 8;
