-- Events from prescriptions, at the time they start; the dose is the one ordered. Joined by patient and time.
CREATE TABLE prescription_rows AS
SELECT
    s.stay_id,
    p.starttime AS event_time,
    TRIM(p.drug) AS drug,
    TRIM(p.route) AS route,
    TRIM(p.dose_val_rx) AS dose,
    -- Engines disagree on whether 1_000, 5d and 0x10 are numbers: none is here.
    CASE
        WHEN NOT REGEXP_MATCHES(TRIM(p.dose_val_rx), '[^0-9.eE+-]') THEN TRY_CAST(TRIM(p.dose_val_rx) AS DOUBLE)
    END AS dose_number,
    p.dose_unit_rx AS unit
FROM prescriptions AS p
INNER JOIN stays AS s ON p.subject_id = s.subject_id
CROSS JOIN settings AS t
WHERE p.starttime >= s.intime AND p.starttime < s.window_end;
