"""Folders of what is kept between processes, and what nobody else may have written."""

import os
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir


def own_folder(kind: str) -> Path | None:
    """
    Give the first folder for a kind of thing that is the user's alone and can be written, or None.

    What lies there is believed, and some of it run: a folder that others may write to never counts.
    """
    named, home = os.environ.get("XDG_CACHE_HOME"), os.environ.get("HOME")
    caches = named, home and f"{home}/.cache"
    places = [Path(cache) / "creditstream" / kind for cache in caches if cache]
    with suppress(FileNotFoundError):  # where no folder for temporary files can be written
        places.append(Path(gettempdir()) / f"creditstream-{kind}-{os.getuid()}")
    return next((place for place in places if place.is_absolute() and _is_ours(place)), None)


def _is_ours(place: Path) -> bool:
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = place.stat(follow_symlinks=False)
    except OSError:
        return False
    others_write = found.st_mode & 0o022
    return found.st_uid == os.getuid() and not others_write and os.access(place, os.W_OK)
