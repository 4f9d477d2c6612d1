"""Rights taken from running workers and given back: what became of every application."""

import random
import time
from collections.abc import Iterator

import pytest

from stream.kafka.rights import Right
from stream.kafka.roles import ROLES, Role
from tests.faults.conftest import Installations, Record
from tests.faults.installation import Installation

pytestmark = [pytest.mark.real_broker, pytest.mark.timeout(3_600)]


@pytest.fixture
def installation(installations: Installations) -> Installation:
    return installations.named("secured", partitions=4, workers=2, rate=200, logins=True)


def test_rights_revoked_and_given_back(
    installation: Installation, record: Record, dice: random.Random, *, long: bool
) -> None:
    secured = installation.ground.secured
    rounds = list(each_right(installation) if long else one_of_each(installation, dice))
    slowest_s = 0.0
    for taken in rounds:
        words = {role: f"lacks: {right}" for role, right in taken.items()}
        said = {role: installation.said(role).count(words[role]) for role in taken}
        began = time.monotonic()
        for role, right in taken.items():
            secured.revoke(role, right)
        for role in taken:
            installation.await_said(role, words[role], said[role] + 1)
        slowest_s = max(slowest_s, time.monotonic() - began)
        time.sleep(dice.uniform(0, 2))
        for role, right in taken.items():
            secured.grant(role, right)
        installation.await_all_partitions_after(time.time())
    record(
        "rights revoked under load and given back: " + "; ".join(map(told, rounds)),
        "the broker's ACLs",
        len(rounds),
        f"named in the log within {slowest_s:.0f} s",
    )


def one_of_each(installation: Installation, dice: random.Random) -> Iterator[dict[Role, Right]]:
    yield {role: dice.choice(installation.rights_of(role)) for role in ROLES}


def each_right(installation: Installation) -> Iterator[dict[Role, Right]]:
    for role in ROLES:
        for right in installation.rights_of(role):
            yield {role: right}


def told(taken: dict[Role, Right]) -> str:
    return ", ".join(f"{role}'s {right.operation} on {right.kind}" for role, right in taken.items())
