"""What stage 1 proposes out of fold: how it is read, and which threshold is chosen of it."""

import numpy as np
import pytest
from builders.oriented_grids import ORIENTATIONS, grid_towards

from nnunet_cascade.errors import DatasetError
from nnunet_cascade.images import write_image
from nnunet_cascade.prediction.spec import CascadeSpec
from nnunet_cascade.training.proposals import ProposalRequest, choose_threshold, read_proposal

SHAPE = (24, 30, 36)
BLOCKS = {"plain": (slice(4, 10),) * 3, "faint": (slice(14, 20),) * 3}
THRESHOLDS = (0.1, 0.3, 0.5)


def scan(tmp_path, code="LPS", *, faint=0.2, noise=(), everywhere=0.0, bridge=0.0):
    """A scan with two true lesions, of which stage 1 is less sure of one; noise is what it sees besides."""
    grid = grid_towards(code, SHAPE, (3.0, 2.0, 2.0))
    probability, truth = np.full(SHAPE, everywhere, np.float32), np.zeros(SHAPE, np.uint8)
    for at in range(4, 20):
        probability[at, at, at] = max(bridge, everywhere)
    for name, block in BLOCKS.items():
        truth[block] = 1
        probability[block] = faint if name == "faint" else 0.9
    for place in noise:
        probability[tuple(slice(at, at + 4) for at in place)] = 0.15
    levels = sum((probability > each).astype(np.uint8) for each in THRESHOLDS)
    ct = np.full(SHAPE, 40, np.int16)
    ct[:, :, :3] = -1000  # air beside a body without lungs
    raw, model = tmp_path / "raw", tmp_path / "model"
    files = {
        raw / "imagesTr" / "p_0000.nii.gz": ct,
        raw / "labelsTr" / "p.nii.gz": truth,
        model / "fold_0" / "proposals" / "p.nii.gz": levels,
        model / "fold_0" / "proposals" / "p_probability.nii.gz": probability,
    }
    for path, array in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(array, grid, path)
    splits = [{"train": [], "val": ["p"]}]
    request = ProposalRequest(source=raw, splits=splits, model=model, spec=CascadeSpec(), thresholds=THRESHOLDS)
    return request, grid, probability


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_what_was_proposed_is_read_at_each_threshold(tmp_path, code):
    request, grid, probability = scan(tmp_path, code)
    found = read_proposal(request, "p", grid)
    for threshold in THRESHOLDS:
        np.testing.assert_array_equal(found.mask(threshold), probability > threshold)
    np.testing.assert_array_equal(found.probability, probability)
    with pytest.raises(DatasetError, match=r"asked for is 0\.2"):
        found.mask(0.2)


@pytest.mark.parametrize(
    ("changes", "chosen"),
    [
        ({}, 0.1),
        ({"faint": 0.4}, 0.3),
        ({"faint": 0.9}, 0.5),
        ({"faint": 0.05, "noise": [(0, 20, 26), (18, 0, 0)]}, 0.5),
        ({"everywhere": 0.12, "faint": 0.12}, 0.5),
        ({"bridge": 0.12, "faint": 0.4}, 0.3),
    ],
    ids=[
        "a faint lesion asks for a low one",
        "no lower than needed",
        "all are sure",
        "noise alone asks for none",
        "what covers the chest has found nothing",
        "two lesions need two candidates",
    ],
)
def test_the_largest_threshold_is_chosen_that_loses_no_lesion(tmp_path, changes, chosen):
    request, _, _ = scan(tmp_path, **changes)
    found = choose_threshold(request)
    assert found.threshold == chosen
    assert [each.threshold for each in found.trials] == list(THRESHOLDS)
    assert all(each.lesions == 2 and each.scans == 1 for each in found.trials)


def test_a_patient_without_a_proposal_is_named(tmp_path):
    request, grid, _ = scan(tmp_path)
    (request.model / "fold_0" / "proposals" / "p.nii.gz").unlink()
    for case in ("p", "q"):
        with pytest.raises(DatasetError, match=f"{case} has no out-of-fold prediction"):
            read_proposal(request, case, grid)
