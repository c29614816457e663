"""The viewer's library comes from the npm registry, is what was expected, and is fetched once."""

import hashlib
import io
import tarfile
import urllib.error
import urllib.request

import pytest

from nnunet_cascade.errors import ReportError
from nnunet_cascade.report.viewing import niivue
from nnunet_cascade.report.viewing.niivue import NIIVUE, Package, cache_folder, place_niivue

SCRIPT = b"globalThis.niivue = {};"
MEMBER = "package/dist/tiny.js"


def archive(*members):
    """An archive as npm packs it: pairs of a name and its content, or the name of what it links to."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname, content = tarfile.SYMTYPE, content, b""  # noqa: PLW2901 - a link is empty
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def package_of(content):
    archive_sha512, script_sha512 = (hashlib.sha512(each).hexdigest() for each in (content, SCRIPT))
    sums = {"archive_sha512": archive_sha512, "script_sha512": script_sha512}
    return Package(name="@tiny/tiny", version="1.2.3", member=MEMBER, **sums)


ARCHIVE = archive(("package/../../evil.js", b"evil"), (MEMBER, SCRIPT), ("/etc/evil", b"evil"))
TINY = package_of(ARCHIVE)


@pytest.fixture
def assets(tmp_path, monkeypatch):
    monkeypatch.setenv("NNC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NPM_CONFIG_REGISTRY", raising=False)
    (tmp_path / "assets").mkdir()
    return tmp_path / "assets"


@pytest.fixture
def registry(monkeypatch):
    """A registry that answers with what is put into it, and notes what it was asked."""
    asked, answers = [], {"": ARCHIVE}

    def answered(address, *, timeout):
        asked.append((address, timeout > 0))
        if isinstance(answers[""], Exception):
            raise answers[""]
        return io.BytesIO(answers[""])

    monkeypatch.setattr(urllib.request, "urlopen", answered)
    return asked, answers


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_it_is_fetched_once_and_then_kept(assets, registry, tmp_path):
    asked, answers = registry
    assert place_niivue(assets, package=TINY) == "tiny-1.2.3.js"
    answers[""] = urllib.error.URLError("no network")
    assert place_niivue(assets, package=TINY) == "tiny-1.2.3.js"
    assert asked == [("https://registry.npmjs.org/@tiny/tiny/-/tiny-1.2.3.tgz", True)]
    assert (assets / "tiny-1.2.3.js").read_bytes() == SCRIPT
    assert names(tmp_path) == ["assets/niivue-LICENSE.txt", "assets/tiny-1.2.3.js", "cache/tiny-1.2.3.js"]
    assert "BSD 2-Clause License\n\nCopyright (c) 2021, Niivue" in (assets / "niivue-LICENSE.txt").read_text()


def test_the_registry_is_the_one_that_npm_uses_unless_it_is_no_address_of_the_web(assets, registry, monkeypatch):
    for address in ("file:///etc", "ftp://x.example", "registry.example", "https://"):
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", address)
        with pytest.raises(ReportError, match="NPM_CONFIG_REGISTRY is no address"):
            place_niivue(assets, package=TINY)
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://mirror.example/npm/")
    place_niivue(assets, package=TINY)
    assert registry[0] == [("https://mirror.example/npm/@tiny/tiny/-/tiny-1.2.3.tgz", True)]


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("no network"), TimeoutError("timed out"), ValueError("odd"), ConnectionResetError()]
)
def test_without_a_network_one_line_says_what_to_do_and_no_password(assets, registry, monkeypatch, error):
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://me:PASSWORD@mirror.example/")
    registry[1][""] = error
    cannot = r"tiny-1\.2\.3\.tgz cannot be fetched from mirror\.example .*--niivue"
    with pytest.raises(ReportError, match=cannot) as told:
        place_niivue(assets, package=TINY)
    assert "PASSWORD" not in str(told.value)
    assert "\n" not in str(told.value)
    assert names(assets) == []


def test_an_archive_that_was_changed_is_refused_before_it_is_read(assets, registry, tmp_path, monkeypatch):
    registry[1][""] = archive((MEMBER, SCRIPT + b"evil()"))
    monkeypatch.setattr(tarfile, "open", lambda **_: pytest.fail("it was read"))
    with pytest.raises(ReportError, match="SHA-512"):
        place_niivue(assets, package=TINY)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [
        archive(("package/other.js", SCRIPT)),
        archive((f"./{MEMBER}", SCRIPT)),
        archive((MEMBER, "/etc/passwd")),
        archive((MEMBER, b"another script")),
        b"\x1f\x8bno archive",
    ],
)
def test_an_archive_without_the_expected_file_is_refused(assets, registry, content):
    registry[1][""] = content
    with pytest.raises(ReportError):
        place_niivue(assets, package=package_of(content))
    assert names(assets) == []


@pytest.mark.usefixtures("registry")
def test_a_damaged_cache_is_fetched_again_and_one_that_cannot_be_written_costs_the_download(
    assets, monkeypatch, tmp_path
):
    kept = tmp_path / "cache" / "tiny-1.2.3.js"
    kept.parent.mkdir()
    kept.write_bytes(b"damaged")
    place_niivue(assets, package=TINY)
    assert (assets / "tiny-1.2.3.js").read_bytes() == kept.read_bytes() == SCRIPT
    monkeypatch.setenv("NNC_CACHE", str(kept))
    assert place_niivue(assets, package=TINY) == "tiny-1.2.3.js"


@pytest.mark.parametrize("content", [ARCHIVE, SCRIPT])
def test_a_file_that_is_given_needs_no_network(assets, registry, tmp_path, content):
    registry[1][""] = urllib.error.URLError("no network")
    given = tmp_path / "given"
    given.write_bytes(content)
    assert place_niivue(assets, given, TINY) == "tiny-1.2.3.js"
    assert (assets / "tiny-1.2.3.js").read_bytes() == SCRIPT


@pytest.mark.parametrize("content", [b"another version", archive(("package/dist/tiny.js", b"other")), b"", None])
def test_a_given_file_that_is_not_the_expected_one_is_refused(assets, tmp_path, content):
    given = tmp_path / "given.js"
    if content is not None:
        given.write_bytes(content)
    with pytest.raises(ReportError, match=r"given\.js .*npm pack @tiny/tiny@1\.2\.3"):
        place_niivue(assets, given, TINY)
    assert names(assets) == []


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"NNC_CACHE": "/told", "XDG_CACHE_HOME": "/xdg"}, "/told"),
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/nnunet-cascade"),
        ("linux", {"HOME": "/home/me"}, "/home/me/.cache/nnunet-cascade"),
        ("darwin", {"HOME": "/Users/me"}, "/Users/me/Library/Caches/nnunet-cascade"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/nnunet-cascade"),
    ],
)
def test_files_are_kept_where_the_system_keeps_such_files(monkeypatch, platform, variables, expected):
    for name in ("NNC_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(niivue.sys, "platform", platform)
    assert cache_folder().as_posix() == expected


def test_the_registrys_own_archive_is_the_expected_one(assets):
    """The one test that asks the registry."""
    try:
        with urllib.request.urlopen("https://registry.npmjs.org/-/ping", timeout=10):
            pass
    except OSError as error:
        pytest.skip(f"the npm registry cannot be reached: {error}")
    name = place_niivue(assets)
    assert name == f"niivue-{NIIVUE.version}.js"
    assert b"Niivue" in (assets / name).read_bytes()
