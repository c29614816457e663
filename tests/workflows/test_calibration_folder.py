"""A folder of results with ground truth: what is measured, what the bundle gets, what is refused."""

import json
import math

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
from nnunet_cascade.geometry import Grid
from nnunet_cascade.images import write_image
from nnunet_cascade.prediction.spec import CascadeSpec, SamplingSettings
from nnunet_cascade.workflows.calibration import (
    AFTER,
    CalibrationRequest,
    calibrate,
    find_results,
    knows_of_training,
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
    return CalibrationRequest(
        **{
            "bundle": drawn.bundle,
            "results": drawn.results,
            "truths": drawn.labels,
            "resampling": FEW_DRAWS,
            **changed,
        }
    )


def story_of(drawn, **changed):
    request = request_of(drawn, **changed)
    found = find_results(request.results)
    measured = tuple(measure_results(found, request))
    return CalibrationReport(
        request=request,
        found=found,
        measured=measured,
        calibration=calibrate(measured, request),
        run=RunContext(begun=0.0, command=("-m", "bundle")),
    )


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
    for name in "abcd":
        drawn.write(name)
    (drawn.bundle / "stage1").mkdir()
    before = read_spec(drawn.bundle)
    story = story_of(drawn)
    assert story.calibration.fit.temperature == pytest.approx(2.0, rel=0.1)
    assert reason_against(story) == ""
    store_temperature(story)
    after = read_spec(drawn.bundle)
    assert after.stage2.temperature == story.calibration.fit.temperature
    assert CascadeSpec.from_json(
        {**after.to_json(), "stage2": {**after.to_json()["stage2"], "temperature": 1.0}}, where="test"
    ) == (before)
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


def test_the_bundle_learns_no_names_of_cases_and_no_path(drawn):
    for name in ("patient_smith", "patient_jones", "patient_doe"):
        drawn.write(name)
    text = json.dumps(provenance(story_of(drawn)))
    assert "smith" not in text
    assert str(drawn.root) not in text


def test_the_report_tells_every_case(drawn):
    pytest.importorskip("matplotlib", reason="matplotlib is for pictures alone")
    for name in "abc":
        drawn.write(name)
    (drawn.labels / "b.nii.gz").unlink()
    out = drawn.root / "out"
    out.mkdir()
    told = json.loads(write_report(story_of(drawn), out).read_text())
    assert told["cases"]["b"]["status"] == "failed"
    assert told["cases"]["a"]["regions"]["surface"]["after"]["nll"] > 0
    assert {path.name for path in out.iterdir()} == {
        "calibration.json",
        "calibration.md",
        "reliability_union.png",
        "reliability_surface.png",
    }
    assert "1 of 3 cases failed" in (out / "calibration.md").read_text()


def test_held_out_cases_are_not_in_their_fit(drawn):
    for name, sharpness in zip("abc", (1.0, 2.0, 3.0), strict=True):
        drawn.write(name, sharpness=sharpness)
    held_out = story_of(drawn).calibration.held_out
    temperatures = held_out["union"].temperatures
    assert temperatures["c"] < temperatures["b"] < temperatures["a"]
    assert held_out["surface"].temperatures == temperatures


def test_the_region_of_the_fit_can_be_the_surface(drawn):
    for name in "abc":
        drawn.write(name)
    story = story_of(drawn, region="surface")
    counts = [case.counts["surface"].voxels for case in story.measured]
    assert story.calibration.fit.voxels == sum(counts)
    assert provenance(story)["region"]["name"] == "surface"


def test_results_of_another_temperature_are_refused(drawn):
    drawn.write("a")
    drawn.write("b", spec=stage2(temperature=1.7))
    with pytest.raises(TemperatureError, match=r"1 of 2 results, such as b, were made with temperature 1\.7"):
        find_results(drawn.results)


def test_results_from_before_there_was_a_temperature_are_taken(drawn):
    drawn.write("a")
    path = drawn.results / "a.json"
    record = json.loads(path.read_text())
    del record["settings"]["stage2"]["temperature"]
    path.write_text(json.dumps(record))
    assert find_results(drawn.results)[0].temperature == 1


def test_a_temperature_that_does_not_carry_over_is_not_stored(drawn):
    drawn.write("a", sharpness=0.3)
    drawn.write("b", sharpness=4.0)
    story = story_of(drawn)
    assert "on cases it was not fitted to, NLL grows" in reason_against(story)
    assert conclusions(story)[-1].startswith("Not stored")


def test_one_case_checks_nothing(drawn):
    drawn.write("a")
    story = story_of(drawn)
    assert "no case could be left out of 1" in reason_against(story)
    assert story.calibration.interval is None
    json.dumps(provenance(story), allow_nan=False)


def test_results_without_samples_are_calibrated_too(drawn):
    for name in "abc":
        drawn.write(name, uncertainty=False)
    story = story_of(drawn)
    assert math.isnan(story.measured[0].uncertainty)
    assert provenance(story)["uncertainty"] is None


def test_a_threshold_that_scaling_moves_is_told(drawn):
    for name in "ab":
        drawn.write(name)
    assert "masks will change" not in " ".join(conclusions(story_of(drawn)))
    (drawn.bundle / "cascade.json").write_text(json.dumps(stage2(threshold=0.3).to_json()))
    assert "stage2.threshold is 0.3, not 0.5" in " ".join(conclusions(story_of(drawn)))


def test_bad_cases_are_named_and_passed_over(drawn):
    for name in "abcde":
        drawn.write(name)
    (drawn.labels / "b.nii.gz").unlink()
    write_image(
        np.zeros((3, 4, 5), np.uint8), Grid(shape=(3, 4, 5), spacing_mm=(1.0, 1.0, 1.0)), drawn.labels / "c.nii.gz"
    )
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


def test_truths_without_a_tumor_are_refused(drawn):
    drawn.write("a")
    write_image(np.zeros(GRID.shape, np.uint8), GRID, drawn.labels / "a.nii.gz")
    with pytest.raises(TemperatureError, match="without a tumor voxel"):
        story_of(drawn)


class TestWhatIsKnownOfTraining:
    def lines(self, drawn):
        found = find_results(drawn.results)
        return " ".join(knows_of_training(found, [], drawn.bundle))

    def test_results_of_single_folds_count_as_out_of_fold(self, drawn):
        (drawn.bundle / "cascade.json").write_text(json.dumps(stage2(folds=[0, 1]).to_json()))
        for fold, case in enumerate("ab"):
            drawn.write(case, spec=stage2(folds=[fold]))
        lines = self.lines(drawn)
        assert "taken as out of fold" in lines
        assert "averages 2 folds" in lines

    def test_cases_that_were_cross_validated_were_trained_on(self, drawn):
        beside = drawn.root / "bundle_cross_validation"
        for case in "ab":
            drawn.write(case)
        drawn.write("a", folder=beside)
        story = story_of(drawn)
        assert any("1 of 2 cases were in the bundle's training" in line for line in conclusions(story))

    def test_otherwise_nothing_is_known(self, drawn):
        drawn.write("a")
        assert "Nothing tells" in self.lines(drawn)

    def test_settings_that_differ_are_named(self, drawn):
        drawn.write("a", spec=CascadeSpec(sampling=SamplingSettings(mc_samples=5)))
        found = find_results(drawn.results)
        assert other_settings(found, drawn.bundle) == ("sampling.mc_samples",)
        drawn.write("a")
        assert other_settings(find_results(drawn.results), drawn.bundle) == ()
