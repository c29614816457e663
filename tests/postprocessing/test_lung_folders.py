import numpy as np
import pytest

from nnunet_cascade.errors import GridMismatchError, LungMaskError, SettingsError
from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import Volume, write_image
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
    ("settings", "expected"),
    [
        ({}, [3, 3, 3, 3, 3, 3, 3]),
        ({"right_labels": (3, 4, 5), "left_labels": (1, 2)}, [2, 2, 1, 1, 1, 0, 0]),
        ({"right_labels": (3,)}, [0, 0, 1, 0, 0, 0, 0]),
        ({"left_labels": (51,)}, [0, 0, 0, 0, 0, 0, 2]),
    ],
)
def test_named_labels_alone_are_lung(tmp_path, settings, expected):
    write_image(row(1, 2, 3, 4, 5, 6, 51), GRID, tmp_path / "a.nii.gz")
    assert lungs(tmp_path, **settings).labels.ravel()[:7].tolist() == expected


def test_lobes_of_totalsegmentator_in_one_file_have_sides(tmp_path):
    write_image(row(10, 11, 12, 13, 14), GRID, tmp_path / "a.nii.gz")
    assert lungs(tmp_path).labels.ravel()[:6].tolist() == [2, 2, 1, 1, 1, 0]


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
        (
            [f"lung_{n}" for n in LOBES if n != "middle_lobe_right"],
            r"4 of 5 .* lung_middle_lobe_right\.nii\.gz is missing",
        ),
        (["heart", "lung_vessels"], "holds no lung mask"),
    ],
    ids=["a lobe", "all lungs"],
)
def test_what_is_missing_is_named(tmp_path, names, message):
    write_parts(tmp_path / "a", names)
    with pytest.raises(LungMaskError, match=message):
        lungs(tmp_path)


def test_each_lobe_must_lie_on_the_grid_of_the_ct(tmp_path):
    write_parts(tmp_path / "a", [f"lung_{lobe}" for lobe in LOBES])
    other = Grid(shape=GRID.shape, spacing_mm=GRID.spacing_mm, origin_mm=(0.0, 0.0, 50.0))
    write_image(row(1).astype(np.uint8), other, tmp_path / "a" / "lung_middle_lobe_right.nii.gz")
    with pytest.raises(GridMismatchError, match="lung_middle_lobe_right"):
        lungs(tmp_path)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"right_labels": (0,)}, "lung labels"),
        ({"right_labels": (1, 2), "left_labels": (2,)}, "lung labels"),
        ({"left_labels": (-1,)}, "lung labels"),
        ({"right_labels": (1.5,)}, "lung labels"),
        ({"kind": "threshold", "path": None, "right_labels": (1,)}, "'folder' alone"),
    ],
)
def test_labels_that_contradict_each_other_or_need_a_folder_are_refused(tmp_path, bad, message):
    with pytest.raises(SettingsError, match=message):
        LungSource(**{"kind": "folder", "path": tmp_path, **bad})


@pytest.mark.parametrize(
    ("place", "flags"),
    [
        ("lungs", ()),
        ("half of them consolidated", ()),
        ("50 mm to the back", ("lungs_misplaced",)),
        ("one of them", ("one_lung_small",)),
        ("the belly", ("lungs_misplaced",)),
        ("the room", ("lungs_misplaced",)),
    ],
)
def test_lungs_away_from_the_air_of_the_body_are_flagged(tmp_path, thorax, layout, place, flags):
    array, mask = thorax.ct.array.copy(), thorax.right | thorax.left
    if place == "half of them consolidated":
        array[:40][mask[:40]] = 20.0
    if place == "50 mm to the back":
        mask = np.roll(mask, 14, axis=1)
    if place == "one of them":
        mask = thorax.right
    if place == "the belly":
        mask = np.zeros_like(mask)
        mask[:12, 25:60, 30:80] = True
    if place == "the room":
        mask = np.zeros_like(mask)
        mask[:, :6] = True
    ct = Volume(layout.array(array), layout.grid(thorax.ct.grid))
    write_image(layout.array(mask.astype(np.uint8)), ct.grid, tmp_path / "a.nii.gz")
    found = find_lungs(ct, LungSource(kind="folder", path=tmp_path), case="a")
    assert found.flags == flags
    assert found.is_plausible == ("lungs_misplaced" not in flags)
