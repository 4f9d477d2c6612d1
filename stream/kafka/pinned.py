"""What we change in libraries whose versions are pinned exactly."""

from typing import Any


def replace(owner: Any, name: str, value: Any) -> None:
    """Put a value in the place of one that is there; raises AttributeError where none is."""
    if not hasattr(owner, name):
        msg = f"no {name} is there: a version other than the pinned one?"
        raise AttributeError(msg)
    setattr(owner, name, value)
