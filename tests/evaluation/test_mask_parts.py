import numpy as np
import pytest
from builders.evaluation_strategies import SPACINGS_MM, mask_pairs
from hypothesis import given, settings
from scipy import ndimage

from nnunet_cascade.errors import GridMismatchError
from nnunet_cascade.evaluation import disjoint_boxes as parts_module
from nnunet_cascade.evaluation.case import score_case
from nnunet_cascade.evaluation.disjoint_boxes import separate_parts


@pytest.fixture
def eager(monkeypatch):
    """Let the smallest box be cut, too."""
    monkeypatch.setattr(parts_module, "_WORTH_CUTTING_VOXELS", 0)


def put_back(parts, shape):
    """Give the masks that the parts were cut from, and the number of the part that each voxel lies in."""
    truth, prediction, numbers = (np.zeros(shape, dtype=kind) for kind in (bool, bool, int))
    for number, part in enumerate(parts, start=1):
        place = tuple(slice(at, at + size) for at, size in zip(part.start, part.truth.shape, strict=True))
        assert not numbers[place].any()
        truth[place], prediction[place], numbers[place] = part.truth, part.prediction, number
    return truth, prediction, numbers


def test_a_far_island_shares_no_box_with_the_rest(box_mask):
    shape = (60, 80, 80)
    truth = box_mask(shape, (0, 0, 0), (6, 7, 8))
    prediction = box_mask(shape, (1, 1, 1), (6, 7, 8)) | box_mask(shape, (50, 70, 60), (52, 71, 63))
    assert [(part.start, part.truth.shape) for part in separate_parts(truth, prediction)] == [
        ((0, 0, 0), (6, 7, 8)),
        ((50, 70, 60), (2, 1, 3)),
    ]


@pytest.mark.usefixtures("eager")
def test_what_touches_at_a_corner_across_both_masks_is_not_parted(drawn_mask):
    assert len(separate_parts(drawn_mask("#... ...."), drawn_mask(".... .#.#"))) == 2


def test_small_masks_are_left_in_one_box(drawn_mask):
    assert len(separate_parts(drawn_mask("#...#"), drawn_mask("#....") & False)) == 1


def test_two_empty_masks_have_no_part():
    assert separate_parts(*np.zeros((2, 3, 4, 5), dtype=bool)) == ()


def test_a_lattice_is_not_cut_into_as_many_parts_as_it_has_points():
    lattice = np.zeros((120, 400, 400), dtype=bool)
    lattice[::2, ::2, ::2] = True
    assert len(separate_parts(lattice, lattice)) < 300


def test_masks_of_different_shapes_are_refused(drawn_mask):
    with pytest.raises(GridMismatchError, match="resample"):
        separate_parts(drawn_mask("##."), drawn_mask("#"))


@settings(deadline=None, max_examples=50)
@given(mask_pairs(max_side=9))
def test_parts_hold_every_voxel_once_and_every_component_whole(pair):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts_module, "_WORTH_CUTTING_VOXELS", 0)
        truth, prediction, numbers = put_back(separate_parts(*pair), pair[0].shape)
    assert np.array_equal(truth, pair[0])
    assert np.array_equal(prediction, pair[1])
    labels, count = ndimage.label(truth | prediction, np.ones((3, 3, 3)))
    for label in range(1, count + 1):
        assert np.unique(numbers[labels == label]).size == 1


@settings(deadline=None, max_examples=50)
@given(mask_pairs(max_side=9), SPACINGS_MM)
def test_cutting_changes_no_score(pair, spacing_mm):
    whole = score_case("a", *pair, spacing_mm).record()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts_module, "_WORTH_CUTTING_VOXELS", 0)
        cut = score_case("a", *pair, spacing_mm).record()
    assert (cut.pop("case"), cut.pop("empty")) == (whole.pop("case"), whole.pop("empty"))
    assert cut == pytest.approx(whole, nan_ok=True)
