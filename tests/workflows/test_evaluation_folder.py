"""Folders of predictions against true labels: files, labels, grids, records, workers."""

import csv
import io
import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest
from builders.label_folders import CASES, GRID, SHAPE, LabelFolders, balls
from builders.oriented_grids import grid_towards
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunet_cascade.case_folders.prediction_files import TumorLabel
from nnunet_cascade.errors import InputImageError, SettingsError
from nnunet_cascade.evaluation.case import score_case
from nnunet_cascade.evaluation.summary import scores_csv
from nnunet_cascade.images import read_volume
from nnunet_cascade.workflows.evaluation import (
    EvaluationRequest,
    Predictions,
    evaluate_cases,
    recorded_uncertainty,
    tell_of_gaps,
    true_labels,
    values_by_method,
)
from nnunet_cascade.workflows.evaluation_output import score_lines
from nnunet_cascade.workflows.evaluation_workers import LabelFile, ScoreJob, score_jobs


@pytest.fixture
def folders(tmp_path):
    return LabelFolders(tmp_path)


@pytest.fixture
def request_of(folders):
    """Ask for methods by name and place, in this process."""

    def build(*places, **changes):
        methods = tuple(Predictions(name=name, place=folders[place]) for name, place in places)
        plain = EvaluationRequest(truths=folders["gt"], predictions=methods, output=folders["out"], processes=1)
        return replace(plain, **changes)

    return build


def evaluated(request):
    return dict(evaluate_cases(request, true_labels(request.truths)))


def statuses(outcomes, method):
    return {case: of_case[method].status for case, of_case in sorted(outcomes.items())}


def test_scores_are_those_of_the_masks(folders, request_of):
    outcomes = evaluated(request_of(("coarse", "coarse"), ("fine", "fine")))
    assert len(outcomes) == CASES
    masks = [read_volume(folders[name] / "case_07.nii.gz").array > 0 for name in ("gt", "coarse")]
    known = score_case("case_07", *masks, GRID.spacing_mm)
    values = outcomes["case_07"]["coarse"].values
    assert (values["dice"], values["hd95_mm"]) == (known.dice, known.hd95_mm)
    assert values["false_positive_components"] == 4


def test_several_processes_give_what_one_gives(request_of):
    alone = evaluated(request_of(("coarse", "coarse")))
    assert evaluated(request_of(("coarse", "coarse"), processes=2)) == alone


def test_dice_is_that_of_nnunets_own_evaluation(folders, request_of):
    folders.write("fine", "case_00", balls())
    folders.write("gt", "case_01", balls())
    folders.write("fine", "case_01", balls())
    outcomes = evaluated(request_of(("fine", "fine")))
    with np.errstate(all="ignore"):
        known = compute_metrics_on_folder(
            str(folders["gt"]), str(folders["fine"]), None, SimpleITKIO(), ".nii.gz", [1], num_processes=1
        )
    assert len(known["metric_per_case"]) == CASES
    for of_case in known["metric_per_case"]:
        case = os.path.basename(of_case["prediction_file"]).removesuffix(".nii.gz")  # noqa: PTH119 - nnU-Net's string
        ours = outcomes[case]["fine"].values["dice"]
        assert ours == pytest.approx(of_case["metrics"][1]["Dice"], abs=1e-12, nan_ok=True)
    assert math.isnan(outcomes["case_01"]["fine"].values["dice"])
    dices = [of_case["fine"].values["dice"] for of_case in outcomes.values()]
    assert np.nanmean(dices) == pytest.approx(known["mean"][1]["Dice"])


class TestGaps:
    def test_missing_and_extra_cases_are_counted_and_named(self, folders, request_of):
        for number in range(6):
            (folders["fine"] / f"case_{number:02d}.nii.gz").unlink()
        folders.write("fine", "stranger", balls())
        request = request_of(("coarse", "coarse"), ("fine", "fine"))
        outcomes = evaluated(request)
        assert list(statuses(outcomes, "fine").values()) == ["missing"] * 6 + ["done"] * 6
        assert tell_of_gaps(request, outcomes, true_labels(request.truths)) == [
            "fine: 6 of 12 cases missing: case_00, case_01, case_02, case_03, case_04 and 1 more",
            "fine: 1 predictions without true labels, left out: stranger",
        ]
        assert len(values_by_method(request, outcomes)["fine"]) == 6

    def test_what_nnc_cascade_predict_leaves_beside_a_mask_is_no_other_case(self, folders, request_of):
        (folders["fine"] / "case_00.json").write_text("{}")
        folders.write("fine", "case_00_probability", balls())
        folders.write("fine", "case_01_probability", balls())
        request = request_of(("fine", "fine"))
        lines = tell_of_gaps(request, evaluated(request), true_labels(request.truths))
        assert lines == ["fine: 1 predictions without true labels, left out: case_01_probability"]

    @pytest.mark.parametrize("place", ["nowhere", "empty", "nowhere/*_stage1.nii.gz", "fine/*_stage1.nii.gz"])
    def test_a_folder_without_any_of_the_cases_is_one_line(self, folders, request_of, place):
        (folders.root / "empty").mkdir()
        with pytest.raises(InputImageError, match=r"^fine: .*(does not exist|holds none of the 12 cases)"):
            evaluated(request_of(("fine", place)))

    def test_a_pattern_says_where_the_case_stands_in_the_name(self, folders, request_of):
        for path in sorted(folders["fine"].glob("*")):
            path.rename(path.with_name(path.name.replace(".nii.gz", "_stage1.nii.gz")))
        outcomes = evaluated(request_of(("stage 1", "fine/*_stage1.nii.gz")))
        assert set(statuses(outcomes, "stage 1").values()) == {"done"}

    def test_one_file_is_one_case(self, folders, request_of):
        request = request_of(("fine", "fine/case_03.nii.gz"), truths=folders["gt"] / "case_03.nii.gz")
        assert statuses(evaluated(request), "fine") == {"case_03": "done"}


class TestBadCases:
    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda f: (f["fine"] / "case_04.nii.gz").write_bytes(b"bad"), "cannot be read"),
            (
                lambda f: f.write("fine", "case_04", balls(), replace(GRID, spacing_mm=(3, 1, 1.1))),
                "not on the image's",
            ),
            (
                lambda f: f.write("fine", "case_04", np.zeros(SHAPE)[:9], grid_towards("LPS", (9, 24, 24), (3, 1, 1))),
                "9",
            ),
            (lambda f: f.write("fine", "case_04", balls((1, 1, 1, 3), value=2)), "say which is tumor by --tumor_label"),
            (lambda f: f.write("fine", "case_04", np.full(SHAPE, 0.5, np.float32)), "holds the value 0.5"),
        ],
    )
    def test_one_costs_one_score_and_says_why(self, folders, request_of, change, reason, caplog):
        change(folders)
        outcomes = evaluated(request_of(("coarse", "coarse"), ("fine", "fine")))
        assert reason in outcomes["case_04"]["fine"].error
        assert [name for name, status in statuses(outcomes, "fine").items() if status == "failed"] == ["case_04"]
        assert set(statuses(outcomes, "coarse").values()) == {"done"}
        assert [record.getMessage().count("\n") for record in caplog.records] == [0]
        assert caplog.records[0].getMessage().startswith("fine: case_04: ")

    def test_bad_true_labels_cost_the_case_of_every_method(self, folders, request_of):
        (folders["gt"] / "case_04.nii.gz").write_bytes(b"bad")
        outcomes = evaluated(request_of(("coarse", "coarse"), ("fine", "fine")))
        assert {outcome.status for outcome in outcomes["case_04"].values()} == {"failed"}
        assert sum(of_case["fine"].status == "done" for of_case in outcomes.values()) == CASES - 1

    def test_a_worker_that_is_killed_costs_its_case(self, folders):
        class Deadly(str):
            __slots__ = ()

            def __reduce__(self):
                return os._exit, (9,)

        def job(case, name):
            file = LabelFile(folders["gt"] / "case_00.nii.gz", TumorLabel())
            return ScoreJob(case=case, truth=file, predictions={name: file})

        found = score_jobs([job("case_00", "fine"), job("deadly", Deadly("fine"))], 2)
        by_case = {job.case: scored["fine"] for job, scored in found}
        assert by_case["case_00"].values["dice"] == 1.0
        assert "its process was killed" in by_case["deadly"].error


class TestLabels:
    def test_labels_may_differ_between_truth_and_methods(self, folders, request_of):
        for number in range(CASES):
            case = f"case_{number:02d}"
            labels = read_volume(folders["gt"] / f"{case}.nii.gz").array.astype(np.uint8)
            folders.write("gt", case, 2 * labels + (labels == 0))
        outcomes = evaluated(request_of(("fine", "fine"), truth_tumor=TumorLabel(values=(2,), named=True)))
        assert outcomes["case_00"]["fine"].values["reference_ml"] == pytest.approx(0.15)
        assert 0.5 < outcomes["case_00"]["fine"].values["dice"] < 1

    def test_a_value_that_is_no_label_is_a_bad_case(self, folders, request_of):
        folders.write_labels("fine", background=0, tumor=1)
        folders.write("fine", "case_02", balls((1, 1, 1, 3), value=7))
        method = Predictions(name="fine", place=folders["fine"], tumor=TumorLabel.of(folders["fine"]))
        outcomes = evaluated(request_of(("fine", "fine"), predictions=(method,)))
        assert "holds the value 7; dataset.json knows 0, 1" in outcomes["case_02"]["fine"].error


class TestGoingOn:
    def test_what_was_scored_is_taken_over(self, request_of):
        request = request_of(("fine", "fine"), resume=True)
        first = evaluated(request)
        second = evaluated(request)
        assert set(statuses(second, "fine").values()) == {"skipped"}
        assert all(dict(second[case]["fine"].values) == dict(first[case]["fine"].values) for case in first)

    def test_undefined_scores_stay_undefined(self, folders, request_of):
        for name in ("gt", "fine"):
            folders.write(name, "case_00", balls())
        request = request_of(("fine", "fine"), resume=True)
        evaluated(request)
        assert math.isnan(evaluated(request)["case_00"]["fine"].values["dice"])

    def test_files_that_changed_are_scored_anew(self, folders, request_of):
        request = request_of(("fine", "fine"), resume=True)
        evaluated(request)
        folders.write("fine", "case_00", balls((0, 0, 0, 9)))
        folders.write("gt", "case_01", balls((0, 0, 0, 9)))
        found = statuses(evaluated(request), "fine")
        assert [case for case, status in found.items() if status == "done"] == ["case_00", "case_01"]

    def test_another_method_is_scored_alone(self, request_of):
        evaluated(request_of(("fine", "fine"), resume=True))
        outcomes = evaluated(request_of(("fine", "fine"), ("coarse", "coarse"), resume=True))
        assert set(statuses(outcomes, "fine").values()) == {"skipped"}
        assert set(statuses(outcomes, "coarse").values()) == {"done"}

    def test_other_labels_are_scored_anew(self, request_of):
        evaluated(request_of(("fine", "fine"), resume=True))
        found = evaluated(request_of(("fine", "fine"), resume=True, truth_tumor=TumorLabel(values=(1, 2), named=True)))
        assert set(statuses(found, "fine").values()) == {"done"}

    def test_a_case_that_failed_is_tried_again(self, folders, request_of):
        request = request_of(("fine", "fine"), resume=True)
        (folders["fine"] / "case_00.nii.gz").write_bytes(b"bad")
        assert evaluated(request)["case_00"]["fine"].status == "failed"
        folders.write("fine", "case_00", balls())
        assert evaluated(request)["case_00"]["fine"].status == "done"


class TestUncertainty:
    def test_records_of_nnc_cascade_predict_give_it(self, folders, request_of):
        block = {"measure": "variance", "mean_in_tumor": 0.02, "mean_in_rois": None}
        stage1 = {"uncertainty": {"measure": "variance", "mean_in_mask": 0.05}}
        for number in range(CASES):
            case = f"case_{number:02d}"
            (folders["fine"] / f"{case}.json").write_text(json.dumps({"uncertainty": block, "stage1": stage1}))
            folders.write("fine", f"{case}_stage1", balls((1, 2, 2, 5)))
        outcomes = evaluated(request_of(("stage 1", "fine/*_stage1.nii.gz"), ("cascade", "fine")))["case_00"]
        assert outcomes["cascade"].values["mean_variance_in_tumor"] == 0.02
        assert math.isnan(outcomes["cascade"].values["mean_variance_in_rois"])
        assert outcomes["stage 1"].values["mean_variance_in_tumor"] == 0.05
        assert "mean_variance_in_rois" not in outcomes["stage 1"].values

    @pytest.mark.parametrize(
        ("measure", "metric"),
        [
            ("population variance of the tumor probability", "mean_variance_in_tumor"),
            ("predictive_entropy", "mean_predictive_entropy_in_tumor"),
            ("mutual_information", "mean_mutual_information_in_tumor"),
        ],
    )
    def test_each_measure_is_a_metric_of_its_own(self, tmp_path, measure, metric):
        path = tmp_path / "a.json"
        path.write_text(json.dumps({"uncertainty": {"measure": measure, "mean_in_tumor": 0.1}}))
        assert recorded_uncertainty(path)[metric] == 0.1

    def test_what_is_no_finite_number_is_undefined(self, tmp_path):
        path = tmp_path / "a.json"
        path.write_text('{"uncertainty": {"measure": "variance", "mean_in_tumor": Infinity}}')
        assert math.isnan(recorded_uncertainty(path)["mean_variance_in_tumor"])

    @pytest.mark.parametrize(
        "text",
        ["", "[]", "{}", '{"uncertainty": null}', '{"uncertainty": {"measure": "guess"}}', '{"uncertainty": "high"}'],
    )
    def test_other_records_give_none(self, tmp_path, text):
        path = tmp_path / "a.json"
        path.write_text(text)
        assert recorded_uncertainty(path) == {}
        assert recorded_uncertainty(path, of_stage1=True) == {}


def test_the_table_has_a_line_for_every_method_and_case(folders, request_of):
    (folders["fine"] / "case_00.nii.gz").unlink()
    (folders["fine"] / "case_01.nii.gz").write_bytes(b"bad")
    text = scores_csv(score_lines(evaluated(request_of(("coarse", "coarse"), ("fine", "fine")))))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 2 * CASES
    assert [(row["method"], row["case"]) for row in rows[:2]] == [("coarse", "case_00"), ("coarse", "case_01")]
    assert [row["status"] for row in rows[CASES : CASES + 3]] == ["missing", "failed", "done"]
    assert rows[CASES]["dice"] == ""
    assert "cannot be read" in rows[CASES + 1]["error"]
    assert float(rows[0]["lesions"]) == 1


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a*", "a:b"])
def test_a_name_that_can_be_no_folder_is_refused(folders, name):
    with pytest.raises(SettingsError, match="give NAME=PREDICTIONS"):
        Predictions(name=name, place=folders["fine"])


@pytest.mark.parametrize("place", ["*/x.nii.gz", "fine/*_*.nii.gz"])
def test_a_pattern_has_one_case(folders, place):
    with pytest.raises(SettingsError, match="one \\* at most"):
        Predictions(name="a", place=folders[place])


def test_methods_need_different_names_and_a_process(request_of):
    with pytest.raises(SettingsError, match="expected different names"):
        request_of(("a", "fine"), ("a", "coarse"))
    with pytest.raises(SettingsError, match="expected different names"):
        request_of()
    with pytest.raises(SettingsError, match="at least 1"):
        request_of(("a", "fine"), processes=0)
