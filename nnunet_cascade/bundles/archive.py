"""Bundles as zip files: written the same way every time, and read as what a stranger sent."""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
import stat
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

from nnunet_cascade.bundles.manifest import MANIFEST_NAME, ListedFile, parsed_manifest
from nnunet_cascade.errors import BundleError, CascadeError, one_line
from nnunet_cascade.settings.serialization import require

Content = Path | bytes
"""What goes into an archive: a file, or bytes."""

CARD_NAME = "MODEL_CARD.md"
_PART = r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}"
_KNOWN = re.compile(
    rf"cascade\.json|notes\.txt|provenance\.json|calibration\.json|{re.escape(CARD_NAME)}|{re.escape(MANIFEST_NAME)}"
    rf"|stage[12]/(plans\.json|dataset\.json|fold_([0-9]{{1,4}}|all)/{_PART})"
)
_WHEN = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can name: the same files give the same bytes
_UNIX, _DOS_FOLDER = 3, 0x10
_BLOCK_BYTES = 1 << 20
_MANIFEST_BYTES = 1 << 20
_SMALL_BYTES = 1 << 20
_TEXTS = (".json", ".txt", ".md")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLimits:
    """How much an archive may unpack to, whatever its manifest says.

    Attributes:
        files: Number of files.
        bytes: Of all files together.
        ratio: Of a file's length to what it takes in the archive; files up to 1 MiB are not asked.
        text_bytes: Of a single text; read as JSON it may take some seventy times as much memory.

    Raises:
        SettingsError: A limit is not positive.
    """

    files: int = 1000
    bytes: int = 50 << 30
    ratio: float = 50.0
    text_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        for name in ("files", "bytes", "ratio", "text_bytes"):
            require(getattr(self, name) > 0, f"{name} must be positive; found {getattr(self, name)}")


def require_known_name(name: str) -> None:
    """Raise a BundleError where no bundle has a file of this name; a known one leaves no folder."""
    if not _KNOWN.fullmatch(name):
        raise BundleError(
            f"{_shown(name)} is no file of a bundle; expected cascade.json, stage1/plans.json and the like"
        )


def is_text(name: str) -> bool:
    """Tell by its name whether a file of a bundle is a text; all others are checkpoints."""
    return name.endswith(_TEXTS)


def write_archive(path: Path, contents: Mapping[str, Content]) -> None:
    """Write files into a zip: sorted, uncompressed, without times, so that the same files give the same bytes.

    Raises:
        BundleError: A name is none that a bundle has.
        OSError: A file cannot be read, or the archive not written.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            require_known_name(name)
            content = contents[name]
            info = zipfile.ZipInfo(name, _WHEN)
            info.create_system, info.external_attr = _UNIX, (stat.S_IFREG | 0o644) << 16
            info.file_size = content.stat().st_size if isinstance(content, Path) else len(content)
            with archive.open(info, "w") as target, _readable(content) as source:
                shutil.copyfileobj(source, target, _BLOCK_BYTES)


def extract_archive(path: Path, folder: Path, limits: ArchiveLimits) -> None:
    """Check an archive and unpack it; what its manifest does not say is refused before or while it is read.

    Args:
        path: Of the archive.
        folder: Where to; it is there and empty. After an error it holds a part.
        limits: How much it may unpack to.

    Raises:
        BundleError: It is not an archive of a bundle, of another version, or not what its manifest says.
        OSError: It cannot be read, or the folder not written.
    """
    with _opened(path) as archive:
        members = _checked(archive, path, limits)
        with archive.open(members.pop(MANIFEST_NAME)) as source:
            manifest = source.read(_MANIFEST_BYTES + 1)
        if len(manifest) > _MANIFEST_BYTES:
            raise BundleError(f"{path}: {MANIFEST_NAME} is longer than {_MANIFEST_BYTES} bytes; it is refused")
        listed = parsed_manifest(manifest, where=f"{path}, {MANIFEST_NAME}")
        _require_the_same_files(path, members, listed)
        for name, member in members.items():
            _extract(archive, member, folder / name, listed[name])
        (folder / MANIFEST_NAME).write_bytes(manifest)


@contextmanager
def _opened(path: Path):  # noqa: ANN202 - a generator of an open archive
    """Open an archive; whatever Python's zipfile stumbles over is the archive's fault."""
    if not path.is_file():
        raise BundleError(f"{path} is no file; expected a zip that nnc-export-bundle wrote")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except CascadeError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which a place outside of the file gives
            raise
        reason = one_line(error, longest=150)
        raise BundleError(f"{path} cannot be read as a zip ({reason}); get the bundle again") from error


def _checked(archive: zipfile.ZipFile, path: Path, limits: ArchiveLimits) -> dict[str, zipfile.ZipInfo]:
    """Return the members by name, after everything that can be known without unpacking."""
    infos = archive.infolist()
    if len(infos) > limits.files:
        raise BundleError(f"{path} holds {len(infos)} files; expected at most {limits.files}; it is no bundle")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        _require_harmless(info, path, limits)
        if info.orig_filename.casefold() in members:
            raise BundleError(f"{path} holds {_shown(info.orig_filename)} twice, but for case; get the bundle again")
        members[info.orig_filename.casefold()] = info
    total, packed = sum(info.file_size for info in infos), sum(info.compress_size for info in infos)
    if total > limits.bytes:
        raise BundleError(
            f"{path} unpacks to {_gigabytes(total)}; the limit is {_gigabytes(limits.bytes)}; raise it with --max_gb"
        )
    if packed > path.stat().st_size:
        raise BundleError(f"{path} holds files that overlap; no honest zip does; it is refused")
    if MANIFEST_NAME not in members:
        raise BundleError(f"{path} has no {MANIFEST_NAME}; expected a zip that nnc-export-bundle wrote")
    return {info.orig_filename: info for info in members.values()}


def _require_harmless(info: zipfile.ZipInfo, path: Path, limits: ArchiveLimits) -> None:
    """Raise if a member's name, kind or size is none that a bundle's file has."""
    name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
    if _leaves(name):
        raise BundleError(f"{path} holds {_shown(name)}, which leaves the folder; it is refused")
    if kind not in {0, stat.S_IFREG} or info.is_dir() or info.external_attr & _DOS_FOLDER:
        raise BundleError(f"{path} holds {_shown(name)}, which is no plain file; expected files alone; it is refused")
    if not _KNOWN.fullmatch(name):
        raise BundleError(f"{path} holds {_shown(name)}, which no bundle has; expected a zip of nnc-export-bundle")
    if info.flag_bits & 1 or info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise BundleError(f"{path}: {name} is encrypted or packed as no bundle is; get the bundle again")
    if is_text(name) and info.file_size > limits.text_bytes:
        raise BundleError(
            f"{path}: {name} has {info.file_size} bytes; expected at most {limits.text_bytes} of a text; it is refused"
        )
    if info.file_size > max(_SMALL_BYTES, limits.ratio * info.compress_size):
        raise BundleError(
            f"{path}: {name} unpacks to {info.file_size / max(info.compress_size, 1):.0f} times its size; "
            f"expected at most {limits.ratio:g} times; it is refused"
        )


def _leaves(name: str) -> bool:
    """Return whether a name leads out of a folder, on any system."""
    parts = re.split(r"[/\\]", name)
    return name.startswith(("/", "\\", "~")) or ":" in name or ".." in parts or "\\" in name or "\0" in name


def _require_the_same_files(path: Path, members: Iterable[str], listed: Mapping[str, ListedFile]) -> None:
    for name in sorted(set(members) ^ set(listed)):
        missing = (
            "is in the zip and not in its manifest" if name in members else "is in the manifest and not in the zip"
        )
        raise BundleError(f"{path}: {_shown(name)} {missing}; get the bundle again")


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, listed: ListedFile) -> None:
    """Unpack a file, counting while it is read: neither the zip's nor the manifest's word is taken for its length."""
    name = member.orig_filename
    if member.file_size != listed.bytes:
        raise BundleError(
            f"{name} has {member.file_size} bytes; its manifest says {listed.bytes}; get the bundle again"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, count = hashlib.sha256(), 0
    with archive.open(member) as source, target.open("xb") as file:
        while block := source.read(_BLOCK_BYTES):
            count += len(block)
            if count > listed.bytes:
                raise BundleError(f"{name} is longer than the {listed.bytes} bytes its manifest says; it is refused")
            digest.update(block)
            file.write(block)
    if count != listed.bytes or digest.hexdigest() != listed.sha256:
        raise BundleError(f"{name} is not the file its manifest lists: its checksum is another; get the bundle again")


def _readable(content: Content) -> IO[bytes]:
    return BytesIO(content) if isinstance(content, bytes) else content.open("rb")


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:77]}…")


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
