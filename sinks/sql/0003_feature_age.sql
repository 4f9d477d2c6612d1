-- How old the features were when the application was submitted, and whether that was too old for the
-- policy. Rows from before these columns get their age from the two times; none of them was judged.
ALTER TABLE decision_ledger
    ADD COLUMN IF NOT EXISTS features_age_s Nullable(Float64)
        DEFAULT (toUnixTimestamp64Micro(submitted_at) - toUnixTimestamp64Micro(features_as_of)) / 1e6
        AFTER features_as_of,
    ADD COLUMN IF NOT EXISTS features_stale Bool DEFAULT false AFTER features_age_s;

-- Every decision once, in plain columns. Times are in UTC; `latency_ms` runs from the Kafka record's
-- timestamp to the decision; `default_probability`, `score` and `risk_band` are NULL where the
-- applicant's features were missing; `reasons` come with the most important first; `features_age_s`
-- runs from the features' date to the submission.
CREATE OR REPLACE VIEW decisions AS
SELECT
    toUUID(UUIDNumToString(decision_id)) AS decision_id,
    event_id, source, application_id, applicant_id, submitted_at, produced_at, decided_at,
    dateDiff('millisecond', produced_at, decided_at) AS latency_ms,
    outcome, default_probability, score, risk_band,
    reasons, reasons.code AS reason_codes,
    feature_source, features_as_of, features_age_s, features_stale,
    release, origin_topic, origin_partition, origin_offset
FROM decision_ledger FINAL;

-- Milliseconds from the producer's timestamp to the decision, by minute.
CREATE OR REPLACE VIEW latency_by_minute AS
SELECT toDateTime64(toStartOfMinute(decided_at), 0, 'UTC') AS minute, count() AS decisions,
    quantileExact(0.5)(latency_ms) AS p50_ms, quantileExact(0.95)(latency_ms) AS p95_ms,
    quantileExact(0.99)(latency_ms) AS p99_ms, max(latency_ms) AS max_ms
FROM decisions
GROUP BY minute
ORDER BY minute;

-- How old the feature table's rows were when they were used, in seconds, by the hour of deciding
-- (UTC); features computed from the event have no age to speak of and do not count. `unknown_age`
-- are decisions on rows without a date; `stale_share` is the share that was too old for the policy.
CREATE OR REPLACE VIEW feature_age AS
SELECT toDateTime64(toStartOfHour(decided_at), 0, 'UTC') AS hour, count() AS decisions,
    quantileExact(0.5)(features_age_s) AS p50_s, quantileExact(0.99)(features_age_s) AS p99_s,
    countIf(features_age_s IS NULL) AS unknown_age, avg(features_stale) AS stale_share
FROM decision_ledger FINAL
WHERE feature_source = 'table'
GROUP BY hour
ORDER BY hour;
