"""
Damage releases by chance: as accidents do, and as somebody who makes the digests right again.

    python -m tests.fuzz.releases --count 10000 --seed 1

A damaged one must be refused in one line, or load with the very scores of the sound one. Where the
digests are right again the parsers see it: what happens up to the self-check happens in a
throw-away process, and may be anything that ends; what passed must decide with probabilities. Exit
code 1: one ended otherwise. Its seed is printed, and `--seed N --count 1` makes it again.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.own_process import MEMORY_BYTES, SECONDS
from features.taiwan_default import DEFINITION
from models.release import (
    EXPECTED,
    FEATURES,
    FILES,
    MANIFEST,
    MODEL,
    POLICY,
    REFERENCE,
    ReleaseRefused,
    load_release,
    open_release,
)
from stream.kafka.pinned import replace
from tests.builders import a_release, raw_columns
from tests.fuzz.apart import Ended, Say, apart
from tests.fuzz.damage import CONTENT, NAMES, PLACE
from tests.fuzz.run import Verdict, main

_ROOM = 1 << 30  # what the fork holds before it begins
_PROBES = DEFINITION.compute(raw_columns(100, seed=11))


def resized(text: str) -> str:
    """Give a model's text, a character a byte, with the tree sizes that its trees have."""
    edges = [found.start() for found in re.finditer(r"^(?:Tree=|end of trees)", text, re.MULTILINE)]
    sizes = (len(text[a:b]) for a, b in pairwise(edges))
    return re.sub(r"tree_sizes=.*", "tree_sizes=" + " ".join(map(str, sizes)), text, count=1)


class Sound:
    """Two sound releases, and what the first gives for some rows."""

    def __init__(self, folder: Path) -> None:
        self.release = a_release(folder / "sound", 0.1)
        self.other = a_release(folder / "other", 0.2)
        self.scores = _scored(load_release(self.release))["scores"]


def case(sound: Sound, folder: Path, seed: int) -> Verdict:
    """Make one damaged release, load it, and judge how that ended."""
    random = Random(seed)
    made = folder / sound.release.name
    shutil.copytree(sound.release, made)
    if random.random() < 0.5:
        how = _by_accident(random, made, sound)
        ended = apart(lambda _: _loaded(made), seconds=SECONDS + 10, memory=MEMORY_BYTES + _ROOM)
        return _judged(how, ended, sound.scores)
    how = _by_design(random, made, sound)
    forged = _signed(made)
    ended = apart(
        lambda say: _proved(forged, say), seconds=SECONDS + 10, memory=MEMORY_BYTES + _ROOM
    )
    return _judged_forged(how, ended)


def _loaded(folder: Path) -> dict[str, Any]:
    try:
        # What the sound release has proved is proved of the same content.
        return _scored(load_release(folder, trusted=True))
    except ReleaseRefused as refused:
        return {"refused": str(refused)}


def _proved(folder: Path, say: Say) -> dict[str, Any]:
    """Do what a throw-away process does, then what the worker does with what passed."""
    reader = lightgbm.Booster

    def reads(*given: Any, **named: Any) -> Any:
        say("parser")
        return reader(*given, **named)

    replace(lightgbm, "Booster", reads)
    try:
        release = open_release(folder)
    except ReleaseRefused as refused:
        return {"refused": str(refused)}
    except Exception as error:  # noqa: BLE001 - it ends the throw-away process, no more
        return {"refused": f"{type(error).__name__} apart"}
    say("proved")
    scores = _scored(release)
    explained = release.scorer.contributions(_PROBES)
    return scores | {"explained": bool(np.isfinite(explained).all())}


def _scored(release: Any) -> dict[str, Any]:
    scores = release.scorer.default_probability(_PROBES)
    return {
        "scores": scores.tobytes().hex(),
        "probable": bool(((scores >= 0) & (scores <= 1)).all()),
    }


def _judged(how: str, ended: Ended, scores: str) -> Verdict:
    answer = ended.answer or {}
    if "refused" in answer:
        return _refused(how, answer["refused"], "refused", ended)
    same = answer.get("scores") == scores
    return Verdict(
        how, "loaded as it was" if same else f"{ended.died or answer}"[:300], same, ended
    )


def _judged_forged(how: str, ended: Ended) -> Verdict:
    answer = ended.answer or {}
    parsed = "parser" in ended.said
    if "refused" in answer:
        told = "refused after" if parsed else "refused before"
        return _refused(how, answer["refused"], f"forged: {told} LightGBM's parser", ended)
    if "proved" not in ended.said and (ended.died or "raised" in answer):
        return Verdict(how, "forged: the throw-away process ended", True, ended)
    sound = bool(answer.get("probable") and answer.get("explained"))
    return Verdict(
        how, "forged: loaded" if sound else f"{ended.died or answer}"[:300], sound, ended
    )


def _refused(how: str, reason: str, told: str, ended: Ended) -> Verdict:
    one_line = reason.isprintable() and len(reason) < 1_500
    return Verdict(how, told if one_line else f"no line: {reason!r}"[:300], one_line, ended)


def _by_accident(random: Random, made: Path, sound: Sound) -> str:
    path = made / random.choice((*FILES, MANIFEST))
    how = random.randrange(10)
    if how == 0:
        (made / os.fsdecode(random.choice(NAMES))).write_bytes(b"x")
        return "another file"
    if how == 1:
        shutil.copyfile(sound.other / path.name, path)
        return "a file of another release"
    if how == 2:
        damage = random.choice(PLACE)
        damage(random, path)
        return f"{damage.__name__} in a file's place"
    if how == 3:
        told = json.loads((made / MANIFEST).read_bytes())
        name = random.choice(
            ("../model.txt", "/etc/passwd", "model.txt/../model.txt", "\0", "", "a\nb")
        )
        told["files"][name] = told["files"].pop(path.name, "")
        (made / MANIFEST).write_text(json.dumps(told))
        return "a path that climbs"
    damage_content = random.choice(CONTENT)
    path.write_bytes(damage_content(random, path.read_bytes()))
    return f"{damage_content.__name__} of a file"


def _by_design(random: Random, made: Path, sound: Sound) -> str:
    name = random.choice((MODEL, MODEL, MODEL, MODEL, FEATURES, POLICY, REFERENCE, MANIFEST))
    path = made / name
    special = _SPECIAL.get(name, ())
    if special and random.random() < 0.5:
        damage = random.choice(special)
        path.write_bytes(damage(random, path.read_bytes()))
    elif random.random() < 0.1:
        damage = _of_another
        path.write_bytes((sound.other / name).read_bytes())
    else:
        damage = random.choice(CONTENT)
        path.write_bytes(damage(random, path.read_bytes()))
    if name == MODEL and random.random() < 0.8:
        path.write_bytes(resized(path.read_bytes().decode("latin-1")).encode("latin-1"))
    return f"{damage.__name__.strip('_')} of {name}"


def _of_another(_: Random, content: bytes) -> bytes:
    return content


def _inflated(random: Random, content: bytes) -> bytes:
    """Write another size where LightGBM allocates and loops by it."""
    field = random.choice(
        (b"num_leaves", b"num_cat", b"max_feature_idx", b"num_class", b"num_tree_per_iteration")
    )
    sizes = (b"0", b"1", b"2", b"6", b"8", b"63", b"64", b"1000000", b"2147483647", b"-1", b"1e9")
    return _in_field(random, content, field, lambda _: random.choice(sizes))


def _in_tree(random: Random, content: bytes) -> bytes:
    """Write other numbers into a tree: circles, nodes and features that are not there."""
    fields = (
        *(b"left_child", b"right_child", b"left_child", b"right_child", b"split_feature"),
        *(b"threshold", b"decision_type", b"leaf_value", b"leaf_count", b"internal_count"),
        *(b"leaf_weight", b"internal_value", b"shrinkage", b"is_linear", b"num_leaves"),
    )
    numbers = [str(number).encode() for number in (*range(-8, 8), 62, 63, 64, 255, 2**31 - 1)]
    others = (*numbers, b"nan", b"inf", b"1e308", b"-1e308", b"0.5", b"1e-320")

    def other(value: bytes) -> bytes:
        values = value.split() or [b""]
        for _ in range(random.choice((1, 1, 2, 4))):
            how = random.randrange(6)
            if how == 0 and len(values) > 1:
                del values[random.randrange(len(values))]
            elif how == 1:
                values.append(random.choice(others))
            elif how == 2:
                random.shuffle(values)
            else:
                values[random.randrange(len(values))] = random.choice(others)
        return b" ".join(values)

    for _ in range(random.choice((1, 1, 2))):
        content = _in_field(random, content, random.choice(fields), other)
    return content


def _categories(random: Random, content: bytes) -> bytes:
    """Make a tree ask for categories that it does not, or hardly, have."""
    content = _in_field(random, content, b"num_cat", lambda _: random.choice((b"1", b"2", b"0")))
    content = _in_field(random, content, b"decision_type", lambda v: v.replace(b"2", b"1", 1))
    more = random.choice(
        (
            b"",
            b"cat_boundaries=0 1\ncat_threshold=7\n",
            b"cat_boundaries=0 99999999\ncat_threshold=7\n",
        )
    )
    return content.replace(b"is_linear=0", more + b"is_linear=0", random.choice((1, 100)))


def _in_field(
    random: Random, content: bytes, field: bytes, other: Callable[[bytes], bytes]
) -> bytes:
    found = list(re.finditer(rb"^%b=(.*)$" % field, content, re.MULTILINE))
    if not found:
        return content
    one = random.choice(found)
    return content[: one.start(1)] + other(one[1]) + content[one.end(1) :]


def _nested(_: Random, content: bytes) -> bytes:
    return b'{"x":' + b"[" * 100_000 + content


def _nested_toml(_: Random, content: bytes) -> bytes:
    return b"x = " + b"[" * 50_000 + b"]" * 50_000 + b"\n" + content


def _long_toml(_: Random, content: bytes) -> bytes:
    return b".".join([b"a"] * 2_000) + b" = 1\n" + content


def _many_features(_: Random, __: bytes) -> bytes:
    many = ",".join(f'{{"name":"f{number}"}}' for number in range(100_000))
    return b'{"features":[' + many.encode() + b'],"digest":"","dtype":"float32"}'


def _other_definition(random: Random, content: bytes) -> bytes:
    told = json.loads(content)
    told["definition"] = random.choice(("by_name", "../../x", "os", "home_credit", "", "\0", "é"))
    return json.dumps(told).encode()


def _of_manifest(random: Random, content: bytes) -> bytes:
    told = json.loads(content)
    odd: tuple[Any, ...] = (None, -1, 2**70, 1e300, "x" * 10_000, [], {"a": {}}, "\ud800", True)
    told[random.choice((*told, "more"))] = random.choice(odd)
    return json.dumps(told).encode()


@cache
def _many_rows() -> bytes:
    """Two million rows of zeros in a few kilobytes."""
    zeros = pa.array(np.zeros(2_000_000, dtype=np.float32))
    columns = dict.fromkeys(DEFINITION.schema.names, zeros)
    table = pa.table(columns | {EXPECTED: pa.array(np.zeros(2_000_000))})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _bomb(_: Random, __: bytes) -> bytes:
    return _many_rows()


_SPECIAL: dict[str, tuple[Callable[[Random, bytes], bytes], ...]] = {
    MODEL: (_inflated, _in_tree, _in_tree, _in_tree, _categories),
    FEATURES: (_nested, _many_features),
    POLICY: (_nested_toml, _long_toml),
    REFERENCE: (_bomb,),
    MANIFEST: (_nested, _other_definition, _of_manifest),
}


def _signed(made: Path) -> Path:
    """Make the digests and the folder's name right again, as anybody can."""
    try:
        told = json.loads((made / MANIFEST).read_bytes())
        for name in FILES:
            told["files"][name] = hashlib.sha256((made / name).read_bytes()).hexdigest()
        (made / MANIFEST).write_text(json.dumps(told))
    except (ValueError, TypeError, KeyError, RecursionError):
        pass  # the manifest itself is what is damaged
    digest = hashlib.sha256((made / MANIFEST).read_bytes()).hexdigest()
    return made.rename(made.with_name(digest[:16]))


if __name__ == "__main__":
    main(__doc__, Sound, case)
