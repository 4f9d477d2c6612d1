from pathlib import Path

import pytest

from stream.installation import FolderBusy, _alone


def test_a_folder_holds_one_installation_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "demo"

    with _alone(folder):
        with pytest.raises(FolderBusy, match="demo: wait for it, or end it"), _alone(folder):
            pass
        with _alone(tmp_path / "another"):
            pass

    with _alone(folder):
        pass
