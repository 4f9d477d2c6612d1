"""
Run one peer of the stream: `python bench/peers/run.py faust --servers … --applications … …`.

Each is written the way its own documentation recommends, once event by event and once with its
predictions batched. `creditstream bench peers` starts them.
"""

import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from work import read_arguments

PEERS = {
    "faust": ("peer_faust", "one_by_one"),
    "faust-take": ("peer_faust", "batched"),
    "aiokafka": ("peer_aiokafka", "one_by_one"),
    "aiokafka-batched": ("peer_aiokafka", "batched"),
    "confluent": ("peer_confluent", "one_by_one"),
    "confluent-batched": ("peer_confluent", "batched"),
    "quix": ("peer_quix", "one_by_one"),
    "quix-batched": ("peer_quix", "batched"),
    "bytewax": ("peer_bytewax", "one_by_one"),
    "bytewax-batched": ("peer_bytewax", "batched"),
}


def main() -> None:
    """Run until told to stop."""
    name, given = read_arguments()
    module, function = PEERS[name]
    getattr(import_module(module), function)(given)


if __name__ == "__main__":
    main()
