"""The roles: what each reads and writes, and the rights that it needs."""

from typing import Literal

from stream.kafka.rights import Right
from stream.settings import KafkaSettings, Settings

Role = Literal["scoring", "sink", "monitor"]
ROLES: tuple[Role, ...] = ("scoring", "sink", "monitor")


def inputs_of(kafka: KafkaSettings, role: Role) -> list[str]:
    """Give the topics that a role reads."""
    topics = {
        "scoring": [kafka.applications],
        "sink": [kafka.ledger, kafka.parked, kafka.alarms],
        "monitor": [kafka.ledger],
    }
    return topics[role]


def outputs_of(kafka: KafkaSettings, role: Role) -> list[str]:
    """Give the topics that a role writes."""
    topics = {
        "scoring": [kafka.decisions, kafka.ledger, kafka.parked],
        "sink": [kafka.parked],
        "monitor": [kafka.alarms],
    }
    return topics[role]


def rights_of(settings: Settings, role: Role) -> list[Right]:
    """Give the rights that a role needs at a broker with ACLs that keeps transactions."""
    kafka = settings.kafka
    exactly_once = settings.delivery != "at_least_once"
    group = f"{kafka.group_prefix}-{role}"
    rights = [Right("Read", "topic", topic) for topic in inputs_of(kafka, role)]
    rights += [Right("Write", "topic", topic) for topic in outputs_of(kafka, role)]
    rights.append(Right("Read", "group", group))
    if role == "scoring" and exactly_once:
        rights.append(Right("Write", "transactional id", f"{group}-{kafka.applications}-"))
    if role == "scoring":
        # A new owner reads back what was decided last and, at least once, what was begun.
        read = [kafka.decisions] if exactly_once else outputs_of(kafka, role)
        rights += [Right("Read", "topic", topic) for topic in read]
    if role == "sink" and settings.reconcile_minutes:
        # It holds the ledger against the applications and their decisions.
        rights += [Right("Read", "topic", topic) for topic in (kafka.applications, kafka.decisions)]
        rights.append(Right("Describe", "group", f"{kafka.group_prefix}-scoring"))
    return rights
