"""A folder of results with ground truth: what is measured, what the bundle gets, what is refused."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from builders.drawn_results import GRID, DrawnResults, stage2

from nnunet_cascade.bundles.bundle import read_spec
from nnunet_cascade.case_folders.run_report import RunContext
from nnunet_cascade.errors import InputImageError
from nnunet_cascade.evaluation.calibration.counts import count_voxels
from nnunet_cascade.evaluation.calibration.regions import region_of
from nnunet_cascade.evaluation.calibration.temperature import TemperatureError
from nnunet_cascade.evaluation.statistics.bootstrap import Resampling
from nnunet_cascade.images import write_image
from nnunet_cascade.prediction.spec import CascadeSpec, SamplingSettings
from nnunet_cascade.workflows.calibration import (
    AFTER,
    CalibrationRequest,
    calibrate,
    find_results,
    measure_results,
    other_settings,
)
from nnunet_cascade.workflows.calibration_report import (
    CalibrationReport,
    conclusions,
    provenance,
    reason_against,
    store_temperature,
    write_report,
)

FEW_DRAWS = Resampling(resamples=100)


def request_of(drawn, **changed):
    places = {"bundle": drawn.bundle, "results": drawn.results, "truths": drawn.labels}
    return CalibrationRequest(**places, resampling=FEW_DRAWS, **changed)


def story_of(drawn, cases="", region="union", **written):
    """Write some cases and calibrate on all that are there."""
    for case in cases:
        drawn.write(case, **written)
    request = request_of(drawn, region=region)
    found = find_results(request.results)
    measured = tuple(measure_results(found, request))
    run, calibration = RunContext(begun=0.0, command=("-m", "bundle")), calibrate(measured, request)
    return CalibrationReport(request=request, found=found, measured=measured, calibration=calibration, run=run)


@pytest.fixture
def drawn(tmp_path):
    return DrawnResults(tmp_path)


def test_a_case_is_counted_in_its_regions_where_stage_2_looked(drawn):
    probability, truth, roi = drawn.write("a")
    (case,) = measure_results(find_results(drawn.results), request_of(drawn))
    for name in ("union", "surface"):
        region = region_of(name, truth, probability >= 0.5, GRID.spacing_mm)
        assert (region & ~roi).any()
        np.testing.assert_allclose(case.counts[name].flat(), count_voxels(probability, truth, region & roi).flat())
        np.testing.assert_allclose(case.everywhere[name].flat(), count_voxels(probability, truth, region).flat())
    tumor = probability >= 0.5
    assert case.dice == pytest.approx(2 * (truth & tumor).sum() / (truth.sum() + tumor.sum()))
    assert case.uncertainty == pytest.approx((probability * (1 - probability))[tumor].mean(), rel=1e-5)
    assert case.overlaps["surface"].auroc > 0.5


def test_the_temperature_goes_into_the_bundle_with_where_it_comes_from(drawn):
    (drawn.bundle / "stage1").mkdir()
    before = read_spec(drawn.bundle)
    story = story_of(drawn, "abcd")
    assert story.calibration.fit.temperature == pytest.approx(2.0, rel=0.1)
    assert reason_against(story) == ""
    store_temperature(story)
    after = read_spec(drawn.bundle)
    assert after.stage2.temperature == story.calibration.fit.temperature
    assert replace(after, stage2=replace(after.stage2, temperature=1.0)) == before
    told = json.loads((drawn.bundle / "calibration.json").read_text())
    assert told["temperature"] == after.stage2.temperature
    assert (told["results"]["folder"], told["results"]["cases"], told["region"]["name"]) == ("results", 4, "union")
    assert told["interval"]["low"] < told["temperature"] < told["interval"]["high"]
    assert told["resampling"]["seed"] == FEW_DRAWS.seed
    nll = next(row for row in told["held_out"]["union"] if row["method"] == AFTER and row["measure"] == "nll")
    assert nll["pooled_difference"]["value"] < 0
    assert told["in_sample"]["union"]["after"]["nll"] < told["in_sample"]["union"]["before"]["nll"]
    assert told["uncertainty"]["cases"] == 4
    assert not [path for path in drawn.bundle.iterdir() if path.name.startswith(".")]


def test_the_report_tells_every_case_and_the_bundle_learns_no_name_and_no_path(drawn):
    for name in ("smith", "doe", "roe"):
        drawn.write(name)
    (drawn.labels / "roe.nii.gz").unlink()
    out = drawn.root / "out"
    out.mkdir()
    story = story_of(drawn)
    text = json.dumps(provenance(story))
    assert not [word for word in ("smith", str(drawn.root)) if word in text]
    told = json.loads(write_report(story, out).read_text())
    assert told["cases"]["roe"]["status"] == "failed"
    assert told["cases"]["doe"]["regions"]["surface"]["after"]["nll"] > 0
    pages = ["calibration.json", "calibration.md", "reliability_surface.png", "reliability_union.png"]
    assert sorted(path.name for path in out.iterdir()) == pages
    assert "1 of 3 cases failed" in (out / "calibration.md").read_text()


def test_held_out_cases_are_not_in_their_fit(drawn):
    for name, sharpness in zip("abc", (1.0, 2.0, 3.0), strict=True):
        drawn.write(name, sharpness=sharpness)
    held_out = story_of(drawn).calibration.held_out
    temperatures = held_out["union"].temperatures
    assert temperatures["c"] < temperatures["b"] < temperatures["a"]
    assert held_out["surface"].temperatures == temperatures
    story = story_of(drawn, region="surface")
    assert story.calibration.fit.voxels == sum(case.counts["surface"].voxels for case in story.measured)
    assert provenance(story)["region"]["name"] == "surface"


def test_results_of_another_temperature_are_refused_and_those_without_one_have_1(drawn):
    drawn.write("a")
    record = json.loads((drawn.results / "a.json").read_text())
    del record["settings"]["stage2"]["temperature"]
    (drawn.results / "a.json").write_text(json.dumps(record))
    drawn.write("b", spec=stage2(temperature=1.7))
    with pytest.raises(TemperatureError, match=r"1 of 2 results, such as b, were made with temperature 1\.7"):
        find_results(drawn.results)


def test_a_temperature_that_does_not_carry_over_is_not_stored(drawn):
    drawn.write("a", sharpness=0.3)
    drawn.write("b", sharpness=4.0)
    story = story_of(drawn)
    assert "on cases it was not fitted to, NLL grows" in reason_against(story)
    assert conclusions(story)[-1].startswith("Not stored")


def test_one_case_checks_nothing_and_needs_no_samples(drawn):
    story = story_of(drawn, "a", uncertainty=False)
    assert "no case could be left out of 1" in reason_against(story)
    assert story.calibration.interval is None
    assert math.isnan(story.measured[0].uncertainty)
    assert provenance(story)["uncertainty"] is None


def test_a_threshold_that_scaling_moves_is_told(drawn):
    assert "masks will change" not in " ".join(conclusions(story_of(drawn, "ab")))
    (drawn.bundle / "cascade.json").write_text(json.dumps(stage2(threshold=0.3).to_json()))
    assert "stage2.threshold is 0.3, not 0.5" in " ".join(conclusions(story_of(drawn)))


def test_bad_cases_are_named_and_passed_over(drawn):
    for name in "abcde":
        drawn.write(name)
    (drawn.labels / "b.nii.gz").unlink()
    write_image(np.zeros((3, 4, 5), np.uint8), replace(GRID, shape=(3, 4, 5)), drawn.labels / "c.nii.gz")
    (drawn.results / "d_roi.nii.gz").unlink()
    errors = {case.case: case.error for case in story_of(drawn).measured if case.error}
    assert list(errors) == ["b", "c", "d"]
    assert "expected the true labels of b" in errors["b"]
    assert "not on the image's grid" in errors["c"]
    assert "d_roi.nii.gz does not exist" in errors["d"]


def test_folders_without_results_are_refused(drawn):
    with pytest.raises(InputImageError, match="expected a folder of nnc-cascade-predict"):
        find_results(drawn.results)
    drawn.write("a")
    (drawn.results / "a.json").write_text("{}")
    with pytest.raises(InputImageError, match="predict a again"):
        find_results(drawn.results)
    drawn.write("a")
    (drawn.labels / "a.nii.gz").unlink()
    with pytest.raises(InputImageError, match="no case could be measured"):
        story_of(drawn)


class TestWhatIsKnownOfTraining:
    def test_results_of_single_folds_count_as_out_of_fold(self, drawn):
        (drawn.bundle / "cascade.json").write_text(json.dumps(stage2(folds=[0, 1]).to_json()))
        drawn.write("a", spec=stage2(folds=[0]))
        lines = " ".join(conclusions(story_of(drawn, "b", spec=stage2(folds=[1]))))
        assert "taken as out of fold" in lines
        assert "averages 2 folds" in lines

    def test_cases_that_were_cross_validated_were_trained_on(self, drawn):
        assert "Nothing tells" in " ".join(conclusions(story_of(drawn, "ab")))
        drawn.write("a", folder=drawn.root / "bundle_cross_validation")
        assert "1 of 2 cases were in the bundle's training" in " ".join(conclusions(story_of(drawn)))

    def test_settings_that_differ_are_named(self, drawn):
        drawn.write("a", spec=CascadeSpec(sampling=SamplingSettings(mc_samples=5)))
        assert other_settings(find_results(drawn.results), drawn.bundle) == ("sampling.mc_samples",)
        drawn.write("a")
        assert other_settings(find_results(drawn.results), drawn.bundle) == ()
