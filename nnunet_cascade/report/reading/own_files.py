"""Files of a folder by names that nobody has checked."""

from __future__ import annotations

from pathlib import Path


def is_own_file(folder: Path, name: str) -> bool:
    """Tell whether a plain name is that of a file of a folder; one that leads elsewhere, or no system takes, is not."""
    if Path(name).name != name or "\0" in name:
        return False
    try:
        return (folder / name).is_file()
    except (OSError, ValueError):  # a name that is too long, or no text
        return False
