"""Figures of cases that were drawn by hand: what each panel shows, where, in every orientation, and what is missing."""

import json
from dataclasses import replace

import numpy as np
import pytest
from builders.dicom_downloads import uid_from
from builders.drawn_figures import (
    CANDIDATE,
    DROPPED,
    GRID,
    HEIGHT_MM,
    REASON,
    REGION,
    TRUTH,
    TUMOR,
    ct,
    stored_grid,
    with_record,
    write_drawn,
)
from builders.figure_pixels import ANATOMY, CODES, CT, GROUND_TRUTH, PANELS, RESULT, STAGE1, Drawn
from skimage.color import rgb2gray

from nnunet_cascade.case_folders.prediction_files import TumorLabel
from nnunet_cascade.dicom.ct.writing import write_ct_series
from nnunet_cascade.dicom.writing import Identity, Series
from nnunet_cascade.errors import InputImageError
from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import write_image
from nnunet_cascade.report.figures import palette
from nnunet_cascade.report.figures.drawing import compose_figure
from nnunet_cascade.report.figures.rows import choose_heights
from nnunet_cascade.report.figures.sources import FigureSources, edge_letters
from nnunet_cascade.scans.scans import Scan
from nnunet_cascade.scans.search import find_scans
from nnunet_cascade.versions import NOTICE


def test_panels_are_named_from_the_ct_to_the_result_and_without_truth_there_is_none_of_it(drawn, request_of):
    assert [text for text in drawn.texts() if text in PANELS] == list(PANELS)
    without = Drawn(replace(request_of, truth=None))
    assert "Ground truth" not in without.texts()
    assert "ground truth" not in without.texts()
    assert len(without.panels) == len(PANELS)  # four of them and the color bar


@pytest.mark.parametrize(
    ("panel", "line", "box"),
    [
        (GROUND_TRUTH, palette.TRUTH, TRUTH),
        (ANATOMY, palette.PREDICTED, CANDIDATE),
        (ANATOMY, palette.DROPPED, DROPPED),
        (RESULT, palette.PREDICTED, TUMOR),
    ],
)
def test_outlines_lie_where_the_masks_end(drawn, panel, line, box):
    places = drawn.colored(panel, line.color)
    found = np.array([*places.min(axis=0), *places.max(axis=0)])
    compared = slice(1, None) if panel == ANATOMY else slice(None)  # the frame of a number stands above
    assert np.abs(found - drawn.edges(panel, box))[compared].max() <= 3


def test_stage1_shows_all_findings_of_the_slice_and_the_rules_panel_hatches_the_dropped_ones(drawn):
    left, right = drawn.edges(STAGE1, DROPPED)[1], drawn.edges(STAGE1, CANDIDATE)[3]
    columns = drawn.colored(STAGE1, palette.PREDICTED.color)[:, 1]
    assert abs(columns.min() - left) <= 3
    assert abs(columns.max() - right) <= 3
    assert len(drawn.colored(STAGE1, palette.DROPPED.color)) == 0
    for box, color, hatched in ((DROPPED, palette.DROPPED.color, True), (CANDIDATE, palette.PREDICTED.color, False)):
        top, left, bottom, right = drawn.edges(ANATOMY, box)
        inner = drawn.colored(ANATOMY, color)
        inner = inner[(inner[:, 0] > top + 6) & (inner[:, 0] < bottom - 6)]
        inner = inner[(inner[:, 1] > left + 6) & (inner[:, 1] < right - 6)]
        assert (len(inner) > 50) == hatched


def test_candidates_are_numbered_in_the_panel_and_explained_below(drawn):
    assert {"1", "2"} <= set(drawn.texts(ANATOMY))
    assert "3" not in drawn.texts(ANATOMY)
    assert f"2 dropped, 18.90 ml: {REASON}" in drawn.said()
    assert "1 kept, 50.40 ml: 100 % of it lies in the lungs (needs 80 %)" in drawn.said()
    assert "3 dropped, 0.84 ml: too small (on other slices)" in drawn.said()


def test_many_candidates_are_counted_rather_than_listed(own):
    many = [{"id": n, "volume_ml": 0.1, "verdict": {"kept": False, "reason": f"reason {n}"}} for n in range(4, 44)]
    crowded = Drawn(with_record(own, candidates=[*own.record.to_json()["candidates"], *many]))
    assert "and 35 more candidates, which the record case.json tells of" in crowded.said()


def test_the_title_tells_case_height_volume_flags_and_the_foot_what_it_is_not(drawn):
    assert "case · axial, S 70.0 mm" in drawn.said()
    assert "tumor 15.1 ml in 1 lesion, mean variance 0.020 · flags: roi_clipped" in drawn.said()
    assert NOTICE in drawn.said()
    assert "variance of the tumor probability (no unit)" in drawn.said()


@pytest.mark.parametrize(
    ("measure", "says", "most"),
    [
        ("predictive_entropy", "predictive entropy of the tumor probability (nats)", np.log(2)),
        ("mutual_information", "mutual information of the tumor probability (nats)", np.log(2)),
        ("surprise", "surprise of the tumor probability (unknown unit)", 0.25),
    ],
)
def test_the_color_bar_names_measure_and_unit_and_ends_where_the_measure_does(own, measure, says, most):
    changed = Drawn(with_record(own, uncertainty={"measure": measure}))
    (name,) = [text for text in changed.artists() if " ".join(text.get_text().split()) == says]
    written, panel = name.get_window_extent(), changed.panels[RESULT].get_window_extent()
    assert panel.y0 - 3 <= written.y0 < written.y1 <= panel.y1 + 3
    assert written.x1 <= changed.pixels.shape[1]
    assert changed.panels[-1].get_ylim()[1] == pytest.approx(most)


def test_uncertainty_is_lighter_than_any_tissue_in_gray_too(drawn):
    ring, tissue, lung = (12.9, 38), (3, 25), (20, 38)
    shades = [rgb2gray(drawn.shade(RESULT, *place) / 255) for place in (ring, tissue, lung)]
    assert shades[0] - max(shades[1:]) > 0.3


def test_a_usual_uncertainty_is_seen_in_the_regions_alone_and_none_is_clear(own):
    figures = []
    for value in (0, 0.03):
        write_image(np.full(GRID.shape, value, dtype=np.float32), GRID, own.folder / "case_uncertainty.nii.gz")
        figures.append(Drawn(own))
    clear, seen = (figure.shade(RESULT, 12.9, 38).astype(float) for figure in figures)
    assert np.ptp(clear) <= 2  # the CT's gray
    assert np.ptp(seen) > 100
    assert np.abs(seen - clear).max() > 100
    filled = figures[1]
    inside, outside = (filled.shade(RESULT, *place) for place in ((14, 42), (20, 10)))
    assert np.ptp(inside) > 60  # a color
    assert np.ptp(outside) <= 3  # a gray
    top, left, _, right = filled.edges(RESULT, REGION)
    edge = filled.pixels[top - 1 : top + 2, left:right].min(axis=-1).max(axis=0)
    assert 0.3 < (edge > 150).mean() < 0.9  # strokes and gaps of the region's frame


def run_around(line, place):
    """How many pixels about a place are lighter than half way to the dark lung."""
    light = line > 160
    before, behind = np.flatnonzero(~light[:place]), np.flatnonzero(~light[place:])
    return place + behind[0] - before[-1] - 1


def test_the_scale_bar_is_as_long_as_it_says_and_pixels_keep_their_shape_in_all_panels(drawn):
    """The tumor of 6 × 4 pixels of 5 × 7 mm is the white block of the CT's panel."""
    white = np.argwhere((drawn.pixels >= 254).all(axis=-1))
    height = drawn.pixels.shape[0]
    frame = drawn.panels[CT].get_window_extent()
    here = (white[:, 1] > frame.x0 + 4) & (white[:, 1] < frame.x0 + 0.45 * frame.width)
    here &= (height - white[:, 0] > frame.y0 + 3) & (height - white[:, 0] < frame.y0 + 12)
    bar_px = np.ptp(white[here][:, 1]) + 1
    (said,) = [text for text in drawn.texts(CT) if text.endswith(" mm")]
    row, column = drawn.pixel(CT, 11, 38)
    rows, columns = run_around(drawn.pixels[:, column, 0], row), run_around(drawn.pixels[row, :, 0], column)
    mm_per_px = int(said.removesuffix(" mm")) / bar_px
    assert columns * mm_per_px == pytest.approx(30.0, abs=1.5)
    assert rows * mm_per_px == pytest.approx(28.0, abs=1.5)
    widths = [axes.get_window_extent().width for axes in drawn.panels[:-1]]
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in drawn.panels[:-1]}) == 1
    assert np.ptp(widths) < 1e-6


def test_the_patient_right_is_on_the_viewers_left(drawn):
    places = {text.get_text(): text.get_position() for text in drawn.panels[CT].texts}
    assert places["L"][0] - places["R"][0] > 0.9
    assert places["A"][1] - places["P"][1] > 0.9
    frame = drawn.panels[CT].get_window_extent()
    _, tumor = drawn.pixel(CT, 11, 38)
    assert tumor > (frame.x0 + frame.x1) / 2  # it lies in the left lung


@pytest.mark.parametrize("code", CODES[1:])
def test_a_case_stored_in_another_orientation_gives_the_same_picture(drawn, tmp_path, code):
    assert np.array_equal(Drawn(write_drawn(tmp_path, code=code)).pixels, drawn.pixels)


def test_rows_stay_in_order_where_slices_are_stored_from_the_head_down(request_of, tmp_path):
    stored = replace(write_drawn(tmp_path, code="LAI"), slices=3)
    assert np.array_equal(Drawn(stored).pixels, Drawn(replace(request_of, slices=3)).pixels)


@pytest.mark.parametrize("code", CODES)
def test_letters_follow_the_patient_whatever_the_storage(code):
    letters = edge_letters(stored_grid(code))
    assert (letters.left, letters.right, letters.top, letters.bottom) == ("R", "L", "A", "P")


def test_an_oblique_picture_has_two_letters_at_an_edge():
    """Turned by 30° about the long axis, so that columns grow to the left and the back."""
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    axes = ((0.0, 0.0, 1.0), (-s, c, 0.0), (c, s, 0.0))
    letters = edge_letters(Grid(shape=(2, 3, 4), spacing_mm=(1.0, 1.0, 1.0), axes=axes))
    assert (letters.left, letters.right, letters.top, letters.bottom) == ("RA", "LP", "AL", "PR")


def test_the_table_and_what_lies_beside_the_patient_are_cut_away(own):
    """A table of one pixel below the patient, a hand beside and air around: the crop ends near the body."""
    wide = Grid(shape=(12, 60, 120), spacing_mm=(6.0, 4.0, 4.0))
    hu = np.full(wide.shape, -1000, dtype=np.int16)
    hu[:, 15:45, 40:80] = 30
    hu[:, 20:40, 45:55] = hu[:, 20:40, 65:75] = -850
    hu[:, 56, 5:115] = 100
    hu[:, 28:32, 5:10] = 30
    write_image(hu, wide, own.scan.path)
    figure = compose_figure(replace(own, record=None, truth=None, folder=own.folder.parent))
    left, right = figure.axes[0].get_xlim()
    assert 120 < left < 160
    assert 320 < right < 360


def heights_of(request):
    sources = FigureSources.of(request)
    return [round(sources.height_mm(height)) for height in choose_heights(sources)]


def test_more_slices_show_other_candidates_then_equal_distances_and_those_asked_for_are_the_nearest(request_of):
    assert heights_of(replace(request_of, slices=2)) == [HEIGHT_MM, 100]
    assert len(heights_of(replace(request_of, slices=4))) >= 3
    assert heights_of(replace(request_of, slice_mm=(99.0, 46.5))) == [46, 100]
    with pytest.raises(InputImageError, match=r"500 mm lies outside the scan of case; expected 40\.0 to 106\.0 mm"):
        heights_of(replace(request_of, slice_mm=(500.0,)))


def test_without_a_tumor_the_largest_candidate_then_the_truth_then_the_lungs_are_shown(own):
    only_small = [candidate for candidate in own.record.to_json()["candidates"] if candidate["id"] == 3]
    assert heights_of(with_record(own, lesions=[], candidates=only_small)) == [100]
    none = with_record(own, lesions=[], candidates=[])
    truth = np.zeros(GRID.shape, dtype=np.uint8)
    truth[9, 10:12, 36:40] = 1
    write_image(truth, GRID, own.truth)
    assert heights_of(none) == [94]
    assert heights_of(replace(none, truth=None)) == [70]
    (own.folder / "case_lungs.nii.gz").unlink()
    assert heights_of(replace(none, truth=None)) == [70]


def test_rows_run_from_head_to_feet_and_say_where_they_lie(request_of):
    two = Drawn(replace(request_of, slices=2))
    rows = [text for text in two.texts() if text in {"S 100.0 mm", "S 70.0 mm"}]
    assert rows == ["S 100.0 mm", "S 70.0 mm"]
    assert "3 dropped, 0.84 ml: too small (on other slices)" not in two.said()
    assert "3" in two.texts(ANATOMY)


# What is missing, damaged or of another make


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
    assert "say which is tumor by --tumor_label" in Drawn(own).said(GROUND_TRUTH)
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
