-- One row a decision and feature: what the model saw; `value` is NaN where the feature was missing.
-- Applications without any features have no rows here.
CREATE OR REPLACE VIEW decision_features AS
SELECT
    toUUID(UUIDNumToString(ledger.decision_id)) AS decision_id,
    application_id, event_id, ledger.release AS release, feature, value
FROM decision_ledger AS ledger FINAL
INNER JOIN (SELECT release, names FROM release_features FINAL) AS named
    ON named.release = ledger.release
ARRAY JOIN names AS feature, features AS value
WHERE notEmpty(features);

-- Ids that several applications share, because their events came with one source and event_id. Each
-- application keeps its own decision; a producer that does this is to be told.
CREATE OR REPLACE VIEW shared_ids AS
SELECT toUUID(UUIDNumToString(decision_id)) AS decision_id, any(event_id) AS event_id, any(source) AS source,
    arraySort(groupArray(application_id)) AS application_ids
FROM decision_ledger FINAL
GROUP BY decision_id
HAVING count() > 1
ORDER BY event_id;

-- How many decisions of each outcome, by the hour of deciding (UTC), and their share of the hour.
CREATE OR REPLACE VIEW decision_mix_by_hour AS
SELECT toDateTime64(toStartOfHour(decided_at), 0, 'UTC') AS hour, outcome, count() AS decisions,
    decisions / sum(decisions) OVER (PARTITION BY hour) AS share
FROM decision_ledger FINAL
GROUP BY hour, outcome
ORDER BY hour, outcome;

-- How the decisions spread over the risk bands, and what each band was decided.
CREATE OR REPLACE VIEW risk_bands AS
SELECT coalesce(risk_band, 'none') AS band, count() AS decisions, avg(default_probability) AS mean_default_probability,
    countIf(outcome = 'approve') AS approved, countIf(outcome = 'refer') AS referred, countIf(outcome = 'decline') AS declined
FROM decision_ledger FINAL
GROUP BY band
ORDER BY mean_default_probability;

-- Every parked event once: `path` names the field (or $ for the whole document), `shown` shows what
-- stood there, `rule` says what it broke. `key` and `value` are the event's, made valid UTF-8 for
-- reading; the exact bytes are in the table.
CREATE OR REPLACE VIEW parked AS
SELECT origin_topic, origin_partition, origin_offset, parked_at, produced_at, stage, code, path, shown, rule, release,
    toValidUTF8(key) AS key, toValidUTF8(value) AS value, length(parked_events.value) AS value_bytes
FROM parked_events FINAL;

-- How many events are parked, by what was wrong with them.
CREATE OR REPLACE VIEW parked_by_cause AS
SELECT stage, code, path, rule, count() AS events, max(parked_at) AS latest
FROM parked_events FINAL
GROUP BY stage, code, path, rule
ORDER BY events DESC, code, path;

-- Every alarm once, the newest first.
CREATE OR REPLACE VIEW alarms AS
SELECT alarm_id, raised_at, kind, detector, subject, value, threshold, since, release, decisions, text
FROM drift_alarms FINAL
ORDER BY raised_at DESC;
