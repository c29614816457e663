"""Files appear whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from nnunet_cascade import files
from nnunet_cascade.files import atomic_file, flush_folder, sweep_unfinished, write_json, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"new": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as beside:  # noqa: PT012 - two statements
        beside.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == '{\n "old": 1\n}\n'
    assert names(tmp_path) == ["a.json"]
    write_text(path, "x\r\ny\n")
    assert path.read_bytes() == b"x\r\ny\n"  # line ends are kept


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(files.os, "fsync", lambda handle: (steps.append("flushed"), fsync(handle)))
    monkeypatch.setattr(Path, "replace", lambda self, target: (steps.append("named"), replace(self, target)))
    write_text(tmp_path / "a", "text")
    assert steps == ["flushed", "named"]


def test_a_flush_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    def full(_handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_text(tmp_path / "a", "old")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_only_unfinished_files_of_our_own_are_swept(tmp_path):
    for name in (".77.a.json", ".78.b.json", "a.json", ".run.lock", ".77a.a.json", ".hidden"):
        (tmp_path / name).touch()
    assert sweep_unfinished(tmp_path, lambda name: name == "a.json") == ["a.json"]
    assert names(tmp_path) == [".77a.a.json", ".78.b.json", ".hidden", ".run.lock", "a.json"]
    assert sweep_unfinished(tmp_path / "nowhere", lambda _name: True) == []


def test_an_unfinished_file_of_another_user_is_passed_over(tmp_path, monkeypatch):
    for name in (".77.a", ".78.a"):
        (tmp_path / name).touch()
    unlink = Path.unlink

    def refuse(self, *, missing_ok):
        if self.name == ".77.a":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    assert sweep_unfinished(tmp_path, lambda _name: True) == ["a"]
    assert names(tmp_path) == [".77.a"]


def test_a_folder_is_flushed_where_the_system_can(tmp_path):
    flush_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        flush_folder(tmp_path / "nowhere")
