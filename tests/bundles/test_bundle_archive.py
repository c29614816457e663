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
from nnunet_cascade.bundles.manifest import listed, to_manifest
from nnunet_cascade.errors import BundleError, SettingsError

FILES = {
    "cascade.json": b"{}",
    "stage1/plans.json": b'{"a": 1}',
    "stage2/fold_0/checkpoint_final.pth": bytes(range(256)) * 40,
}
PARTS = [*"./\\\n", "..", "C:", "stage1", "stage1/fold_0/", "fold_0", "a.pth", "plans.json", "cascade.json", ""]

HOSTILE = {
    "which leaves the folder": [
        "../evil", "stage1/../../evil", "stage1/..", "/etc/evil", "//server/evil", "C:/evil", "C:evil",
        "stage1\\evil", "..\\evil", "\\\\server\\evil", "~/evil", "notes.txt:stream",
    ],
    "which no bundle has": [
        "evil.py", "stage3/plans.json", "stage1/evil.so", "stage1/fold_0/a/b", "stage1/fold_x/a.pth",
        "stage1/fold_0/.hidden", "__MACOSX/a", "stage1/fold_0/ä.pth", "CASCADE.JSON.exe", "./notes.txt",
        "stage1//plans.json",
    ],
    "which is no plain file": ["stage1/fold_0/"],
}  # fmt: skip


def manifest_of(files, **changed):
    return json.dumps({**to_manifest({name: listed(c) for name, c in files.items()}, {}), **changed}).encode()


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

    def test_the_same_files_give_the_same_bytes_in_any_order_with_sorted_names_and_the_earliest_times(self, tmp_path):
        write_archive(tmp_path / "a.zip", FILES)
        (tmp_path / "late").write_bytes(FILES["cascade.json"])
        again = {**dict(reversed(FILES.items())), "cascade.json": tmp_path / "late"}
        write_archive(tmp_path / "b.zip", again)
        assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
        with zipfile.ZipFile(tmp_path / "a.zip") as archive:
            infos = archive.infolist()
        assert [info.filename for info in infos] == sorted(FILES)
        assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
        assert {stat.S_IMODE(info.external_attr >> 16) for info in infos} == {0o644}

    def test_names_that_bundles_have(self):
        for name in ("notes.txt", "MODEL_CARD.md", "stage1/dataset.json", "stage2/fold_all/best.pth"):
            require_known_name(name)


class TestNames:
    @pytest.mark.parametrize(("reason", "name"), [(reason, name) for reason, of in HOSTILE.items() for name in of])
    def test_names_of_no_bundle_are_refused(self, zipped, extracted, reason, name):
        refused(zipped(unlisted=[(name, b"x")]), extracted, reason)

    def test_a_name_with_a_hidden_end_is_refused(self, zipped, extracted):
        path = patched(zipped(unlisted=[("stage1/plansXjson", b"x")]), b"plansXjson", b"plans\0json")
        refused(path, extracted, "which leaves the folder")

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
        refused(zipped(unlisted=[("notes.txt", b"x"), (name, b"y")]), extracted, "twice, but for case")

    @pytest.mark.parametrize(
        "kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK]
    )
    def test_links_folders_and_devices_are_refused(self, zipped, extracted, kind):
        info = zipfile.ZipInfo("notes.txt")
        info.external_attr = (kind | 0o777) << 16
        refused(zipped(unlisted=[(info, b"/etc/passwd")]), extracted, "which is no plain file")


class TestSizes:
    def test_a_length_that_the_zip_itself_lies_about_is_refused(self, zipped, extracted):
        content = bytes(range(256)) * 4096
        said = manifest_of({"cascade.json": content[:100]})
        path = zipped(files={"cascade.json": content}, manifest=said, packing=zipfile.ZIP_DEFLATED)
        lying = patched(path, struct.pack("<L", len(content)), struct.pack("<L", 100))
        refused(lying, extracted, "is not the file its manifest|read as a zip")

    @pytest.mark.parametrize("name", ["stage1/dataset.json", "notes.txt", "MODEL_CARD.md"])
    def test_a_long_text_is_refused_unread_and_a_checkpoint_is_none(self, zipped, extracted, tmp_path, name):
        told = f"{name} has 1001 bytes; expected at most 1000 of a text"
        refused(zipped(files={"cascade.json": b"{}", name: b" " * 1001}), extracted, told, text_bytes=1000)
        assert list((tmp_path / "top" / "out").iterdir()) == []
        extracted(zipped(), text_bytes=1000)

    def test_files_that_overlap_are_refused(self, tmp_path, extracted, zipped):
        content = zipped(files={"cascade.json": bytes(5000), "notes.txt": b""}).read_bytes()
        start = content.index(b"PK\x01\x02")
        entries = content[start:].split(b"PK\x01\x02")
        first, notes = entries[1:3]
        # The second entry of the directory points at the first one's data.
        entries[2] = first[:24] + notes[24:26] + first[26:38] + notes[38:]
        entries[2] = entries[2].replace(b"cascade.json", b"notes.txt")
        (tmp_path / "bundle.zip").write_bytes(content[:start] + b"PK\x01\x02".join(entries))
        refused(tmp_path / "bundle.zip", extracted, "holds files that overlap")

    def test_limits_are_positive(self):
        for limit in ("files", "bytes", "ratio", "text_bytes"):
            with pytest.raises(SettingsError, match=limit):
                ArchiveLimits(**{limit: 0})


def directory_before_the_file(content):
    end = content.index(b"PK\x05\x06") + 16
    (place,) = struct.unpack("<L", content[end : end + 4])
    return content[:end] + struct.pack("<L", place + 5000) + content[end + 4 :]


HONEST = manifest_of(FILES)
BOMB = {**FILES, "stage1/fold_0/a.pth": bytes(1 << 22)}
REFUSED = {
    "more files than the limit": ({}, "holds 4 files; expected at most 3", {"files": 3}),
    "more bytes than the limit, unread": ({}, "raise it with --max_gb", {"bytes": 1000}),
    "a bomb": ({"files": BOMB, "packing": zipfile.ZIP_DEFLATED}, r"unpacks to \d+ times its size", {}),
    "a file longer than its manifest says": (
        {"files": {**FILES, "cascade.json": b"{}" * 100}, "manifest": HONEST},
        "cascade.json has 200 bytes; its manifest",
        {},
    ),
    "a long manifest": ({"manifest": b" " * ((1 << 20) + 1)}, "longer than 1048576 bytes", {}),
    "a changed file": (
        {"files": {**FILES, "cascade.json": b"[]"}, "manifest": HONEST},
        "cascade.json is not the file its manifest",
        {},
    ),
    "a file not listed": ({"unlisted": [("notes.txt", b"x")]}, "'notes.txt' is in the zip and not in its manifest", {}),
    "a file only listed": (
        {"manifest": manifest_of({**FILES, "notes.txt": b"x"})},
        "'notes.txt' is in the manifest and not in the zip",
        {},
    ),
    "another manifest": ({"manifest": manifest_of(FILES, format="another")}, "is no manifest of a bundle", {}),
}
BROKEN = {
    "damage": lambda content: content.replace(b'{"a": 1}', b'{"a": 2}'),
    "a directory that points before the file": directory_before_the_file,
    **{f"{n} % of it": lambda content, n=n: content[: n * len(content) // 100] for n in (30, 70, 99)},
    **{repr(other[:6]): lambda _, other=other: other for other in (b"", b"PK\x03\x04", b"<html>", bytes(1000))},
}


class TestContents:
    @pytest.mark.parametrize(("options", "reason", "limits"), REFUSED.values(), ids=REFUSED)
    def test_contents_that_are_refused(self, zipped, extracted, options, reason, limits):
        refused(zipped(**options), extracted, reason, **limits)

    @pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
    def test_what_is_no_zip_is_refused(self, zipped, extracted, change):
        path = zipped()
        path.write_bytes(change(path.read_bytes()))
        refused(path, extracted, "cannot be read as a zip")

    def test_encrypted_files_are_refused(self, zipped, extracted):
        path = zipped()
        content = bytearray(path.read_bytes())
        content[content.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(content)
        refused(path, extracted, "is encrypted or packed as no bundle is")

    @pytest.mark.parametrize("place", range(0, 4000, 1000))
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

    def test_a_zip_without_manifest_is_refused(self, tmp_path, extracted):
        write_archive(tmp_path / "bundle.zip", FILES)
        refused(tmp_path / "bundle.zip", extracted, r"has no manifest\.json")

    def test_a_missing_file_is_named(self, tmp_path, extracted):
        refused(tmp_path / "none.zip", extracted, re.escape(f"{tmp_path / 'none.zip'} is no file"))
