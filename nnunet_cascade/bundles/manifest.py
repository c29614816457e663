"""The manifest of a bundle: which files it has, how long they are, and their checksums."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_cascade.errors import BundleError, one_line
from nnunet_cascade.files import sha256_of, write_json
from nnunet_cascade.settings.serialization import require

MANIFEST_NAME = "manifest.json"
FORMAT = "nnunet-cascade bundle"
FORMAT_VERSION = 1
STAGES = ("stage1/", "stage2/")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """What a manifest says of a file.

    Attributes:
        bytes: Its length.
        sha256: Its checksum, 64 hexadecimal digits in lower case.

    Raises:
        SettingsError: One of them cannot be that.
    """

    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        require(type(self.bytes) is int and self.bytes >= 0, f"bytes must be a whole number; found {self.bytes!r}")
        known = isinstance(self.sha256, str) and _SHA256.fullmatch(self.sha256)  # pyright: ignore[reportUnnecessaryIsInstance] - JSON may hold a number
        require(bool(known), f"sha256 must be 64 hexadecimal digits; found {self.sha256!r}")


def file_checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of files by their names below a folder, such as `stage1/plans.json`.

    Raises:
        OSError: A file is missing or cannot be read.
    """
    return {name: sha256_of(folder / name) for name in names}


def listed(content: Path | bytes) -> ListedFile:
    """Return what a manifest says of a file, or of what will be one.

    Raises:
        OSError: The file is missing or cannot be read.
    """
    if isinstance(content, bytes):
        return ListedFile(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    return ListedFile(bytes=content.stat().st_size, sha256=sha256_of(content))


def to_manifest(files: Mapping[str, ListedFile], further: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of a manifest: format, what else is known, and all files by name."""
    by_name = {name: asdict(files[name]) for name in sorted(files)}
    return {"format": FORMAT, "format_version": FORMAT_VERSION, **further, "files": by_name}


def write_manifest(folder: Path, further: Mapping[str, Any]) -> None:
    """Write the manifest of all files below a folder into it.

    Raises:
        OSError: A file cannot be read, or the manifest not written.
    """
    paths = [path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST_NAME]
    files = {path.relative_to(folder).as_posix(): listed(path) for path in paths}
    write_json(folder / MANIFEST_NAME, to_manifest(files, further))


def parsed_manifest(text: str | bytes, *, where: str) -> dict[str, ListedFile]:
    """Read which files a manifest lists.

    Args:
        text: The manifest.
        where: Names it in error messages.

    Raises:
        BundleError: It is none, of another version, or broken.
    """
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where} is not JSON ({one_line(error, longest=100)}); get the bundle again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BundleError(f"{where} is no manifest of a bundle; expected one that nnc-export-bundle wrote")
    if content.get("format_version") != FORMAT_VERSION:
        raise BundleError(
            f"{where}: format version {content.get('format_version')!r}; this release reads version {FORMAT_VERSION}; "
            "install the release that made the bundle"
        )
    files: Any = content.get("files")
    try:
        return {name: ListedFile(**values) for name, values in files.items()}
    except (AttributeError, TypeError, ValueError) as error:
        reason = one_line(error, longest=150)
        raise BundleError(f"{where} lists files as none does ({reason}); get the bundle again") from error


def require_unchanged(folder: Path, checksums: Mapping[str, str] | None = None) -> None:
    """Raise if a file of a bundle's models is not what the bundle's manifest says.

    The settings, `cascade.json`, may change: `nnc-calibrate` does, and every result repeats
    them. A bundle without a manifest is of an earlier release, or made by hand: nothing is asked of it.

    Args:
        folder: Of the bundle.
        checksums: SHA-256 by name, as `file_checksums` gives it, of the files that will be used; None
            reads all that the manifest lists of the models.

    Raises:
        BundleError: A file was changed, removed or added.
        OSError: A file cannot be read.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return
    manifest = parsed_manifest(path.read_bytes(), where=str(path))
    files = {name: file for name, file in manifest.items() if name.startswith(STAGES)}
    if checksums is None:
        for name in files:
            if not (folder / name).is_file():
                raise BundleError(f"{folder / name} is missing; install or make the bundle again")
        checksums = file_checksums(folder, files)
    for name, checksum in checksums.items():
        if name.startswith(STAGES) and (name not in files or files[name].sha256 != checksum):
            what = "was changed after the bundle was made" if name in files else f"is not in its {MANIFEST_NAME}"
            raise BundleError(
                f"{folder / name} {what}; expected the file that was packed; install or make the bundle again"
            )
