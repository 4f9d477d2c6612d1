from pathlib import Path

import pytest

from features.whole_file import whole_file


def test_what_was_written_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"

    for content in ("one", "two"):
        with whole_file(path) as unfinished:
            unfinished.write_text(content)
            assert not path.exists() or path.read_text() == "one"

    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_all_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write_half() -> None:
        with whole_file(path) as unfinished:
            unfinished.write_text("ne")
            msg = "the disk is full"
            raise OSError(msg)

    with pytest.raises(OSError, match="the disk is full"):
        write_half()

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
