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

INSERT INTO events
SELECT
    stay_id,
    event_time,
    'PROCEDURE//' || CAST(itemid AS VARCHAR) AS code,
    numeric_value,
    CAST(NULL AS VARCHAR) AS text_value,
    unit
FROM procedure_rows;

INSERT INTO codes
SELECT 'PROCEDURE//' || CAST(e.itemid AS VARCHAR) AS code, MIN(d.label) AS description
FROM (SELECT DISTINCT itemid FROM procedure_rows) AS e
INNER JOIN d_items AS d ON e.itemid = d.itemid
WHERE d.label IS NOT NULL
GROUP BY e.itemid;
