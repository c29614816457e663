"""Scans that are not one axial chest with a tumor and two lungs: the rows of docs/unusual-scans.md are the rules."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from builders.unusual_scans import CHESTS, OTHERS, REFUSED, chest

from nnunet_cascade.bundles.bundle import load_cascade, read_spec
from nnunet_cascade.errors import InputImageError
from nnunet_cascade.images import read_ct, write_image
from nnunet_cascade.prediction.case import PrecomputedInputs, predict_case
from nnunet_cascade.prediction.loaded import LoadedCascade
from nnunet_cascade.prediction.stage_model import RoiPrediction

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "unusual-scans.md"
SIDES = {"both": {1, 2}, "right": {1}, "left": {2}, "none": set()}
OF_LUNGS = {f"lungs_{how}" for how in ("not_found", "missing", "empty", "implausible", "misplaced")}
OF_THE_SCAN = {*OF_LUNGS, "no_candidate", "one_lung_small", "all_rejected", "not_axial", "empty_result"}


def rows(heading):
    """The cells of the table below a heading of the page, by the first one."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {cells[0]: cells[1:] for cells in table[2:]}


PREDICTED, NOT_PREDICTED, UNREADABLE = rows("Predicted"), rows("Refused: not a CT"), rows("Refused: a bad file")


@pytest.fixture(scope="module")
def cascade(tiny_cascade):
    """One fold, not mirrored, two samples, one region: what is asked here does not depend on them."""
    spec = read_spec(tiny_cascade.bundle)
    spec = replace(
        spec,
        stage1=replace(spec.stage1, folds=(0,), mirroring=False),
        stage2=replace(spec.stage2, folds=(0,)),
        anatomy=replace(spec.anatomy, top_k=1),
        sampling=replace(spec.sampling, mc_samples=2),
    )
    return load_cascade(tiny_cascade.bundle, device=torch.device("cpu"), spec=spec)


@pytest.fixture(scope="module")
def seeing(cascade):
    """Settings as they are, and a stage 2 that finds tumor wherever it looks."""

    def everywhere(crop, _spacing_mm, *, seed):  # noqa: ARG001 - it draws nothing
        return RoiPrediction(np.ones_like(crop))

    stage2 = SimpleNamespace(sampling=None, patch_size_mm=(96.0,) * 3, predict_roi=everywhere)
    return LoadedCascade(cascade.spec, None, stage2)


def how_judged(result):
    rules = {candidate.verdict.rule for candidate in result.filtered.candidates} - {"top_k", "minimum_volume"}
    if not rules:
        return "none"
    return "kept" if rules == {"no_lungs"} else "judged"


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def test_the_page_has_a_row_for_every_scan():
    assert list(PREDICTED) == [*CHESTS, *OTHERS]
    assert list(NOT_PREDICTED) == list(REFUSED)
    assert list(UNREADABLE) == list(FILES)


@pytest.mark.parametrize("name", PREDICTED)
def test_a_predicted_scan_ends_as_the_page_says(seeing, name):
    lungs, apply_anatomy_rules, flags = PREDICTED[name]
    scan = {**CHESTS, **OTHERS}[name]()
    result = predict_case(scan.image, seeing, PrecomputedInputs(case=name, stage1=scan.found))
    found = set() if result.lungs is None else set(np.unique(result.lungs.labels).tolist()) - {0}
    assert lungs == "any" or found == SIDES[lungs]
    if len(found) == 2 and lungs == "both":
        assert min(dice(result.lungs.labels == side, scan.lungs == side) for side in (1, 2)) > 0.85
    assert how_judged(result) == apply_anatomy_rules
    assert set(result.flags) & OF_THE_SCAN == set(re.findall(r"`(\w+)`", flags))
    assert ("thick_slices" in result.flags) == (max(scan.image.grid.spacing_mm) > 5)
    assert bool(result.filtered.kept) == scan.found.any()


QUICK = ("upper half", "sagittal", "single slice", "a line of voxels")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in PREDICTED]
)
def test_stage_one_sees_the_whole_of_any_scan(cascade, name):
    """Its network is hardly trained: not what it finds is asked, but that all of it lies on the scan's own grid."""
    scan = {**CHESTS, **OTHERS}[name]()
    before = scan.image.array.copy()
    result = predict_case(scan.image, cascade, PrecomputedInputs(case=name))
    assert result.grid == scan.image.grid
    for array in (result.tumor, result.probability, result.uncertainty, result.regions, result.stage1):
        assert array.shape == scan.image.grid.shape
        assert np.isfinite(array).all()
    assert np.array_equal(scan.image.array, before)


@pytest.mark.parametrize("name", NOT_PREDICTED)
def test_what_is_no_ct_is_refused_in_the_pages_words(cascade, name):
    scan = REFUSED[name]()
    with pytest.raises(InputImageError, match=re.escape(NOT_PREDICTED[name][0].strip("`"))) as refusal:
        predict_case(scan.image, cascade, PrecomputedInputs(case=name))
    assert "\n" not in str(refusal.value)


def write_sheared(path):
    """The columns of the header are not at right angles, as after a gantry tilt that was not undone."""
    affine = np.diag([-6.0, -6.0, 6.0, 1.0])
    affine[1, 2] = 2.0
    nibabel.save(nibabel.Nifti1Image(chest().image.array.T.astype(np.int16), affine), path)


def write_four_dimensions(path):
    array = chest().image.array.T.astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(np.stack([array, array], axis=-1), np.eye(4)), path)


def write_not_a_number(path):
    array = chest().image.array.copy()
    array[0, 0, :5] = np.nan
    nibabel.save(nibabel.Nifti1Image(array.T, np.eye(4)), path)


def write_cut_short(path):
    write_image(chest().image.array, chest().image.grid, path)
    path.write_bytes(path.read_bytes()[:5000])


FILES = {
    "sheared axes": write_sheared,
    "four dimensions": write_four_dimensions,
    "NaN": write_not_a_number,
    "cut short": write_cut_short,
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_cannot_be_used_is_refused_in_the_pages_words(tmp_path, name):
    path = tmp_path / "scan_0000.nii.gz"
    FILES[name](path)
    with pytest.raises(InputImageError, match=re.escape(UNREADABLE[name][0].strip("`"))) as refusal:
        read_ct(path)
    assert "\n" not in str(refusal.value)
