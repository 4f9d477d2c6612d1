"""Waiting, at start, for the neighbours that a process cannot do without."""

from collections.abc import Callable
from typing import TypeVar

import stamina
import structlog

logger = structlog.get_logger(__name__)

T = TypeVar("T")


def await_neighbour(
    name: str, attempt: Callable[[], T], away: type[Exception], seconds: float
) -> T:
    """
    Try until it works, pausing 0.2 to 5 s with jitter; say what is waited for.

    Raises `away` as the attempt did, once `seconds` have passed.
    """
    for tried in stamina.retry_context(
        on=away, attempts=None, timeout=seconds, wait_initial=0.2, wait_max=5.0
    ):
        with tried:
            try:
                return attempt()
            except away as error:
                logger.warning("worker.waiting", neighbour=name, cause=str(error))
                raise
    msg = "stamina gives an attempt or raises"
    raise AssertionError(msg)
