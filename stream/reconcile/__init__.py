"""Applications against decisions, ledger, parked events and ClickHouse: what differs, by name."""
