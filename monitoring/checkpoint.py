"""The drift monitor's state as bytes: versioned, under a checksum, without pickle."""

import hashlib
from importlib.metadata import version

import msgspec
import numpy as np

from monitoring.episode import Episode
from monitoring.psi import BINS, ReferenceBins
from monitoring.window import SavedWindow

_FORMAT = b"creditstream-monitor-2\n"
_DIGEST_BYTES = 32
_RIVER = version("river")


class CheckpointDamaged(Exception):
    """A monitor's checkpoint is not what was written, or not for this version."""


class SavedMonitor(msgspec.Struct, frozen=True):
    """A drift monitor as plain values."""

    release: str
    names: list[str]
    edges: list[list[float]]
    shares: list[list[float]]
    means: list[float]
    window: SavedWindow
    detectors: list[bytes]
    episodes: list[Episode]
    next_offsets: dict[int, int]
    last_decided_at_us: int
    river: str = _RIVER

    def bins(self) -> ReferenceBins:
        """Give the release's bins."""
        edges = tuple(np.array(inner, dtype=np.float64) for inner in self.edges)
        shares = np.array(self.shares).reshape(-1, BINS + 1)
        return ReferenceBins(edges, shares, np.array(self.means))


def seal(saved: SavedMonitor) -> bytes:
    """Write a state, its checksum before it."""
    content = msgspec.msgpack.encode(saved)
    return _FORMAT + hashlib.sha256(content).digest() + content


def unseal(sealed: bytes) -> SavedMonitor:
    """
    Read what `seal` wrote; raise CheckpointDamaged before anything is interpreted.

    River's detectors check nothing themselves: their bytes are for the version that wrote them.
    """
    head, rest = sealed[: len(_FORMAT)], sealed[len(_FORMAT) :]
    content = rest[_DIGEST_BYTES:]
    if head != _FORMAT or hashlib.sha256(content).digest() != rest[:_DIGEST_BYTES]:
        msg = "the monitor's checkpoint is damaged or of another version"
        raise CheckpointDamaged(msg)
    saved = msgspec.msgpack.decode(content, type=SavedMonitor)
    if saved.river != _RIVER:
        msg = f"the monitor's checkpoint is of River {saved.river}, this is {_RIVER}"
        raise CheckpointDamaged(msg)
    return saved
