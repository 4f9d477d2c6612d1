"""Brokers to run here: librdkafka's mock for a first run, Apache Kafka for every promise.

Each is a child process on 127.0.0.1 that ends when its parent does, however that ends.
"""

from stream.brokers.apache_kafka import ApacheKafka
from stream.brokers.guarded import Broker, BrokerUnavailable
from stream.brokers.mock import MockBroker

__all__ = ["ApacheKafka", "Broker", "BrokerUnavailable", "MockBroker"]
