"""NiiVue, the viewer's library: fetched once from the npm registry, checked, and kept for the next report.

No code of it is part of this package. npm and not PyPI: `ipyniivue` carries it inside a Jupyter widget, which
gives nothing but that widget away.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tarfile
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

from nnunet_cascade.errors import ReportError
from nnunet_cascade.files import atomic_file

_REGISTRY = "https://registry.npmjs.org"
_TIMEOUT_SECONDS = 30.0
_ARCHIVE_BYTES = 64 << 20
_SCRIPT_BYTES = 32 << 20
_GZIP = b"\x1f\x8b"
_LICENSE = "niivue-LICENSE.txt"
_WAY_OUT = "give its file by --niivue, or make the report without it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One file of one version of an npm package.

    Attributes:
        name: As the registry has it.
        version: The one that the viewer is written for.
        member: The file's name in the package's archive.
        archive_sha512: Of the archive, in hexadecimal digits.
        script_sha512: Of the file.
    """

    name: str
    version: str
    member: str
    archive_sha512: str
    script_sha512: str

    @property
    def archive_name(self) -> str:
        """What the registry calls the archive."""
        return f"{self.name.rsplit('/', 1)[-1]}-{self.version}.tgz"

    @property
    def script_name(self) -> str:
        """What the file is called in a report."""
        return f"{self.name.rsplit('/', 1)[-1]}-{self.version}.js"


NIIVUE = Package(
    name="@niivue/niivue",
    version="0.69.0",
    member="package/dist/niivue.umd.js",
    archive_sha512=(
        "60c8d0bc9803d56d9bec3ba8c64c250b85716eb80878f449e6ac90cd72b18b6b"
        "f6301560dbce4ffc2210ca0e3aa030c60c871a3656ddf8c86d3bf79d31b5c990"
    ),
    script_sha512=(
        "37dc9688207bcb81b39afe18628488970cecf5f6b3601941508a51c839aeb63e"
        "e38cc023405fd9bd2e634a01a71616eb6d50e6a73410739f6d914a978d11267f"
    ),
)
"""What `assets/viewer.js` calls; its checksums are those of the registry's own archive."""


def place_niivue(assets: Path, given: Path | None = None, package: Package = NIIVUE) -> str:
    """Put the viewer's library and its license into a report's assets.

    Args:
        assets: The folder; it is there.
        given: The package's archive or the script itself, for machines without a network.
        package: What is expected.

    Returns:
        The script's name in `assets`.

    Raises:
        ReportError: It cannot be had, or is not what was expected; the report can do without it.
        OSError: It cannot be written.
    """
    script = _script_of(given, package) if given is not None else _kept_script(package)
    _write(assets / package.script_name, script)
    _write(assets / _LICENSE, files("nnunet_cascade.report.viewing").joinpath(_LICENSE).read_bytes())
    return package.script_name


def cache_folder() -> Path:
    """Return the folder where files from elsewhere are kept: $NNC_CACHE, or the system's usual place for them."""
    told = os.environ.get("NNC_CACHE")
    if told:
        return Path(told)
    if sys.platform == "win32":
        place = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        place = str(Path.home() / "Library" / "Caches")
    else:
        place = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(place) / "nnunet-cascade"


def _kept_script(package: Package) -> bytes:
    """Return the script out of the cache, where a damaged one counts as none, else out of the registry."""
    with suppress(OSError, RuntimeError):  # of who has no home
        script = (cache_folder() / package.script_name).read_bytes()
        if hashlib.sha512(script).hexdigest() == package.script_sha512:
            return script
    script = _unpacked(_fetched(package), package, where="the registry's archive")
    with suppress(OSError, RuntimeError):  # a cache that cannot be written costs the next report a download
        cache_folder().mkdir(parents=True, exist_ok=True)
        _write(cache_folder() / package.script_name, script)
    return script


def _fetched(package: Package) -> bytes:
    """Download the package's archive; what came is not checked yet."""
    registry = os.environ.get("NPM_CONFIG_REGISTRY") or _REGISTRY
    host = urlsplit(registry).hostname  # the address itself may hold a password
    if urlsplit(registry).scheme not in ("https", "http") or not host:
        raise ReportError(f"NPM_CONFIG_REGISTRY is no address; expected one that begins with https://, as {_REGISTRY}")
    address = f"{registry.rstrip('/')}/{package.name}/-/{package.archive_name}"
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - checked above
            content: bytes = answer.read(_ARCHIVE_BYTES + 1)
    except (OSError, ValueError, HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ReportError(f"{package.archive_name} cannot be fetched from {host} ({reason}); {_WAY_OUT}") from error
    return content


def _script_of(given: Path, package: Package) -> bytes:
    """Return the script out of a file that is it, or the archive that holds it."""
    try:
        with given.open("rb") as file:
            content = file.read(_ARCHIVE_BYTES + 1)
    except OSError as error:
        raise ReportError(f"{given} cannot be read ({error.strerror}); {_expected(package)}") from error
    if content.startswith(_GZIP):
        return _unpacked(content, package, where=str(given))
    return _checked(content, package.script_sha512, where=str(given), package=package)


def _unpacked(archive: bytes, package: Package, *, where: str) -> bytes:
    """Take the one file out of an archive; nothing is read of one whose checksum is wrong."""
    _checked(archive, package.archive_sha512, where=where, package=package)
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
            member = opened.getmember(package.member)
            file = opened.extractfile(member) if member.isreg() and member.size <= _SCRIPT_BYTES else None
            if file is None:
                raise ReportError(f"{where}: {package.member} is no plain file of a plausible size; {_WAY_OUT}")
            script = file.read()
    except (KeyError, tarfile.TarError, OSError, EOFError) as error:
        raise ReportError(f"{where} holds no {package.member} ({error}); {_expected(package)}") from error
    return _checked(script, package.script_sha512, where=f"{where}, {package.member}", package=package)


def _checked(content: bytes, sha512: str, *, where: str, package: Package) -> bytes:
    found = hashlib.sha512(content).hexdigest()
    if found != sha512:
        raise ReportError(f"{where} has the SHA-512 {found[:12]}…, expected {sha512[:12]}…; {_expected(package)}")
    return content


def _expected(package: Package) -> str:
    return f"give {package.archive_name} as `npm pack {package.name}@{package.version}` writes it, or its script"


def _write(path: Path, content: bytes) -> None:
    with atomic_file(path) as beside:
        beside.write_bytes(content)
