-- Events from procedureevents, at the time they start. A procedure's value is how long it took: nobody knows
-- it before the end, so it is shown only where the end lies in the window.
CREATE TABLE procedure_rows AS
SELECT
    s.stay_id,
    e.starttime AS event_time,
    e.itemid,
    CASE WHEN e.endtime < s.window_end THEN e.value END AS numeric_value,
    CASE WHEN e.endtime < s.window_end THEN e.valueuom END AS unit,
    CAST(CASE WHEN t.visibility = 'storetime' AND e.storetime IS NULL THEN 1 ELSE 0 END AS TINYINT) AS unfiled
FROM procedureevents AS e
INNER JOIN stays AS s ON e.stay_id = s.stay_id
CROSS JOIN settings AS t
WHERE
    e.starttime >= s.intime
    AND e.starttime < s.window_end
    AND (t.visibility = 'charttime' OR e.storetime IS NULL OR e.storetime < s.window_end);
