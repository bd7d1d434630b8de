-- observations: what chartevents, labevents and outputevents hold of the mapped items, without a copy of it.
DROP TABLE observations;

CREATE VIEW observations AS
SELECT stay_id, itemid, hours, value, CASE WHEN intubated = 1 THEN 'No Response-ETT' END AS remark FROM chart_rows
UNION ALL
SELECT l.stay_id, l.itemid, l.hours, l.valuenum AS value, CAST(NULL AS VARCHAR) AS remark
FROM lab_rows AS l
INNER JOIN item_map AS m ON l.itemid = m.itemid AND m.source = 'labevents'
WHERE l.valuenum IS NOT NULL
UNION ALL
SELECT stay_id, itemid, hours, value, CAST(NULL AS VARCHAR) AS remark FROM output_rows;
