"""How a poll's output and its offset reach Kafka: in one transaction, or one after the other."""
