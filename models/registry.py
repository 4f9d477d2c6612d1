"""A folder of releases: which there are, and whether their files are whole."""

from dataclasses import dataclass
from pathlib import Path

from models.evaluate import Metric
from models.release import MANIFEST, Manifest, ReleaseRefused, read_content


@dataclass(frozen=True, slots=True)
class Listed:
    """A release of a folder; `refused` says why its files are not whole, else it has a manifest."""

    id: str
    folder: Path
    manifest: Manifest | None
    refused: str = ""

    @property
    def auc(self) -> Metric | None:
        """The area under the ROC curve that the release had when made, if it says so."""
        if self.manifest is None:
            return None
        return self.manifest.metrics.get("calibration", {}).get("auc")


def list_releases(folder: Path) -> list[Listed]:
    """
    Give the releases of a folder, by id; digests are checked, models are not loaded.

    Raises ReleaseRefused where there is no such folder.
    """
    if not folder.is_dir():
        raise ReleaseRefused(folder, MANIFEST, "there is no such folder")
    found = []
    for entry in sorted(path.parent for path in folder.glob(f"[!.]*/{MANIFEST}")):
        try:
            content = read_content(entry)
        except ReleaseRefused as refused:
            found.append(Listed(entry.name, entry, None, f"{refused.file}: {refused.reason}"))
        else:
            found.append(Listed(content.id, entry, content.manifest))
    return found
