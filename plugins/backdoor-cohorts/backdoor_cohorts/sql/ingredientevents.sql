-- Events from ingredientevents, at the time they start. An infusion's amount is what was given in all: nobody knows
-- it before the end, so it is shown only where the end lies in the window.
CREATE TABLE ingredient_rows AS
SELECT
    s.stay_id,
    e.starttime AS event_time,
    e.itemid,
    CASE WHEN e.endtime < s.window_end THEN e.amount END AS numeric_value,
    CASE WHEN e.endtime < s.window_end THEN e.amountuom END AS unit,
    CAST(CASE WHEN t.visibility = 'storetime' AND e.storetime IS NULL THEN 1 ELSE 0 END AS TINYINT) AS unfiled
FROM ingredientevents AS e
INNER JOIN stays AS s ON e.stay_id = s.stay_id
CROSS JOIN settings AS t
WHERE
    e.starttime >= s.intime
    AND e.starttime < s.window_end
    AND (t.visibility = 'charttime' OR e.storetime IS NULL OR e.storetime < s.window_end);
