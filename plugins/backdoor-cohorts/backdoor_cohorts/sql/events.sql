-- events: what every raw table gives for the events view, without a copy of it.
-- The code of a lab carries the unit, as MIMIC_IV_MEDS's does: LAB//50912//mg/dL.
CREATE VIEW events AS
SELECT
    stay_id,
    charttime AS event_time,
    'LAB//' || CAST(itemid AS VARCHAR) || '//' || COALESCE(unit, 'UNK') AS code,
    valuenum AS numeric_value,
    text_value,
    unit
FROM lab_rows
UNION ALL
SELECT
    stay_id,
    event_time,
    'PRESCRIPTION//' || COALESCE(drug, 'UNK') || '//' || COALESCE(route, 'UNK') AS code,
    dose_number AS numeric_value,
    CASE WHEN dose_number IS NULL THEN dose END AS text_value,
    unit
FROM prescription_rows
UNION ALL
SELECT
    stay_id,
    taken AS event_time,
    code,
    CAST(NULL AS DOUBLE) AS numeric_value,
    text_value,
    CAST(NULL AS VARCHAR) AS unit
FROM microbiology_rows
UNION ALL
SELECT
    stay_id,
    event_time,
    'PROCEDURE//' || CAST(itemid AS VARCHAR) AS code,
    numeric_value,
    CAST(NULL AS VARCHAR) AS text_value,
    unit
FROM procedure_rows
UNION ALL
SELECT
    stay_id,
    event_time,
    'INGREDIENT//' || CAST(itemid AS VARCHAR) AS code,
    numeric_value,
    CAST(NULL AS VARCHAR) AS text_value,
    unit
FROM ingredient_rows;

-- codes: what the codes of events mean, where the source tells; the same code may be there more than once.
CREATE VIEW codes AS
SELECT
    'LAB//' || CAST(l.itemid AS VARCHAR) || '//' || COALESCE(l.unit, 'UNK') AS code,
    d.label || COALESCE(', ' || LOWER(d.fluid), '') AS description
FROM (SELECT DISTINCT itemid, unit FROM lab_rows) AS l
INNER JOIN d_labitems AS d ON l.itemid = d.itemid
WHERE d.label IS NOT NULL
UNION ALL
SELECT
    'PRESCRIPTION//' || COALESCE(drug, 'UNK') || '//' || COALESCE(route, 'UNK') AS code,
    COALESCE(drug, 'unknown drug') || COALESCE(', ' || route, '') AS description
FROM (SELECT DISTINCT drug, route FROM prescription_rows) AS p
UNION ALL
SELECT DISTINCT code, description FROM microbiology_rows
UNION ALL
SELECT 'PROCEDURE//' || CAST(e.itemid AS VARCHAR) AS code, d.label AS description
FROM (SELECT DISTINCT itemid FROM procedure_rows) AS e
INNER JOIN d_items AS d ON e.itemid = d.itemid
WHERE d.label IS NOT NULL
UNION ALL
SELECT 'INGREDIENT//' || CAST(e.itemid AS VARCHAR) AS code, d.label AS description
FROM (SELECT DISTINCT itemid FROM ingredient_rows) AS e
INNER JOIN d_items AS d ON e.itemid = d.itemid
WHERE d.label IS NOT NULL;
