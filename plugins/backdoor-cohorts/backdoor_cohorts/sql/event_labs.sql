-- Events from lab_rows. The code carries the unit, as MIMIC_IV_MEDS's does: LAB//50912//mg/dL.
INSERT INTO events
SELECT
    stay_id,
    charttime AS event_time,
    'LAB//' || CAST(itemid AS VARCHAR) || '//' || COALESCE(unit, 'UNK') AS code,
    valuenum AS numeric_value,
    text_value,
    unit
FROM lab_rows;

INSERT INTO codes
SELECT
    'LAB//' || CAST(l.itemid AS VARCHAR) || '//' || COALESCE(l.unit, 'UNK') AS code,
    MIN(d.label || COALESCE(', ' || LOWER(d.fluid), '')) AS description
FROM (SELECT DISTINCT itemid, unit FROM lab_rows) AS l
INNER JOIN d_labitems AS d ON l.itemid = d.itemid
WHERE d.label IS NOT NULL
GROUP BY l.itemid, l.unit;
