import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.own_process import CheckFailed, in_a_process_of_its_own
from models.registry import list_releases
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
from tests.builders import a_release


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_release(tmp_path_factory.mktemp("releases"))


def test_a_release_passes_its_self_check_in_a_process_of_its_own(folder: Path) -> None:
    assert load_release(folder).id == folder.name


@pytest.mark.parametrize("file", [*FILES, MANIFEST])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.8, 0.999])
def test_one_flipped_byte_in_any_file_is_refused_by_the_files_name(
    folder: Path, tmp_path: Path, file: str, share: float
) -> None:
    damaged = tmp_path / folder.name
    shutil.copytree(folder, damaged)
    content = bytearray((damaged / file).read_bytes())
    content[int(len(content) * share)] ^= 0x01
    (damaged / file).write_bytes(content)

    with pytest.raises(ReleaseRefused) as refused:
        open_release(damaged)

    assert refused.value.file == file


@pytest.mark.parametrize("file", [*FILES, MANIFEST])
def test_a_missing_file_is_refused_by_name(folder: Path, tmp_path: Path, file: str) -> None:
    damaged = tmp_path / folder.name
    shutil.copytree(folder, damaged)
    (damaged / file).unlink()

    with pytest.raises(ReleaseRefused, match=f"{file}: is missing"):
        open_release(damaged)


def test_an_extra_file_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / folder.name
    shutil.copytree(folder, damaged)
    (damaged / "model.pkl").write_bytes(b"x")

    with pytest.raises(ReleaseRefused, match=r"model\.pkl: is no part of the release"):
        open_release(damaged)


def test_damaged_text_never_reaches_lightgbm(folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / folder.name
    shutil.copytree(folder, damaged)
    (damaged / MODEL).write_text((damaged / MODEL).read_text()[:2000])
    code = """
from pathlib import Path
from models.release import ReleaseRefused, load_release
try:
    load_release(Path(sys.argv[1]))
except ReleaseRefused as refused:
    print(refused.file, "lightgbm" in sys.modules)
"""

    assert in_a_process_of_its_own(code, str(damaged)) == "model.txt False"


def test_a_release_is_opened_without_pandas_which_would_take_half_a_second(folder: Path) -> None:
    code = """
from pathlib import Path
from models.release import open_release
open_release(Path(sys.argv[1]))
print("lightgbm" in sys.modules, "pandas" in sys.modules)
"""

    assert in_a_process_of_its_own(code, str(folder)) == "True False"


def forged(folder: Path, tmp_path: Path, file: str, content: bytes, **manifest: Any) -> Path:
    """A release whose digests are right and whose content is not."""
    made = tmp_path / "forged"
    shutil.copytree(folder, made)
    (made / file).write_bytes(content)
    told = json.loads((made / MANIFEST).read_bytes())
    told["files"][file] = hashlib.sha256(content).hexdigest()
    told |= manifest
    (made / MANIFEST).write_text(json.dumps(told))
    digest = hashlib.sha256((made / MANIFEST).read_bytes()).hexdigest()
    return made.rename(tmp_path / digest[:16])


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        (MODEL, lambda c: c.replace(b"=binary", b"=poisson"), "objective 'poisson"),
        (MODEL, lambda c: c.replace(b" age ", b" old "), "missing age; extra old"),
        (MODEL, lambda c: c + b"\xff", "can't decode byte 0xff"),
        (FEATURES, lambda c: c.replace(b'"age"', b'"old"'), "not that of its features"),
        (POLICY, lambda c: c.replace(b"refer = 0.3", b"refer = 0.9"), "cutoffs.decline"),
        (POLICY, lambda _: b"\xff", "can't decode byte 0xff"),
        (REFERENCE, lambda c: c[:-4], "no readable Parquet file"),
        (
            REFERENCE,
            lambda c: parquet(pq.read_table(pa.BufferReader(c)).drop_columns(["age"])),
            "does not hold rows of the features",
        ),
        (
            REFERENCE,
            lambda c: parquet(pq.read_table(pa.BufferReader(c)).slice(0, 0)),
            "does not hold rows",
        ),
    ],
)
def test_a_forged_release_is_refused_by_the_files_name(
    folder: Path,
    tmp_path: Path,
    file: str,
    change: Callable[[bytes], bytes],
    reason: str,
) -> None:
    made = forged(folder, tmp_path, file, change((folder / file).read_bytes()))

    with pytest.raises(ReleaseRefused, match=reason) as refused:
        open_release(made)

    assert refused.value.file == file


def test_a_model_that_would_crash_lightgbm_never_reaches_it(folder: Path, tmp_path: Path) -> None:
    content = (folder / MODEL).read_bytes()
    # The first tree does not begin where its size says.
    made = forged(folder, tmp_path, MODEL, content.replace(b"tree_sizes=", b"tree_sizes=9 "))

    with pytest.raises(ReleaseRefused, match="does not stand where tree_sizes says") as refused:
        load_release(made)

    assert refused.value.file == MODEL


def test_the_throw_away_process_names_the_file_that_it_refuses(
    folder: Path, tmp_path: Path
) -> None:
    made = forged(folder, tmp_path, POLICY, b"[cutoffs")

    with pytest.raises(ReleaseRefused, match=r"policy\.toml: policy policy\.toml") as refused:
        load_release(made)

    assert refused.value.file == POLICY


def test_scores_that_differ_in_the_last_bit_are_refused(folder: Path, tmp_path: Path) -> None:
    rows = pq.read_table(folder / REFERENCE)
    scores = rows[EXPECTED].to_numpy().copy()
    scores[-1] = np.nextafter(scores[-1], 1)
    changed = rows.set_column(rows.num_columns - 1, EXPECTED, pa.array(scores))

    with pytest.raises(ReleaseRefused, match="does not score the reference rows as it did"):
        open_release(forged(folder, tmp_path, REFERENCE, parquet(changed)))


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ({"definition": "taiwan"}, "no feature definition is called 'taiwan'"),
        ({"format": 99}, "format 99; this version reads format 1"),
        ({"files": {}}, "names no file instead of model.txt"),
        ({"colour": "red"}, "is damaged: .*colour"),
    ],
)
def test_a_manifest_that_is_none_is_refused(
    folder: Path, tmp_path: Path, manifest: dict[str, Any], reason: str
) -> None:
    content = (folder / MODEL).read_bytes()

    with pytest.raises(ReleaseRefused, match=reason) as refused:
        open_release(forged(folder, tmp_path, MODEL, content, **manifest))

    assert refused.value.file == MANIFEST


def test_a_folder_in_a_files_place_is_refused(folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / folder.name
    shutil.copytree(folder, damaged)
    (damaged / POLICY).unlink()
    (damaged / POLICY).mkdir()

    with pytest.raises(ReleaseRefused, match=r"policy\.toml: cannot be read"):
        open_release(damaged)


def test_a_trusted_release_that_was_damaged_since_is_still_refused(tmp_path: Path) -> None:
    made = a_release(tmp_path)
    load_release(made)
    assert load_release(made, trusted=True).id == made.name
    (made / POLICY).write_bytes(b"")

    with pytest.raises(ReleaseRefused, match=r"policy\.toml: is damaged"):
        load_release(made, trusted=True)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("while True: pass", "did not end within 1 s"),
        ("import os; os.abort()", "died of SIGABRT"),
        ("bytearray(9 << 30)", "MemoryError"),
        ("sys.exit('no')", "no"),
        ("sys.exit(3)", "exit code 3"),
    ],
)
def test_what_a_throw_away_process_dies_of_is_told(code: str, reason: str) -> None:
    with pytest.raises(CheckFailed, match=reason):
        in_a_process_of_its_own(code, seconds=1)


def test_a_folder_lists_its_releases_with_the_damaged_ones(tmp_path: Path) -> None:
    sound, damaged = a_release(tmp_path / "a"), a_release(tmp_path / "b")
    damaged = damaged.rename(tmp_path / "a" / ("f" * 16))

    listed = list_releases(tmp_path / "a")

    assert [(entry.folder, bool(entry.refused)) for entry in listed] == sorted(
        [(sound, False), (damaged, True)]
    )
    with pytest.raises(ReleaseRefused, match="there is no such folder"):
        list_releases(tmp_path / "none")
