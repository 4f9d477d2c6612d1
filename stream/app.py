"""Settings to the Faust app of a role, on the poll-batch transport."""

import logging
import tempfile

import faust
from faust.exceptions import ConsumerNotStarted
from mode.supervisors import CrashingSupervisor

from stream.kafka.connection import connection_of
from stream.kafka.roles import Role
from stream.settings import Settings
from stream.transport.consumer import PollConsumer, Transport
from stream.transport.in_flight import Agent
from stream.transport.no_tables import NoTables

POLLS_IN_QUEUE = 4

# A group's leader that reached no broker for a moment may assign nothing; this is when it looks
# again, and when partitions that were added are taken up. The default is five minutes.
_METADATA_MS = 5_000

# Of one partition, compressed. The sink reads three topics, after an outage all of them full.
_FETCH_BYTES: dict[Role, int] = {"scoring": 4 << 20, "sink": 1 << 20, "monitor": 1 << 20}


def new_app(settings: Settings, role: Role) -> faust.App:
    """
    Make the Faust app of a role: a consumer group of its own, on the poll-batch transport.

    An agent that raises ends the process (CrashingSupervisor): the default restarts it *behind*
    the records on which it failed.
    """
    kafka = settings.kafka
    servers = [server.strip() for server in kafka.bootstrap_servers.split(",")]
    app = faust.App(
        f"{kafka.group_prefix}-{role}",
        broker=";".join(f"kafka://{server}" for server in servers),
        broker_credentials=connection_of(kafka).credentials(),
        consumer_group_instance_id=kafka.group_instance_id,
        autodiscover=False,
        TableManager=NoTables,
        # Nothing is kept there: no tables. Without a value Faust makes a folder where it stands.
        datadir=tempfile.gettempdir(),
        value_serializer="raw",
        key_serializer="raw",
        store="memory://",
        agent_supervisor=CrashingSupervisor,
        stream_buffer_maxsize=POLLS_IN_QUEUE,
        stream_wait_empty=True,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="none",  # see StrictFetcher
        consumer_max_fetch_size=_FETCH_BYTES[role],
        consumer_metadata_max_age_ms=_METADATA_MS,
        broker_commit_interval=kafka.commit_interval,
        broker_max_poll_records=kafka.max_poll_records,
        broker_session_timeout=kafka.session_timeout,
        broker_heartbeat_interval=min(3.0, kafka.session_timeout / 3),
        broker_request_timeout=max(30.0, kafka.session_timeout),
        producer_request_timeout=30.0,
        web_enabled=False,
        worker_redirect_stdouts=False,
        loghandlers=[],
    )
    transport = Transport(app.conf.broker_consumer, app)
    transport.fetch_max_wait_ms = kafka.fetch_max_wait_ms
    app.transport = transport
    # Faust warns once an interval about topics that were idle; our watchdog looks at lag instead.
    logging.getLogger("faust.transport.drivers.aiokafka").setLevel(logging.CRITICAL)
    return app


def register(app: faust.App, topic: str, name: str, agent: Agent) -> None:
    """Let an agent read a topic, a poll at a time and one poll after the other."""
    app.agent(app.topic(topic, value_serializer="raw", key_serializer="raw"), name=name)(agent)


def consumer_of(app: faust.App) -> PollConsumer:
    """
    Give the app's consumer; raises ConsumerNotStarted while there is none.

    Asked for itself, Faust would make one, on the loop of whichever thread asks.
    """
    consumer = app._consumer  # noqa: SLF001
    if consumer is None:
        raise ConsumerNotStarted
    assert isinstance(consumer, PollConsumer)
    return consumer


def transport_of(app: faust.App) -> Transport:
    """Give the app's transport."""
    transport = app.transport
    assert isinstance(transport, Transport)
    return transport
