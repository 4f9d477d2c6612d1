"""The topics: created where the broker lets us, with alike partitions."""

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from stream.settings import KafkaSettings


async def create_topics(kafka: KafkaSettings, replication: int = 1) -> list[str]:
    """Create the topics that are missing; give their names. Raises aiokafka's KafkaError."""
    names = [kafka.applications, kafka.decisions, kafka.ledger, kafka.parked, kafka.alarms]
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        topics = [NewTopic(name, kafka.partitions, replication) for name in names]
        response = await admin.create_topics(topics)
    finally:
        await admin.close()
    created = []
    for name, code, *_ in response.topic_errors:
        if code == 0:
            created.append(name)
        elif code != TopicAlreadyExistsError.errno:
            refused: type[KafkaError] = for_code(code)
            msg = f"cannot create {name}"
            raise refused(msg)
    return created
