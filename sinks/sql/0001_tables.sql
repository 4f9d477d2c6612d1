-- What was decided, with the features that it was decided on. A redelivered or re-sent application
-- leaves rows of one key, of which the earliest decision wins (by `decided_at`, then by where the
-- application stood). Until ClickHouse merges them all are there: read the view `decisions`, which
-- shows each once, and build no adding-up materialised view on this table, which would count all.
CREATE TABLE IF NOT EXISTS decision_ledger
(
    decision_id FixedString(16),
    event_id String,
    source LowCardinality(String),
    application_id Int64,
    applicant_id Nullable(String),
    submitted_at DateTime64(6, 'UTC'),
    produced_at DateTime64(3, 'UTC'),
    decided_at DateTime64(6, 'UTC'),
    outcome LowCardinality(String),
    default_probability Nullable(Float64),
    score Nullable(Int32),
    risk_band LowCardinality(Nullable(String)),
    reasons Array(Tuple(code String, feature String, contribution Float64)),
    feature_source LowCardinality(String),
    features_as_of Nullable(DateTime64(6, 'UTC')),
    release LowCardinality(String),
    origin_topic LowCardinality(String),
    origin_partition Int32,
    origin_offset Int64,
    features Array(Float32),
    earliest UInt128 MATERIALIZED
        bitShiftLeft(toUInt128(18446744073709551615 - toUInt64(toUnixTimestamp64Micro(decided_at))), 64)
        + toUInt128(18446744073709551615 - toUInt64(origin_offset))
)
ENGINE = ReplacingMergeTree(earliest)
PARTITION BY toYYYYMM(submitted_at)
ORDER BY (application_id, decision_id)
SETTINGS non_replicated_deduplication_window = 10000;

-- Events that can never be decided: where they stood, what was wrong, their bytes. The key is where
-- the event stood; the first time it was parked wins. Read the views `parked`, `parked_by_cause`.
CREATE TABLE IF NOT EXISTS parked_events
(
    origin_topic LowCardinality(String),
    origin_partition Int32,
    origin_offset Int64,
    produced_at DateTime64(3, 'UTC'),
    parked_at DateTime64(6, 'UTC'),
    stage LowCardinality(String),
    code LowCardinality(String),
    path String,
    shown String,
    rule String,
    release LowCardinality(String),
    key Nullable(String),
    value Nullable(String),
    earliest UInt64 MATERIALIZED 18446744073709551615 - toUInt64(toUnixTimestamp64Micro(parked_at))
)
ENGINE = ReplacingMergeTree(earliest)
ORDER BY (origin_topic, origin_partition, origin_offset)
SETTINGS non_replicated_deduplication_window = 10000;

-- Which features, in which order, the column `features` of a release's decisions holds.
CREATE TABLE IF NOT EXISTS release_features
(
    release String,
    names Array(String)
)
ENGINE = ReplacingMergeTree
ORDER BY release
SETTINGS non_replicated_deduplication_window = 1000;

-- What the drift monitor raised. The id follows from where the monitor stood, so an alarm raised
-- again is the same row. Read the view `alarms`.
CREATE TABLE IF NOT EXISTS drift_alarms
(
    alarm_id String,
    raised_at DateTime64(6, 'UTC'),
    kind LowCardinality(String),
    detector LowCardinality(String),
    subject LowCardinality(String),
    value Float64,
    threshold Float64,
    since DateTime64(6, 'UTC'),
    release LowCardinality(String),
    decisions Int64,
    text String
)
ENGINE = ReplacingMergeTree
ORDER BY alarm_id
SETTINGS non_replicated_deduplication_window = 10000;

-- Which of these files ran, when, and with which content.
CREATE TABLE IF NOT EXISTS schema_migrations
(
    file String,
    digest String,
    applied_at DateTime('UTC') DEFAULT now('UTC')
)
ENGINE = MergeTree
ORDER BY (file, digest);
