"""Zips of strangers: what is no bundle does not reach the disk."""

import hashlib
import json
import re
import stat
import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cascade.bundles.archive import ArchiveLimits, extract_archive, require_known_name, write_archive
from nnunet_cascade.bundles.manifest import ListedFile, to_manifest
from nnunet_cascade.errors import BundleError, SettingsError

FILES = {
    "cascade.json": b"{}",
    "stage1/plans.json": b'{"a": 1}',
    "stage2/fold_0/checkpoint_final.pth": bytes(range(256)) * 40,
}
PARTS = [
    "..",
    "/",
    "\\",
    "C:",
    "stage1",
    "stage1/fold_0/",
    "fold_0",
    "a.pth",
    ".",
    "plans.json",
    "cascade.json",
    "\n",
    "",
]
NAMES = ["cascade.json", "notes.txt", "MODEL_CARD.md", "stage1/dataset.json", "stage2/fold_all/best.pth"]


def manifest_of(files, **changed):
    listed = {name: ListedFile(bytes=len(c), sha256=hashlib.sha256(c).hexdigest()) for name, c in files.items()}
    return json.dumps({**to_manifest(listed, {}), **changed}).encode()


@pytest.fixture
def zipped(tmp_path):
    """Write a zip of honest files, and of others that its manifest lists or not."""

    def write(*, unlisted=(), manifest=None, files=FILES, packing=zipfile.ZIP_STORED):
        path = tmp_path / "bundle.zip"
        with zipfile.ZipFile(path, "w", packing) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
            archive.writestr("manifest.json", manifest_of(files) if manifest is None else manifest)
            for info, content in unlisted:
                archive.writestr(info, content)
        return path

    return write


@pytest.fixture
def extracted(tmp_path):
    """Unpack a zip into a folder two levels down; gives what lies anywhere below the top."""
    (tmp_path / "top" / "out").mkdir(parents=True)

    def extract(path, **limits):
        extract_archive(path, tmp_path / "top" / "out", ArchiveLimits(**limits))

    return extract


def refused(path, extracted, told, **limits):
    """A zip is refused in one line, and nothing lies where it should not."""
    outside = {each for each in path.parent.rglob("*") if "out" not in each.parts}
    with pytest.raises(BundleError, match=told) as caught:
        extracted(path, **limits)
    assert "\n" not in str(caught.value)
    assert {each for each in path.parent.rglob("*") if "out" not in each.parts} == outside


def patched(path, old, new):
    """Change bytes of a zip, as often as they occur."""
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


class TestHonest:
    @pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_what_was_packed_comes_out(self, zipped, extracted, tmp_path, packing):
        extracted(zipped(packing=packing))
        for name, content in FILES.items():
            assert (tmp_path / "top" / "out" / name).read_bytes() == content

    def test_the_same_files_give_the_same_bytes_in_any_order(self, tmp_path):
        write_archive(tmp_path / "a.zip", FILES)
        (tmp_path / "late").write_bytes(FILES["cascade.json"])
        again = {**dict(reversed(FILES.items())), "cascade.json": tmp_path / "late"}
        write_archive(tmp_path / "b.zip", again)
        assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()

    def test_names_are_sorted_and_times_are_the_earliest(self, tmp_path):
        write_archive(tmp_path / "a.zip", dict(reversed(FILES.items())))
        with zipfile.ZipFile(tmp_path / "a.zip") as archive:
            infos = archive.infolist()
        assert [info.filename for info in infos] == sorted(FILES)
        assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
        assert {stat.S_IMODE(info.external_attr >> 16) for info in infos} == {0o644}

    @pytest.mark.parametrize("name", NAMES)
    def test_names_that_bundles_have(self, name):
        require_known_name(name)


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            "../evil", "stage1/../../evil", "stage1/..", "/etc/evil", "//server/evil", "C:/evil", "C:evil",
            "stage1\\evil", "..\\evil", "\\\\server\\evil", "~/evil", "notes.txt:stream",
        ],
    )  # fmt: skip
    def test_a_name_that_leaves_the_folder_is_refused(self, zipped, extracted, name):
        refused(zipped(unlisted=[(name, b"x")]), extracted, "which leaves the folder")

    def test_a_name_with_a_hidden_end_is_refused(self, zipped, extracted):
        path = patched(zipped(unlisted=[("stage1/plansXjson", b"x")]), b"plansXjson", b"plans\0json")
        refused(path, extracted, "which leaves the folder")

    @pytest.mark.parametrize(
        "name",
        [
            "evil.py", "stage3/plans.json", "stage1/evil.so", "stage1/fold_0/a/b", "stage1/fold_x/a.pth",
            "stage1/fold_0/.hidden", "__MACOSX/a", "stage1/fold_0/ä.pth", "CASCADE.JSON.exe", "./notes.txt",
            "stage1//plans.json",
        ],
    )  # fmt: skip
    def test_a_name_that_no_bundle_has_is_refused(self, zipped, extracted, name):
        refused(zipped(unlisted=[(name, b"x")]), extracted, "which no bundle has")

    @given(st.lists(st.sampled_from(PARTS), max_size=5).map("".join))
    def test_no_name_that_is_known_leads_elsewhere(self, tmp_path_factory, name):
        try:
            require_known_name(name)
        except BundleError:
            return
        root = tmp_path_factory.getbasetemp().resolve()
        assert (root / name).resolve().is_relative_to(root)

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    @pytest.mark.parametrize("name", ["notes.txt", "stage2/fold_0/CHECKPOINT_final.pth"])
    def test_the_same_name_twice_but_for_case_is_refused(self, zipped, extracted, name):
        twice = [("notes.txt", b"x"), (name, b"y")]
        refused(zipped(unlisted=twice), extracted, "twice, but for case")

    @pytest.mark.parametrize(
        "kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK]
    )
    def test_links_folders_and_devices_are_refused(self, zipped, extracted, kind):
        info = zipfile.ZipInfo("notes.txt")
        info.external_attr = (kind | 0o777) << 16
        refused(zipped(unlisted=[(info, b"/etc/passwd")]), extracted, "which is no plain file")

    def test_an_entry_of_a_folder_is_refused(self, zipped, extracted):
        refused(zipped(unlisted=[("stage1/fold_0/", b"")]), extracted, "which is no plain file")


class TestSizes:
    def test_more_files_than_the_limit_are_refused(self, zipped, extracted):
        refused(zipped(), extracted, "holds 4 files; expected at most 3", files=3)

    def test_more_bytes_than_the_limit_are_refused_unread(self, zipped, extracted):
        refused(zipped(), extracted, "raise it with --max_gb", bytes=1000)

    def test_a_file_that_unpacks_to_many_times_its_size_is_refused(self, zipped, extracted):
        bomb = {**FILES, "stage1/fold_0/a.pth": bytes(1 << 22)}
        refused(zipped(files=bomb, packing=zipfile.ZIP_DEFLATED), extracted, r"unpacks to \d+ times its size")

    def test_a_file_longer_than_its_manifest_says_is_refused(self, zipped, extracted):
        longer = {**FILES, "cascade.json": b"{}" * 100}
        refused(
            zipped(files=longer, manifest=manifest_of(FILES)), extracted, "cascade.json has 200 bytes; its manifest"
        )

    def test_a_length_that_the_zip_itself_lies_about_is_refused(self, zipped, extracted):
        content = bytes(range(256)) * 4096
        files = {"cascade.json": content}
        said = {"cascade.json": content[:100]}
        path = zipped(files=files, manifest=manifest_of(said), packing=zipfile.ZIP_DEFLATED)
        refused(
            patched(path, struct.pack("<L", len(content)), struct.pack("<L", 100)),
            extracted,
            "is not the file its manifest|read as a zip",
        )

    @pytest.mark.parametrize("name", ["stage1/dataset.json", "notes.txt", "MODEL_CARD.md"])
    def test_a_long_text_is_refused_unread(self, zipped, extracted, tmp_path, name):
        told = f"{name} has 1001 bytes; expected at most 1000 of a text"
        refused(zipped(files={"cascade.json": b"{}", name: b" " * 1001}), extracted, told, text_bytes=1000)
        assert list((tmp_path / "top" / "out").iterdir()) == []

    def test_a_long_checkpoint_is_none(self, zipped, extracted):
        extracted(zipped(), text_bytes=1000)

    def test_files_that_overlap_are_refused(self, tmp_path, extracted, zipped):
        path = zipped(files={"cascade.json": bytes(5000), "notes.txt": b""})
        content = path.read_bytes()
        start = content.index(b"PK\x01\x02")
        entries = content[start:].split(b"PK\x01\x02")
        notes = entries[2]
        first = entries[1]
        # The second entry of the directory points at the first one's data.
        entries[2] = first[:24] + notes[24:26] + first[26:38] + notes[38:]
        entries[2] = entries[2].replace(b"cascade.json", b"notes.txt")
        (tmp_path / "bundle.zip").write_bytes(content[:start] + b"PK\x01\x02".join(entries))
        refused(tmp_path / "bundle.zip", extracted, "holds files that overlap")

    def test_a_long_manifest_is_refused(self, zipped, extracted):
        refused(zipped(manifest=b" " * ((1 << 20) + 1)), extracted, "longer than 1048576 bytes")

    @pytest.mark.parametrize("limit", ["files", "bytes", "ratio", "text_bytes"])
    def test_limits_are_positive(self, limit):
        with pytest.raises(SettingsError, match=limit):
            ArchiveLimits(**{limit: 0})


class TestContents:
    def test_a_changed_file_is_refused(self, zipped, extracted):
        changed = {**FILES, "cascade.json": b"[]"}
        refused(
            zipped(files=changed, manifest=manifest_of(FILES)), extracted, "cascade.json is not the file its manifest"
        )

    def test_damage_is_refused(self, zipped, extracted):
        refused(patched(zipped(), b'{"a": 1}', b'{"a": 2}'), extracted, "cannot be read as a zip")

    @pytest.mark.parametrize("place", range(0, 4000, 400))
    def test_so_is_damage_of_what_is_deflated(self, zipped, extracted, place):
        content = hashlib.sha512().digest() * 40 + bytes(range(256)) * 20
        path = zipped(
            files={"cascade.json": bytes(x ^ (n % 251) for n, x in enumerate(content))}, packing=zipfile.ZIP_DEFLATED
        )
        damaged = bytearray(path.read_bytes())
        start = 30 + len("cascade.json") + place
        assert start + 20 < damaged.index(b"PK\x01\x02")
        damaged[start : start + 20] = b"\xff" * 20
        path.write_bytes(damaged)
        refused(path, extracted, "cannot be read as a zip|is not the file its manifest lists")

    def test_a_file_that_the_manifest_does_not_list_is_refused(self, zipped, extracted):
        refused(zipped(unlisted=[("notes.txt", b"x")]), extracted, "'notes.txt' is in the zip and not in its manifest")

    def test_a_file_that_only_the_manifest_lists_is_refused(self, zipped, extracted):
        more = manifest_of({**FILES, "notes.txt": b"x"})
        refused(zipped(manifest=more), extracted, "'notes.txt' is in the manifest and not in the zip")

    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            ({"format_version": 2}, "format version 2; this release reads version 1; install the release"),
            ({"format": "another"}, "is no manifest of a bundle"),
        ],
    )
    def test_an_unknown_format_or_version_is_refused(self, zipped, extracted, changed, told):
        refused(zipped(manifest=manifest_of(FILES, **changed)), extracted, told)

    def test_a_zip_without_manifest_is_refused(self, tmp_path, extracted):
        write_archive(tmp_path / "bundle.zip", FILES)
        refused(tmp_path / "bundle.zip", extracted, r"has no manifest\.json")

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"<html>", bytes(1000)])
    def test_what_is_no_zip_is_refused(self, tmp_path, extracted, content):
        (tmp_path / "bundle.zip").write_bytes(content)
        refused(tmp_path / "bundle.zip", extracted, "cannot be read as a zip")

    @pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
    def test_half_a_download_is_refused(self, zipped, extracted, share):
        path = zipped()
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        refused(path, extracted, "cannot be read as a zip")

    def test_a_directory_that_points_before_the_file_is_refused(self, zipped, extracted):
        path = zipped()
        content = bytearray(path.read_bytes())
        end = content.index(b"PK\x05\x06")
        content[end + 16 : end + 20] = struct.pack("<L", struct.unpack("<L", content[end + 16 : end + 20])[0] + 5000)
        path.write_bytes(content)
        refused(path, extracted, "cannot be read as a zip")

    def test_a_missing_file_is_named(self, tmp_path, extracted):
        refused(tmp_path / "none.zip", extracted, re.escape(f"{tmp_path / 'none.zip'} is no file"))

    def test_encrypted_files_are_refused(self, zipped, extracted):
        path = zipped()
        content = bytearray(path.read_bytes())
        content[content.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(content)
        refused(path, extracted, "is encrypted or packed as no bundle is")
