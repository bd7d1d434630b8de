-- Events from microbiologyevents, at the time the specimen was taken (the end of the day where only that is known).
-- A culture takes days: its organism, antibiotic and comment are shown only where they were filed before the
-- window ended, under either visibility; else the one event says that the specimen was taken.
-- SELECT DISTINCT, because a positive culture has a row for each antibiotic: their number tells the result.
CREATE TABLE microbiology_rows AS
WITH timed AS (
    SELECT
        subject_id,
        micro_specimen_id,
        test_itemid,
        test_name,
        org_itemid,
        org_name,
        ab_itemid,
        ab_name,
        COALESCE(interpretation, comments) AS result,
        COALESCE(charttime, chartdate + INTERVAL '86399' SECOND) AS taken,
        COALESCE(storetime, storedate + INTERVAL '86399' SECOND) AS filed
    FROM microbiologyevents
),

seen AS (
    SELECT
        s.stay_id,
        m.micro_specimen_id,
        m.taken,
        m.test_itemid,
        m.test_name,
        m.org_itemid,
        m.org_name,
        m.ab_itemid,
        m.ab_name,
        m.result,
        CASE WHEN m.filed < s.window_end THEN 1 ELSE 0 END AS resulted,
        CAST(CASE WHEN t.visibility = 'storetime' AND m.filed IS NULL THEN 1 ELSE 0 END AS TINYINT) AS unfiled
    FROM timed AS m
    INNER JOIN stays AS s ON m.subject_id = s.subject_id
    CROSS JOIN settings AS t
    WHERE
        m.taken >= s.intime
        AND m.taken < s.window_end
        AND (t.visibility = 'charttime' OR m.filed IS NULL OR m.filed < s.window_end)
)

SELECT DISTINCT
    stay_id,
    taken,
    micro_specimen_id,
    'MICROBIOLOGY//' || COALESCE(CAST(test_itemid AS VARCHAR), 'UNK')
    || CASE WHEN resulted = 1 AND org_itemid IS NOT NULL THEN '//' || CAST(org_itemid AS VARCHAR) ELSE '' END
    || CASE WHEN resulted = 1 AND ab_itemid IS NOT NULL THEN '//' || CAST(ab_itemid AS VARCHAR) ELSE '' END AS code,
    COALESCE(test_name, 'unknown test')
    || CASE WHEN resulted = 1 AND org_itemid IS NOT NULL THEN ', ' || COALESCE(org_name, 'unknown') ELSE '' END
    || CASE WHEN resulted = 1 AND ab_itemid IS NOT NULL THEN ', ' || COALESCE(ab_name, 'unknown') ELSE '' END
        AS description,
    CASE WHEN resulted = 1 THEN result END AS text_value,
    unfiled
FROM seen;
