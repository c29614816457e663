"""Folders that appear whole or not at all."""

from pathlib import Path

import pytest

from nnunet_cascade.atomic_folder import atomic_folder, scratch_folder
from nnunet_cascade.errors import BundleError, SettingsError

LEFT = ".123.0123abcd.made"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def make(target, text, **how):
    with atomic_folder(target, **how) as folder:
        assert folder.parent == target.parent
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text(text)


def fail(target, **how):
    with pytest.raises(KeyError), atomic_folder(target, **how) as folder:  # noqa: PT012 - two statements
        (folder / "file").write_text("half")
        raise KeyError


@pytest.mark.parametrize("replace", [True, False])
def test_an_error_leaves_nothing(tmp_path, replace):
    fail(tmp_path / "made", replace=replace)
    assert names(tmp_path) == []


def test_a_folder_is_replaced_whole_and_stays_after_an_error(tmp_path):
    make(tmp_path / "made", "old")
    fail(tmp_path / "made", replace=True)
    assert (tmp_path / "made/inner/file").read_text() == "old"
    make(tmp_path / "made", "new", replace=True)
    assert (tmp_path / "made/inner/file").read_text() == "new"
    assert names(tmp_path) == ["made"]


def test_a_folder_that_cannot_be_moved_into_place_leaves_the_old_one(tmp_path, monkeypatch):
    make(tmp_path / "made", "old")
    rename = Path.rename

    def refuse(self, target):
        if not self.name.endswith(".old") and Path(target).name == "made":
            raise OSError("in use")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="in use"):
        make(tmp_path / "made", "new", replace=True)
    assert (tmp_path / "made/inner/file").read_text() == "old"
    assert names(tmp_path) == ["made"]


@pytest.mark.parametrize("error", [SettingsError, BundleError])
@pytest.mark.parametrize("late", [True, False])
def test_a_name_that_is_taken_is_refused_also_at_the_end(tmp_path, error, late):
    if not late:
        (tmp_path / "made").write_text("somebody's")
    with pytest.raises(error, match="is there already"), atomic_folder(tmp_path / "made", error=error):
        (tmp_path / "made").write_text("somebody's")
    assert (tmp_path / "made").read_text() == "somebody's"
    assert names(tmp_path) == ["made"]


@pytest.mark.parametrize("alone", [True, False])
def test_what_killed_processes_left_is_removed_by_who_is_alone(tmp_path, alone):
    for name in (LEFT, f"{LEFT}_other", ".made", ".123.made"):
        (tmp_path / name).mkdir()
    with scratch_folder(tmp_path / "made", alone=alone):
        pass
    kept = {f"{LEFT}_other", ".made", ".123.made"}
    assert set(names(tmp_path)) == (kept if alone else {*kept, LEFT})
