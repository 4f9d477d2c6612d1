"""librdkafka's mock cluster as a program: says its address on a line, then serves until killed."""

import signal

from confluent_kafka import Producer


def main() -> None:
    """Start the cluster, which lives as long as the producer that asked for it."""
    settings = {"test.mock.num.brokers": 1, "bootstrap.servers": "unused", "log_level": 0}
    producer = Producer(settings)
    brokers = producer.list_topics(timeout=30).brokers.values()
    print("serving", ",".join(f"{broker.host}:{broker.port}" for broker in brokers), flush=True)  # noqa: T201
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
