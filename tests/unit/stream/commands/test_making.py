"""Prepared data and releases: what is missing or damaged, by its name."""

from pathlib import Path

from tests.builders import a_release
from tests.unit.stream.commands.command_line import creditstream, refusal


def test_prepare_outside_a_checkout_says_what_is_missing() -> None:
    assert "run from a checkout" in refusal(creditstream("prepare"), 1)


def test_a_damaged_description_is_not_said_to_be_missing(tmp_path: Path) -> None:
    (tmp_path / "prepared.json").write_text("{")

    line = refusal(creditstream("train", "--data", "."), 1)
    assert line.startswith("error: prepared.json is damaged (")


def test_score_names_the_folder_that_holds_no_release(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("application_id\n7\n")

    line = refusal(creditstream("score", "rows.csv", "--release", ".", "-o", "out.parquet"), 1)

    assert "no release, and a folder of one release neither: it holds none" in line
    assert not (tmp_path / "out.parquet").exists()


def test_releases_are_listed_shown_and_checked_until_a_byte_is_flipped(tmp_path: Path) -> None:
    release = a_release(tmp_path / "releases")
    listed = creditstream("release", "list", "releases")
    shown = creditstream("release", "show", str(release), "--json")
    checked = creditstream("release", "check", str(release))
    of_folder = creditstream("release", "show", "releases")

    assert of_folder.stdout.startswith(f"release {release.name}  releases/{release.name}\n")
    assert listed.stdout.splitlines() == [release.name]
    assert f'"release": "{release.name}"' in shown.stdout
    assert checked.stdout.startswith(f"release {release.name} is sound: 50 reference rows")
    assert "  probabilities are computed by kernel\n" in checked.stdout

    model = bytearray((release / "model.txt").read_bytes())
    model[100] ^= 1
    (release / "model.txt").write_bytes(model)

    assert "model.txt: is damaged" in refusal(creditstream("release", "check", str(release)), 1)
    assert "model.txt: is damaged" in refusal(creditstream("release", "show", str(release)), 1)
    listed = creditstream("release", "list", "releases")
    assert listed.exit_code == 1
    assert listed.stdout.startswith(f"{release.name}  model.txt: is damaged")


def test_a_folder_without_releases_is_said_to_hold_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    assert creditstream("release", "list", "empty").stdout == "no release in empty\n"
    line = refusal(creditstream("release", "list", "nowhere"), 1)
    assert line == "error: release nowhere: manifest.json: there is no such folder"
