"""Questions to ClickHouse, Kafka and running processes, and their answers."""
