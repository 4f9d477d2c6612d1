"""Application events on their way to Kafka: from files, or simulated."""
