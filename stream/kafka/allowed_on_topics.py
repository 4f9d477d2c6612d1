"""Kafka's Metadata request in version 8, which tells rights; aiokafka speaks 0 to 5."""

from collections.abc import Sequence

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String


class AllowedOnTopicsResponse(Response):  # type: ignore[misc] # untyped library
    """What a broker says of topics."""

    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            Array(
                ("node_id", Int32),
                ("host", String("utf-8")),
                ("port", Int32),
                ("rack", String("utf-8")),
            ),
        ),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("cluster_authorized_operations", Int32),
    )


class AllowedOnTopicsStruct(RequestStruct):  # type: ignore[misc] # untyped library
    """The request as it is sent."""

    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = AllowedOnTopicsResponse
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class AllowedOnTopics(Request[AllowedOnTopicsStruct]):  # type: ignore[misc] # untyped library
    """Asks for topics, and for what this client may do with each; creates none."""

    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = list(topics)

    def build(self, request_struct_class: type[AllowedOnTopicsStruct]) -> AllowedOnTopicsStruct:
        """Make the request."""
        return request_struct_class(self._topics, False, False, True)
