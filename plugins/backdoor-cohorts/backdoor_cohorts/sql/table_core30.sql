-- table_core30: one row per stay, one column per feature in dictionary order; NULL where nothing was measured.
-- Sums are taken in DECIMAL: a floating-point sum depends on the order of the rows, hence on the threads.
CREATE TABLE table_core30 AS
WITH grouped AS (
    SELECT
        stay_id,
        feature,
        COUNT(*) AS measured,
        SUM(CAST(value AS DECIMAL(18, 6))) AS total,
        MIN(value) AS lowest,
        MAX(value) AS highest
    FROM measurements
    GROUP BY stay_id, feature
),

ranked AS (
    SELECT
        stay_id,
        feature,
        value,
        ROW_NUMBER() OVER (PARTITION BY stay_id, feature ORDER BY preference, hours, value) AS place
    FROM measurements
    WHERE feature IN (SELECT feature FROM features WHERE aggregate = 'first')
),

aggregated AS (
    SELECT
        g.stay_id,
        g.feature,
        f.low,
        f.high,
        CASE f.aggregate
            WHEN 'mean' THEN CAST(g.total AS DOUBLE) / g.measured
            WHEN 'sum' THEN CAST(g.total AS DOUBLE)
            WHEN 'min' THEN g.lowest
            WHEN 'max' THEN g.highest
            WHEN 'first' THEN r.value
        END AS value
    FROM grouped AS g
    INNER JOIN features AS f ON g.feature = f.feature
    LEFT JOIN ranked AS r ON g.stay_id = r.stay_id AND g.feature = r.feature AND r.place = 1
),

-- Only a sum can leave its range here, such as urine with more irrigant in than came out.
plausible AS (
    SELECT stay_id, feature, value FROM aggregated WHERE value >= low AND value <= high
)

SELECT
    s.stay_id,
    CAST(MAX(s.age) AS DOUBLE) AS age,
    MAX(CASE s.sex WHEN 'M' THEN 1.0 WHEN 'F' THEN 0.0 END) AS sex,
    MAX(CASE WHEN p.feature = 'heart_rate' THEN p.value END) AS heart_rate,
    MAX(CASE WHEN p.feature = 'sbp' THEN p.value END) AS sbp,
    MAX(CASE WHEN p.feature = 'dbp' THEN p.value END) AS dbp,
    MAX(CASE WHEN p.feature = 'mbp' THEN p.value END) AS mbp,
    MAX(CASE WHEN p.feature = 'resp_rate' THEN p.value END) AS resp_rate,
    MAX(CASE WHEN p.feature = 'temperature' THEN p.value END) AS temperature,
    MAX(CASE WHEN p.feature = 'spo2' THEN p.value END) AS spo2,
    MAX(CASE WHEN p.feature = 'gcs_eye' THEN p.value END) AS gcs_eye,
    MAX(CASE WHEN p.feature = 'gcs_verbal' THEN p.value END) AS gcs_verbal,
    MAX(CASE WHEN p.feature = 'gcs_motor' THEN p.value END) AS gcs_motor,
    MAX(CASE WHEN p.feature = 'urine_output' THEN p.value END) AS urine_output,
    MAX(CASE WHEN p.feature = 'weight' THEN p.value END) AS weight,
    MAX(CASE WHEN p.feature = 'wbc' THEN p.value END) AS wbc,
    MAX(CASE WHEN p.feature = 'hemoglobin' THEN p.value END) AS hemoglobin,
    MAX(CASE WHEN p.feature = 'platelets' THEN p.value END) AS platelets,
    MAX(CASE WHEN p.feature = 'sodium' THEN p.value END) AS sodium,
    MAX(CASE WHEN p.feature = 'potassium' THEN p.value END) AS potassium,
    MAX(CASE WHEN p.feature = 'chloride' THEN p.value END) AS chloride,
    MAX(CASE WHEN p.feature = 'bicarbonate' THEN p.value END) AS bicarbonate,
    MAX(CASE WHEN p.feature = 'bun' THEN p.value END) AS bun,
    MAX(CASE WHEN p.feature = 'creatinine' THEN p.value END) AS creatinine,
    MAX(CASE WHEN p.feature = 'glucose' THEN p.value END) AS glucose,
    MAX(CASE WHEN p.feature = 'lactate' THEN p.value END) AS lactate,
    MAX(CASE WHEN p.feature = 'ph' THEN p.value END) AS ph,
    MAX(CASE WHEN p.feature = 'po2' THEN p.value END) AS po2,
    MAX(CASE WHEN p.feature = 'pco2' THEN p.value END) AS pco2,
    MAX(CASE WHEN p.feature = 'bilirubin_total' THEN p.value END) AS bilirubin_total,
    MAX(CASE WHEN p.feature = 'inr' THEN p.value END) AS inr
FROM stays AS s
LEFT JOIN plausible AS p ON s.stay_id = p.stay_id
GROUP BY s.stay_id;
