-- What the topics told of the applications of each hour (UTC, by Kafka's timestamp) and partition: how
-- many were decided, how many parked, and from which offset to which. An event that was sent again
-- is not among them, nor what a sink parked after it was decided. `creditstream reconcile` holds this against the applications themselves.
CREATE OR REPLACE VIEW delivery_by_hour AS
SELECT toDateTime64(toStartOfHour(produced_at), 0, 'UTC') AS hour, origin_topic, origin_partition,
    sum(is_decided) AS decided, sum(is_parked) AS parked, min(origin_offset) AS first_offset, max(origin_offset) AS last_offset
FROM
(
    SELECT produced_at, origin_topic, origin_partition, origin_offset, 1 AS is_decided, 0 AS is_parked FROM decision_ledger FINAL
    UNION ALL
    SELECT produced_at, origin_topic, origin_partition, origin_offset, 0 AS is_decided, 1 AS is_parked FROM parked_events FINAL
    WHERE stage != 'sink'
)
GROUP BY hour, origin_topic, origin_partition
ORDER BY hour, origin_topic, origin_partition;
