"""Figures of cases of which something is missing, damaged or of another make."""

import json
from dataclasses import replace

import numpy as np
import pytest
from builders.dicom_downloads import uid_from
from builders.drawn_figures import GRID, TRUTH, ct, with_record
from builders.figure_pixels import ANATOMY, CT, GROUND_TRUTH, RESULT, STAGE1, Drawn

from nnunet_cascade.case_folders.prediction_files import TumorLabel
from nnunet_cascade.dicom.ct.writing import write_ct_series
from nnunet_cascade.dicom.writing import Identity, Series
from nnunet_cascade.errors import InputImageError
from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import write_image
from nnunet_cascade.report.figures import palette
from nnunet_cascade.report.figures.drawing import compose_figure
from nnunet_cascade.report.figures.sources import FigureSources
from nnunet_cascade.scans.scans import Scan
from nnunet_cascade.scans.search import find_scans


def test_missing_and_damaged_maps_are_said_in_their_panels_without_folders(own):
    for suffix in ("_candidates", "_lungs", "_uncertainty", ""):
        (own.folder / f"case{suffix}.nii.gz").unlink()
    (own.folder / "case_stage1.nii.gz").write_bytes(b"nothing")
    gone = Drawn(own)
    assert "The map of candidates is missing. The lung mask is missing." in gone.said(ANATOMY)
    assert "The final mask is missing. The uncertainty map is missing." in gone.said(RESULT)
    assert "The mask of stage 1 cannot be shown" in gone.said(STAGE1)
    assert str(own.folder) not in gone.said()


def test_a_case_without_samples_and_one_without_regions_say_so(own):
    (own.folder / "case_uncertainty.nii.gz").unlink()
    unsampled = Drawn(with_record(own, uncertainty=None))
    assert "No uncertainty: predicted without samples." in unsampled.said(RESULT)
    dropped = [{**item, "verdict": {**item["verdict"], "kept": False}} for item in own.record.to_json()["candidates"]]
    nothing = Drawn(with_record(own, rois=[], candidates=dropped))
    assert "No region: no candidate was kept." in nothing.said(RESULT)


def test_a_ct_that_is_gone_is_said_and_outlines_are_drawn(own):
    own.scan.path.unlink()
    gone = Drawn(own)
    assert "The CT is not where it was read from" in gone.said(CT)
    assert len(gone.colored(RESULT, palette.PREDICTED.color)) > 50
    for scan in (None, Scan(case="case", path=own.folder, series_uid="1.2.3")):
        assert "The CT is not where it was" in FigureSources.of(replace(own, scan=scan)).ct_layer([5]).missing


def test_a_ct_or_truth_on_another_grid_is_said_and_not_drawn(own):
    elsewhere = Grid(shape=GRID.shape, spacing_mm=GRID.spacing_mm)
    write_image(ct(), elsewhere, own.scan.path)
    write_image(np.ones(GRID.shape, np.uint8), elsewhere, own.truth)
    moved = Drawn(own)
    assert "the CT is not on the image's grid" in moved.said(CT)
    assert "the ground truth is not on the image's grid" in moved.said(GROUND_TRUTH)
    assert len(moved.colored(GROUND_TRUTH, palette.TRUTH.color)) == 0


def test_truth_with_several_labels_shows_the_tumor_alone(own):
    labels = np.zeros(GRID.shape, dtype=np.uint8)
    labels[TRUTH.slices], labels[5, 20:23, 8:12] = 2, 1
    write_image(labels, GRID, own.truth)
    (own.truth.parent / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "lung": 1, "tumor": 2}}))
    unnamed = Drawn(own)
    assert "say which is tumor by --tumor_label" in unnamed.said(GROUND_TRUTH)
    named = Drawn(replace(own, truth_tumor=TumorLabel(values=(2,))))
    columns = named.colored(GROUND_TRUTH, palette.TRUTH.color)[:, 1]
    assert columns.min() > named.edges(GROUND_TRUTH, TRUTH)[1] - 4


def test_maps_without_a_record_are_drawn_and_the_title_says_what_is_unknown(own):
    bare = Drawn(replace(own, record=None))
    assert "no record: verdicts, volume and flags are unknown" in bare.said()
    assert "case · axial, S 70.0 mm" in bare.said()
    assert len(bare.colored(RESULT, palette.PREDICTED.color)) > 50


def test_of_a_case_of_which_nothing_is_there_nothing_can_be_drawn(tmp_path, own):
    with pytest.raises(InputImageError, match="nothing of ghost to draw"):
        compose_figure(replace(own, case="ghost", record=None, folder=tmp_path, truth=None, scan=None))


@pytest.mark.parametrize(
    "changed",
    [
        {"candidates": "none", "rois": 3, "lesions": [{}], "flags": {"a": 1}, "tumor": [], "uncertainty": "x"},
        {"candidates": [{"id": "one"}, {"id": 1, "box": {"start": [9, 9, 9], "stop": [1, 1, 1]}, "volume_ml": None}]},
        {"rois": [{"box": {"start": [90, 90, 90], "stop": [99, 99, 99]}}], "lesions": [{"box": {"start": [1]}}]},
        {"grid": {"shape": [12, 30], "spacing_mm": "x"}},
    ],
)
def test_a_record_of_another_make_is_drawn_as_far_as_it_goes(request_of, changed):
    figure = compose_figure(with_record(request_of, **changed))
    columns = {"CT", "Ground truth", "Stage 1", "After anatomy rules", "Stage 2: tumor and uncertainty"}
    assert columns <= {text.get_text() for text in figure.texts}
    assert all(axes.images for axes in figure.axes[: len(columns)])


def test_a_dicom_series_gives_the_picture_of_its_image_file(drawn, own, tmp_path):
    identity = Identity(patient_id="P", study_uid=uid_from("study"), frame_of_reference_uid=uid_from("frame"))
    folder = tmp_path / "dicom"
    series = Series(identity=identity, uid=uid_from("series"), number=1, description="CT")
    write_ct_series(ct(), GRID, folder, series=series)
    (scan,) = find_scans(folder).values()
    assert np.array_equal(Drawn(replace(own, scan=scan)).pixels, drawn.pixels)
