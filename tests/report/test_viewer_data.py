"""What the viewer of a page is told, and how the page says it."""

import json

import numpy as np
import pytest
from builders.oriented_grids import ORIENTATIONS
from jinja2 import Environment, PackageLoader, StrictUndefined

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.images import read_volume
from nnunet_cascade.report.figures.palette import DROPPED, PREDICTED, heat
from nnunet_cascade.report.viewing.viewer import viewer_data
from nnunet_cascade.report.viewing.volumes import MAPS

VOLUMES = {name: f"{name}.nii.gz" for name in ("ct", "truth", *MAPS)}
EVIL = "</script><script>alert(1)</script>"


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


def test_a_measure_has_the_figures_colors():
    layer = layers({})["uncertainty"]
    colors, stops = layer["colors"], layer["stops"]
    assert stops == sorted(set(stops))
    expected = heat(np.array(stops, dtype=np.float32) / 255)[:, :3]
    found = np.array([list(bytes.fromhex(color[1:])) for color in colors])
    assert (stops[0], stops[-1]) == (0, 255)
    assert np.abs(found - expected).max() <= 3


@pytest.mark.parametrize(("measure", "top"), [("variance", 0.25), ("mutual_information", 0.693), ("", 0.25)])
def test_an_uncertainty_has_its_full_color_at_the_most_there_can_be(measure, top):
    shown = layers({"uncertainty": {"measure": measure}})
    assert (shown["uncertainty"]["top"], shown["probability"]["top"]) == (top, 1)


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
    record = small_run.write("a", uncertainty={"measure": EVIL})
    data = told(record, {**VOLUMES, "ct": EVIL})
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
