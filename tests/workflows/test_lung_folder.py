"""Lung masks of a folder: what is written, and when a mask is found anew."""

import json
from dataclasses import replace

import numpy as np
import pytest
from builders.drawn_chests import GRID, LUNGS, chest_ct

from nnunet_cascade.case_folders.case_files import find_images
from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.case_folders.run import run_cases
from nnunet_cascade.errors import NoLungsError
from nnunet_cascade.geometry import Box
from nnunet_cascade.images import Volume, read_volume, write_image
from nnunet_cascade.postprocessing.lungs.result import LungMask
from nnunet_cascade.postprocessing.lungs.source import LungSource
from nnunet_cascade.workflows import lung_masks as lung_folder
from nnunet_cascade.workflows.lung_masks import kept_lungs, lung_figures, lung_task

THRESHOLD = LungSource()


@pytest.fixture
def searches(monkeypatch):
    """The cases whose lungs were searched; the search finds the drawn ones."""
    asked = []

    def find(ct, source, *, case):
        asked.append(case)
        if case == "none":
            raise NoLungsError("nothing here looks like lung")
        lungs = LungMask.of(LUNGS, ct.grid, source=source.kind)
        return lungs.with_flag("lungs_misplaced") if case == "flagged" else lungs

    monkeypatch.setattr(lung_folder, "find_lungs", find)
    return asked


def test_each_ct_gets_a_mask_and_a_record(folders, searches):
    folders.write("a")
    (outcome,) = run_cases(find_images(folders["images"]), lung_task(folders["out"], THRESHOLD))
    assert (outcome.status, searches) == ("done", ["a"])
    mask = read_volume(folders["out"] / "a.nii.gz")
    np.testing.assert_array_equal(mask.array, LUNGS)
    assert mask.grid.difference(GRID) is None
    record = json.loads((folders["out"] / "a.json").read_text())
    # 26 × 20 × 14 voxels of 125 mm³ on each side
    assert record["lungs"] == {
        "source": "threshold", "volume_ml": 1820.0, "right_ml": 910.0, "left_ml": 910.0, "unknown_side_ml": 0.0,
        "flags": [],
    }  # fmt: skip
    assert "not a medical device" in record["notice"]
    assert lung_figures(CaseRecord.from_json(record))["volume_ml"] == 1820.0


def test_a_ct_without_lungs_is_a_case_that_failed(folders, searches):
    folders.write("none")
    folders.write("a")
    outcomes = list(run_cases(find_images(folders["images"]), lung_task(folders["out"], THRESHOLD)))
    assert [(o.case, o.status) for o in outcomes] == [("a", "done"), ("none", "failed")]
    assert "looks like lung" in outcomes[1].error
    assert searches == ["a", "none"]


@pytest.mark.parametrize("box", [Box((10, 0, 0), (11, 26, 50)), Box((0, 0, 20), (30, 26, 21))])
def test_a_single_slice_is_refused(folders, searches, box):
    write_image(chest_ct()[box.slices], GRID.cropped(box), folders["images"] / "a_0000.nii.gz")
    (outcome,) = run_cases(find_images(folders["images"]), lung_task(folders["out"], THRESHOLD))
    assert "a single slice" in outcome.error
    assert not searches


class TestKept:
    @pytest.fixture
    def ct(self):
        return Volume(chest_ct(), GRID)

    def test_lungs_are_found_once_and_keep_their_flags(self, ct, folders, searches):
        first, second = (kept_lungs(ct, THRESHOLD, folders["lungs"], case="flagged") for _ in range(2))
        np.testing.assert_array_equal(first.labels, second.labels)
        assert (second.source, second.flags, second.volume_ml) == (first.source, first.flags, first.volume_ml)
        assert searches == ["flagged"]

    def test_what_nnc_lung_mask_wrote_is_kept_as_well(self, ct, folders, searches):
        folders.write("a")
        list(run_cases(find_images(folders["images"]), lung_task(folders["lungs"], THRESHOLD)))
        kept_lungs(ct, LungSource(batch_size=3, device="cpu"), folders["lungs"], case="a")
        assert searches == ["a"]

    @pytest.mark.parametrize("change", ["source", "ct", "grid", "mask gone", "mask broken", "record gone"])
    def test_lungs_are_found_anew_where_something_changed(self, ct, folders, searches, change):
        kept_lungs(ct, THRESHOLD, folders["lungs"], case="a")
        mask, record = folders["lungs"] / "a.nii.gz", folders["lungs"] / "a.json"
        source = LungSource(kind="lungmask") if change == "source" else THRESHOLD
        if change == "ct":
            ct = Volume(ct.array + 1, GRID)
        if change == "grid":
            ct = Volume(ct.array, replace(GRID, spacing_mm=(5.0, 5.0, 4.0)))
        if change == "mask broken":
            mask.write_bytes(mask.read_bytes()[:200])
        if change.endswith("gone"):
            (mask if change == "mask gone" else record).unlink()
        assert kept_lungs(ct, source, folders["lungs"], case="a").source == source.kind
        assert searches == ["a", "a"]

    def test_given_weights_count_by_what_they_hold_not_by_their_name(self, ct, folders, searches):
        weights = folders["out"] / "w.pth"
        weights.write_text("one")
        kept_lungs(ct, LungSource(kind="lungmask", weights=weights), folders["lungs"], case="a")
        moved = weights.rename(weights.with_name("moved.pth"))
        kept_lungs(ct, LungSource(kind="lungmask", weights=moved), folders["lungs"], case="a")
        assert searches == ["a"]
        moved.write_text("retrained")
        kept_lungs(ct, LungSource(kind="lungmask", weights=moved), folders["lungs"], case="a")
        assert searches == ["a", "a"]

    def test_ready_masks_are_read_where_they_are(self, ct, folders):
        folders.write("a")
        found = kept_lungs(ct, LungSource(kind="folder", path=folders["lung_masks"]), folders["lungs"], case="a")
        assert found.volume_ml == 1820.0
        assert not list(folders["lungs"].iterdir())
