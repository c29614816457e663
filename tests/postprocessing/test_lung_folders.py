"""Lung sources that are refused, and masks that are read from files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnunet_cascade.errors import GridMismatchError, LungMaskError, SettingsError
from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import Volume, write_image
from nnunet_cascade.postprocessing.lungs.result import LungMask
from nnunet_cascade.postprocessing.lungs.source import LungSource, find_lungs

GRID = Grid(shape=(4, 5, 6), spacing_mm=(50.0, 50.0, 50.0))
CT = Volume(np.zeros(GRID.shape, dtype=np.float32), GRID)
LOBES = ("upper_lobe_left", "lower_lobe_left", "upper_lobe_right", "middle_lobe_right", "lower_lobe_right")


def row(*values):
    """A label map that begins with some values."""
    labels = np.zeros(GRID.shape, dtype=np.int16)
    labels.ravel()[: len(values)] = values
    return labels


def lungs(folder, **settings):
    return find_lungs(CT, LungSource(kind="folder", path=folder, **settings), case="a")


def write_parts(folder, names, grid=GRID):
    """Write masks of one voxel each, one after the other."""
    folder.mkdir(exist_ok=True)
    for place, name in enumerate(names):
        write_image((np.arange(120).reshape(GRID.shape) == place).astype(np.uint8), grid, folder / f"{name}.nii.gz")


@pytest.mark.parametrize(
    ("values", "settings", "expected"),
    [
        ([0, 1, 2], {}, [0, 1, 2]),
        ([0, 1, 2, 3], {}, [0, 1, 2, 3]),
        ([1, 2, 3, 4, 5], {}, [2, 2, 1, 1, 1]),  # lungmask's lobes
        ([10, 11, 12, 13, 14], {}, [2, 2, 1, 1, 1]),  # TotalSegmentator's
        ([0, 1], {}, [0, 3]),
        ([0, 1, 2, 5], {}, [0, 3, 3, 3]),
        ([0], {}, [0]),
        ([1, 2, 3, 4, 5, 6, 51], {"right_labels": (3, 4, 5), "left_labels": (1, 2)}, [2, 2, 1, 1, 1, 0, 0]),
        ([1, 2, 51], {"left_labels": (51,)}, [0, 0, 2]),
    ],
)
def test_files_have_sides_where_they_are_right_and_left_or_named_so(tmp_path, values, settings, expected):
    write_image(row(*values), GRID, tmp_path / "a.nii.gz")
    found = lungs(tmp_path, **settings)
    assert found.labels.ravel()[: len(values)].tolist() == expected
    assert found.source == f"folder {tmp_path.name}"


@pytest.mark.parametrize(
    ("right", "left", "unknown", "flags"),
    [
        (10, 10, 0, ()),
        (0, 0, 0, ("lungs_empty",)),
        (3, 3, 0, ("lungs_implausible",)),
        (50, 50, 0, ("lungs_implausible",)),
        (20, 1, 0, ("one_lung_small",)),
        (0, 0, 20, ()),
    ],
)
def test_implausible_masks_are_flagged(right, left, unknown, flags):
    labels = np.repeat(np.array([1, 2, 3, 0]), [right, left, unknown, 120 - right - left - unknown])
    found = LungMask.of(labels.reshape(GRID.shape), GRID, source="drawn")
    assert found.flags == flags
    assert found.volume_ml == pytest.approx(125.0 * (right + left + unknown))
    assert found.labels.dtype == np.uint8


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (tuple(f"lung_{lobe}" for lobe in LOBES), [2, 2, 1, 1, 1, 0]),
        (("lung_left", "lung_right"), [2, 1, 0, 0, 0, 0]),
        (("lung",), [3, 0, 0, 0, 0, 0]),
    ],
)
def test_masks_of_one_case_are_joined_and_others_left_alone(tmp_path, names, expected):
    write_parts(tmp_path / "a", (*names, "heart", "lung_vessels"))
    assert lungs(tmp_path).labels.ravel()[:6].tolist() == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([f"lung_{n}" for n in LOBES if n[0] != "m"], r"4 of 5 .* lung_middle_lobe_right\.nii\.gz is missing"),
        (["heart", "lung_vessels"], "holds no lung mask"),
        (None, r"a\.nii\.gz does not exist"),
    ],
    ids=["a lobe", "all lungs", "the folder"],
)
def test_what_is_missing_is_named(tmp_path, names, message):
    if names is not None:
        write_parts(tmp_path / "a", names)
    with pytest.raises(LungMaskError, match=message):
        lungs(tmp_path)


@pytest.mark.parametrize("name", ["a", "a/lung_middle_lobe_right"])
def test_each_file_must_lie_on_the_grid_of_the_ct(tmp_path, name):
    write_parts(tmp_path / "a", [f"lung_{lobe}" for lobe in LOBES])
    write_image(row(1), replace(GRID, spacing_mm=(50.0, 50.0, 49.0)), tmp_path / f"{name}.nii.gz")
    with pytest.raises(GridMismatchError, match=rf"lung mask .*{name}\.nii\.gz"):
        lungs(tmp_path)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"right_labels": (0,)}, "lung labels"),
        ({"right_labels": (1, 2), "left_labels": (2,)}, "lung labels"),
        ({"right_labels": (1.5,)}, "lung labels"),
        ({"kind": "threshold", "path": None, "right_labels": (1,)}, "'folder' alone"),
        ({"kind": "guess"}, "lung source is 'guess'"),
        ({"path": None}, "give a path for 'folder' and only then"),
        ({"kind": "threshold"}, "give a path for 'folder' and only then"),
        ({"kind": "threshold", "path": None, "weights": Path("r231.pth")}, "weights are for 'lungmask' alone"),
        ({"kind": "lungmask", "path": None, "model": "R999"}, "model is 'R999'"),
        ({"kind": "lungmask", "path": None, "device": "tpu"}, "'tpu'"),
        ({"kind": "lungmask", "path": None, "batch_size": 0}, "batch size is 0"),
    ],
)
def test_sources_that_contradict_themselves_are_refused(tmp_path, bad, message):
    with pytest.raises(SettingsError, match=message):
        LungSource(**{"kind": "folder", "path": tmp_path, **bad})


BELLY, ROOM = np.zeros((2, 70, 90, 110), dtype=bool)
BELLY[:12, 25:60, 30:80] = ROOM[:, :6] = True


def flags_in(folder, ct, mask):
    write_image(mask.astype(np.uint8), ct.grid, folder / "a.nii.gz")
    return find_lungs(ct, LungSource(kind="folder", path=folder), case="a").flags


@pytest.mark.parametrize(
    ("drawn", "flags"),
    [
        (lambda both: both, ()),
        (lambda both: np.roll(both, 14, axis=1), ("lungs_misplaced",)),
        (lambda _: BELLY, ("lungs_misplaced",)),
        (lambda _: ROOM, ("lungs_misplaced",)),
    ],
    ids=["lungs", "50 mm to the back", "the belly", "the room"],
)
@pytest.mark.parametrize("consolidated", [False, True])
def test_lungs_away_from_the_air_of_the_body_are_flagged(tmp_path, thorax, drawn, flags, consolidated):
    array, both = thorax.ct.array.copy(), thorax.right | thorax.left
    if consolidated:
        array[:40][both[:40]] = 20.0
    assert flags_in(tmp_path, Volume(array, thorax.ct.grid), drawn(both)) == flags


def test_one_lung_is_flagged_in_any_layout(tmp_path, thorax, layout):
    ct = Volume(layout.array(thorax.ct.array), layout.grid(thorax.ct.grid))
    assert flags_in(tmp_path, ct, layout.array(thorax.right)) == ("one_lung_small",)
