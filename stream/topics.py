"""Topics, created where they are missing."""

from collections.abc import Mapping

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from stream.settings import KafkaSettings


async def ensure_topics(
    bootstrap_servers: str,
    partitions: Mapping[str, int],
    config: Mapping[str, str] | None = None,
    *,
    replication: int = 1,
) -> list[str]:
    """
    Create the topics that are missing, each with its number of partitions; give their names.

    Does nothing for a topic that is there, nor at a broker that cannot create any: the mock,
    where a topic appears when it is first used. Raises aiokafka's KafkaError.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        cluster = await admin.describe_cluster()
        # aiokafka fails without a word where no broker is the controller: the mock names a 0.
        if cluster["controller_id"] not in {broker["node_id"] for broker in cluster["brokers"]}:
            return []
        response = await admin.create_topics(
            [
                NewTopic(name, number, replication, topic_configs=dict(config or {}))
                for name, number in partitions.items()
            ]
        )
    finally:
        await admin.close()
    created = []
    for name, code, *_ in response.topic_errors:
        if code == 0:
            created.append(name)
        elif code != TopicAlreadyExistsError.errno:
            refused: type[KafkaError] = for_code(code)
            msg = f"cannot create topic {name}"
            raise refused(msg)
    return created


async def create_topics(kafka: KafkaSettings, replication: int = 1) -> list[str]:
    """Create creditstream's topics with alike partitions; see `ensure_topics`."""
    names = [kafka.applications, kafka.decisions, kafka.ledger, kafka.parked, kafka.alarms]
    wanted = dict.fromkeys(names, kafka.partitions)
    return await ensure_topics(kafka.bootstrap_servers, wanted, replication=replication)
