"""What the viewer of a page is told and shown: the images beside the page, never from where they do not belong."""

import json
import os
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from builders.oriented_grids import ORIENTATIONS
from builders.small_run import drawn, spacing_of, turned
from jinja2 import Environment, PackageLoader, StrictUndefined

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.case_folders.prediction_files import TumorLabel
from nnunet_cascade.dicom.ct.writing import CtStorage, write_ct_series
from nnunet_cascade.dicom.writing import Identity, Series, uid_from
from nnunet_cascade.errors import DicomError, InputImageError
from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import read_volume, write_image
from nnunet_cascade.report.figures.palette import DROPPED, PREDICTED, heat
from nnunet_cascade.report.viewing.viewer import viewer_data
from nnunet_cascade.report.viewing.volumes import MAPS, place_volumes
from nnunet_cascade.scans.scans import Scan
from nnunet_cascade.workflows.evaluation_workers import LabelFile

CASE = "case"
VOLUMES = {name: f"{name}.nii.gz" for name in ("ct", "truth", *MAPS)}
EVIL = "</script><script>alert(1)</script>"


@pytest.fixture
def into(tmp_path):
    (tmp_path / "into").mkdir()
    return tmp_path / "into"


@pytest.fixture
def record(small_run):
    return small_run.write(CASE)


@pytest.fixture
def place(small_run, record, into):
    """Lay the case's images, or another one's, into the page's folder."""

    def placed(case=CASE, *, record=record, scan=None, truth=None):
        return place_volumes(case, small_run.results, record, scan, truth, into)

    return placed


@pytest.fixture
def scan(small_run):
    return Scan(case=CASE, path=small_run.images / f"{CASE}_0000.nii.gz")


@pytest.fixture
def series(tmp_path):
    """A DICOM series of the drawn chest, some of its slices with rescale slopes of their own."""

    def written(orientation="LPS", **storage):
        array = turned(drawn()["ct"], orientation)
        grid = Grid(shape=array.shape, spacing_mm=spacing_of(orientation), origin_mm=(11.0, -7.0, 5.0))
        identity = Identity(patient_id="P", study_uid=uid_from("s"), frame_of_reference_uid=uid_from("f"))
        told = Series(identity=identity, uid=uid_from(orientation), number=1, description="CT")
        slices = write_ct_series(array, grid, tmp_path / "dicom", series=told, storage=CtStorage(**storage))
        return Scan(case=CASE, path=tmp_path / "dicom", series_uid=told.uid, slices=slices), array, grid

    return written


def test_what_is_there_is_linked_and_takes_no_room_also_again_and_through_a_symbolic_link(
    small_run, place, scan, into, tmp_path
):
    truth = LabelFile(small_run.truths / f"{CASE}.nii.gz", TumorLabel())
    (tmp_path / "link.nii.gz").symlink_to(scan.path)
    for ct in (scan, scan, replace(scan, path=tmp_path / "link.nii.gz")):
        placed = place(scan=ct, truth=truth)
        assert placed == {name: f"{name}.nii.gz" for name in ("ct", "truth", *MAPS)}
        assert sorted(path.name for path in into.iterdir()) == sorted(placed.values())
    assert (into / "truth.nii.gz").samefile(truth.path)
    assert (into / "ct.nii.gz").samefile(scan.path)
    assert not (into / "ct.nii.gz").is_symlink()
    assert (into / "tumor.nii.gz").samefile(small_run.results / f"{CASE}.nii.gz")


@pytest.mark.parametrize("error", [OSError(18, "Invalid cross-device link"), NotImplementedError()])
def test_where_the_system_cannot_link_they_are_copied(place, scan, into, monkeypatch, error):
    def refuse(*_):
        raise error

    monkeypatch.setattr(os, "link", refuse)
    placed = place(scan=scan)
    assert not (into / "ct.nii.gz").samefile(scan.path)
    assert (into / "ct.nii.gz").read_bytes() == scan.path.read_bytes()
    assert sorted(path.name for path in into.iterdir()) == sorted(placed.values())


def test_only_what_is_there_is_placed(small_run, place):
    for suffix in ("_lungs", "_uncertainty"):
        (small_run.results / f"{CASE}{suffix}.nii.gz").unlink()
    gone = Scan(case=CASE, path=small_run.images / "gone.nii.gz")
    placed = place(scan=gone, truth=LabelFile(small_run.truths / "gone.nii.gz", TumorLabel()))
    assert sorted(placed) == sorted(set(MAPS) - {"lungs", "uncertainty"})
    assert place("unknown", record=None) == {}


def test_a_map_that_the_record_does_not_list_is_another_runs(record, place):
    listed = {name: size for name, size in record.files.items() if "lungs" not in name}
    assert "lungs" not in place(record=replace(record, files=listed))
    assert "lungs" in place(record=replace(record, files=None))
    assert "lungs" in place(record=None)


def test_no_name_and_no_link_leads_out_of_the_results(small_run, place, tmp_path):
    shutil.copy(small_run.truths / f"{CASE}.nii.gz", tmp_path / "outside.nii.gz")
    (small_run.results / "inner").mkdir()
    for case in ("../outside", str(tmp_path / "outside"), "inner/../../outside"):
        assert place(case, record=None) == {}
    lungs = small_run.results / f"{CASE}_lungs.nii.gz"
    lungs.unlink()
    lungs.symlink_to(tmp_path / "outside.nii.gz")
    assert place().keys() & {"lungs", "tumor"} == {"tumor"}


def test_other_formats_become_nifti(place, into, tmp_path):
    array, tumor = drawn()["ct"].astype(np.float32) + 0.4, drawn()[""]
    grid = Grid(shape=array.shape, spacing_mm=(3.0, 2.0, 1.0), origin_mm=(4.0, 5.0, 6.0))
    write_image(array, grid, tmp_path / "ct.mha")
    write_image(tumor, grid, tmp_path / "truth.mha")
    truth = LabelFile(tmp_path / "truth.mha", TumorLabel())
    placed = place(scan=Scan(case=CASE, path=tmp_path / "ct.mha"), truth=truth)
    assert (placed["ct"], placed["truth"]) == ("ct.nii.gz", "truth.nii.gz")
    found = read_volume(into / "ct.nii.gz")
    assert found.grid.difference(grid) is None
    assert np.array_equal(found.array, drawn()["ct"])
    assert np.array_equal(read_volume(into / "truth.nii.gz").array, tumor)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_of_true_labels_of_several_kinds_the_tumor_alone_is_shown(small_run, place, into, orientation):
    record = small_run.write(CASE, orientation=orientation)
    path = small_run.truths / f"{CASE}.nii.gz"
    volume = read_volume(path)
    labels = volume.array * 2
    labels[:2] = 1
    write_image(labels, volume.grid, path)
    place(record=record, truth=LabelFile(path, TumorLabel(values=(2,))))
    shown = read_volume(into / "truth.nii.gz")
    assert np.array_equal(shown.array, volume.array)
    assert shown.grid.difference(volume.grid) is None


def test_true_labels_that_cannot_be_read_cost_nothing_else(small_run, place):
    (small_run.truths / f"{CASE}.nii.gz").write_bytes(b"no image")
    truth = LabelFile(small_run.truths / f"{CASE}.nii.gz", TumorLabel())
    assert set(place(truth=truth)) == set(MAPS)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_series_becomes_nifti_in_16_bits_where_it_lies(place, series, into, orientation):
    scan, array, grid = series(orientation)
    assert place(scan=scan)["ct"] == "ct.nii.gz"
    assert nib.load(into / "ct.nii.gz").get_data_dtype() == np.int16
    found = read_volume(into / "ct.nii.gz")
    assert found.grid.difference(grid) is None
    assert np.array_equal(found.array, array)
    assert sorted(path.suffix for path in into.iterdir()) == [".gz"] * 8


def test_half_units_are_rounded_and_a_series_that_makes_no_volume_is_said_and_leaves_nothing(
    place, series, into, tmp_path
):
    scan, array, _ = series(rescale=((0.5, -1024.0),))
    place(scan=scan)
    assert np.array_equal(read_volume(into / "ct.nii.gz").array, array)
    shutil.rmtree(into)
    into.mkdir()
    scan.slices[3].write_bytes(scan.slices[3].read_bytes()[:600])
    with pytest.raises(DicomError):
        place(scan=scan)
    (tmp_path / "ct.mha").write_bytes(b"no image")
    with pytest.raises(InputImageError, match=r"ct\.mha"):
        place(scan=Scan(case=CASE, path=tmp_path / "ct.mha"))
    assert list(into.iterdir()) == []


@pytest.fixture
def template():
    environment = Environment(
        loader=PackageLoader("nnunet_cascade.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("viewer.html")


def told(record, volumes=VOLUMES, library="niivue.js", problem=""):
    known = record if isinstance(record, CaseRecord) else CaseRecord.from_json(record)
    return viewer_data(known, volumes, assets="../../assets", library=library, problem=problem)


def layers(record):
    return {layer["name"]: layer for layer in told(record)["layers"]}


def test_every_image_of_a_case_has_a_layer_and_no_other():
    assert {name: layer["file"] for name, layer in layers({}).items()} == {
        name: file for name, file in VOLUMES.items() if name != "ct"
    }
    found = told({}, {"tumor": "tumor.nii.gz"})
    assert (found["ct"], [layer["name"] for layer in found["layers"]]) == ("", ["tumor"])


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_places_are_the_middles_of_lesions_and_candidates_in_mm(small_run, orientation):
    record = small_run.write("a", orientation=orientation)
    volume = read_volume(small_run.results / "a_candidates.nii.gz")
    places = told(record)["places"]
    assert [place["title"] for place in places] == ["lesion 1", "candidate 1, kept", "candidate 2, dropped"]
    for number, place in zip((1, 1, 2), places, strict=True):
        middle = np.argwhere(volume.array == number).mean(axis=0)
        assert place["lps_mm"] == pytest.approx(volume.grid.world_mm(tuple(middle)))


def test_a_candidate_has_the_color_of_its_verdict_and_a_number_that_no_map_can_hold_none(small_run):
    record = small_run.write("a").to_json()
    record["candidates"] += [{**record["candidates"][1], "id": 10**15}]
    labels = layers(record)["candidates"]["labels"]
    assert [(label["id"], label["color"]) for label in labels] == [(1, PREDICTED.color), (2, DROPPED.color)]


def test_a_measure_has_the_figures_colors_and_its_full_one_at_the_most_there_can_be():
    for measure, top in {"variance": 0.25, "mutual_information": 0.693, "": 0.25}.items():
        shown = layers({"uncertainty": {"measure": measure}})
        assert (shown["uncertainty"]["top"], shown["probability"]["top"]) == (top, 1)
    layer = layers({})["uncertainty"]
    colors, stops = layer["colors"], layer["stops"]
    assert stops == sorted(set(stops))
    expected = heat(np.array(stops, dtype=np.float32) / 255)[:, :3]
    found = np.array([list(bytes.fromhex(color[1:])) for color in colors])
    assert (stops[0], stops[-1]) == (0, 255)
    assert np.abs(found - expected).max() <= 3


@pytest.mark.parametrize(
    "record",
    [
        {"lesions": 3, "candidates": {"a": 1}, "grid": [1]},
        {"lesions": [{"box": {"start": [0, 0, 0], "stop": [2, 2, 2]}}]},
        {"grid": {"shape": [0, 1, 1], "spacing_mm": [1, 1, 1], "origin_mm": [0, 0, 0], "axes": [[1], [2], [3]]}},
    ],
)
def test_what_a_record_tells_wrongly_is_left_out(record):
    assert told(record)["places"] == []


def test_text_of_a_record_cannot_leave_the_pages_data(template, small_run):
    data = told(small_run.write("a", uncertainty={"measure": EVIL}), {**VOLUMES, "ct": EVIL})
    data["places"][0]["title"] = EVIL
    page = template.render(viewer=data)
    assert "<script>alert" not in page
    block = page.split('id="viewer-data">')[1].split("</script>")[0]
    assert json.loads(block) == json.loads(json.dumps(data))
    scripts = page.split("<script")[1:]
    assert all(' src="' in tag.split(">")[0] or 'type="application/json"' in tag.split(">")[0] for tag in scripts)
    assert "style=" not in page
    assert "<style" not in page


@pytest.mark.parametrize(
    ("volumes", "library", "expected"),
    [
        (VOLUMES, "", "There is no viewer in this report: no network &lt;b&gt;"),
        ({}, "niivue.js", "There is no image of this case"),
        ({"tumor": "tumor.nii.gz"}, "niivue.js", "The CT is not where the run found it"),
    ],
)
def test_what_is_missing_is_said(template, volumes, library, expected):
    assert expected in template.render(viewer=told({}, volumes, library, "no network <b>"))
