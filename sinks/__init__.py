"""Where decisions go: the ledger, the parked topic, and ClickHouse with its SQL."""
