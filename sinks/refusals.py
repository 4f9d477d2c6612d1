"""ClickHouse's errors by name: what passes by itself, and what an operator has to mend."""

import re
from typing import Literal, get_args

Cause = Literal[
    "away",
    "overloaded",
    "read_only",
    "disk_full",
    "quota",
    "too_many_parts",
    "replicas",
    "rights",
    "table",
]
CAUSES: tuple[Cause, ...] = get_args(Cause)
"""What an insert waits for. The last two wait for an operator, all others for time."""

# The numbers of ClickHouse's ErrorCodes.cpp; `SELECT errorCodeToName(243)` names one.
_PASSING: dict[Cause, tuple[int, ...]] = {
    "away": (3, 95, 96, 107, 198, 203, 209, 210, 236, 279, 297, 394, 677, 696, 733, 735, 1000),
    "overloaded": (
        *(159, 160, 173, 202, 216, 241, 364, 425, 439, 473, 574, 692, 700),
        *(745, 749, 762, 776, 777, 778, 1017, 1019, 1020),
    ),
    "read_only": (164, 242, 774),
    "disk_full": (75, 76, 243, 294, 499, 500, 1016),
    "quota": (201,),
    "too_many_parts": (252,),
    "replicas": (225, 244, 254, 265, 285, 286, 289, 319, 571, 659, 999),
}
_MENDED: dict[Cause, tuple[int, ...]] = {
    "rights": (192, 193, 194, 291, 497, 512, 516, 720),
    "table": (8, 10, 16, 20, 44, 47, 60, 81, 115, 122, 218, 452, 471),
}
_PASSES: dict[int, Cause] = {n: cause for cause, codes in _PASSING.items() for n in codes}
_WAITS: dict[int, Cause] = {n: cause for cause, codes in _MENDED.items() for n in codes}
_GONE = (60, 81, 218)
_LOGIN = (192, 193, 194, 516, 720)
_VALUES = re.compile(r"Column values: .*?(?=\([A-Z_]+\)|$)", re.DOTALL)
_STD_EXCEPTION, _NO_SPACE = 1001, "No space left on device"


def passing(code: int, message: str) -> Cause | None:
    """
    Name what passes by itself; None for another error.

    >>> passing(243, "Cannot reserve 1 MiB, not enough space"), passing(60, "no such table")
    ('disk_full', None)
    """
    # Of the operating system's errors some have no number of their own. No other error's message is
    # looked into: it may quote what stood in a row.
    if code == _STD_EXCEPTION and _NO_SPACE in message:
        return "disk_full"
    return _PASSES.get(code)


def for_an_operator(code: int) -> Cause | None:
    """Name an error that says by itself that no row can be taken; None for another."""
    return _WAITS.get(code)


def way_out(code: int, table: str) -> str:
    """Say what an operator does so that a table takes rows again."""
    if code in _GONE:
        return f"give {table} back its name, or run `creditstream init`, which makes it anew"
    if code in _LOGIN:
        return "let that user in, or restart the sink with another CREDITSTREAM_STORE__PASSWORD"
    if _WAITS.get(code) == "rights":
        return f"GRANT SELECT, INSERT ON {table} to the sink's user"
    return f"undo what was changed of {table}: its columns are those of sinks/sql"


def without_values(message: str) -> str:
    """
    Cut from an error what it quotes of a row.

    >>> without_values("violated at row 2. Column values: score = 7. (VIOLATED_CONSTRAINT)")
    'violated at row 2. (VIOLATED_CONSTRAINT)'
    """
    return _VALUES.sub("", message)
