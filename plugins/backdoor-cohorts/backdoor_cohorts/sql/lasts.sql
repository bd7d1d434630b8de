-- lasts: the latest value per stay and feature; of several at the same time the highest.
CREATE TABLE lasts AS
SELECT m.stay_id, m.place, MAX(m.value) AS value
FROM measurements AS m
INNER JOIN summary AS s ON m.stay_id = s.stay_id AND m.place = s.place AND m.hours = s.latest
GROUP BY m.stay_id, m.place;
