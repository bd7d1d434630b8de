-- stays: the candidates that pass every rule. attrition: how many are left after each rule, in this order.
CREATE TABLE screened AS
SELECT
    c.*,
    CASE
        WHEN c.age IS NULL OR c.age < s.min_age THEN 1
        WHEN c.valid_times = 0 THEN 2
        WHEN c.los_hours IS NULL OR c.los_hours < s.min_los_hours THEN 3
        WHEN c.death_hours < s.window_hours THEN 4
        WHEN c.label IS NULL THEN 5
        ELSE 6
    END AS failed_rule
FROM candidates AS c
CROSS JOIN settings AS s;

CREATE TABLE attrition AS
SELECT
    COUNT(*) AS in_source,
    COALESCE(SUM(CASE WHEN failed_rule > 1 THEN 1 ELSE 0 END), 0) AS old_enough,
    COALESCE(SUM(CASE WHEN failed_rule > 2 THEN 1 ELSE 0 END), 0) AS times_valid,
    COALESCE(SUM(CASE WHEN failed_rule > 3 THEN 1 ELSE 0 END), 0) AS stayed_long_enough,
    COALESCE(SUM(CASE WHEN failed_rule > 4 THEN 1 ELSE 0 END), 0) AS alive_at_prediction,
    COALESCE(SUM(CASE WHEN failed_rule > 5 THEN 1 ELSE 0 END), 0) AS label_known
FROM screened;

CREATE TABLE stays AS
SELECT * FROM screened WHERE failed_rule = 6;
