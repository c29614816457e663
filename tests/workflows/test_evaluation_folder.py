"""Folders of predictions against true labels: files, labels, grids, records, workers."""

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from builders.label_folders import GRID, LabelFolders, balls
from nnunetv2.evaluation.evaluate_predictions import compute_metrics
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunet_cascade.case_folders.prediction_files import TumorLabel
from nnunet_cascade.errors import InputImageError, SettingsError
from nnunet_cascade.evaluation.case import score_case
from nnunet_cascade.evaluation.summary import scores_csv
from nnunet_cascade.images import read_volume
from nnunet_cascade.workflows import evaluation_workers
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
from nnunet_cascade.workflows.evaluation_workers import ScoreJob, score_jobs

CASES = 4


@pytest.fixture
def folders(tmp_path):
    found = LabelFolders(tmp_path)
    for path in tmp_path.glob("*/case_*"):
        if int(path.name[5:7]) >= CASES:
            path.unlink()
    return found


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
    masks = [read_volume(folders[name] / "case_03.nii.gz").array > 0 for name in ("gt", "coarse")]
    known = score_case("case_03", *masks, GRID.spacing_mm)
    values = outcomes["case_03"]["coarse"].values
    assert (values["dice"], values["hd95_mm"]) == (known.dice, known.hd95_mm)
    assert values["false_positive_components"] == 2


def test_several_processes_give_what_one_gives(request_of):
    alone = evaluated(request_of(("coarse", "coarse")))
    assert evaluated(request_of(("coarse", "coarse"), processes=2)) == alone


def test_dice_is_that_of_nnunets_own_evaluation(folders, request_of):
    folders.write("fine", "case_00", balls())
    folders.write("gt", "case_01", balls())
    folders.write("fine", "case_01", balls())
    outcomes = evaluated(request_of(("fine", "fine")))
    assert math.isnan(outcomes["case_01"]["fine"].values["dice"])
    for case, of_case in outcomes.items():
        files = [str(folders[name] / f"{case}.nii.gz") for name in ("gt", "fine")]
        with np.errstate(all="ignore"):
            known = compute_metrics(*files, SimpleITKIO(), [1])["metrics"][1]["Dice"]
        assert of_case["fine"].values["dice"] == pytest.approx(known, abs=1e-12, nan_ok=True)


class TestGaps:
    def test_missing_and_extra_cases_are_counted_and_named(self, folders, request_of):
        (folders["fine"] / "case_01.nii.gz").unlink()
        for number in range(6):
            folders.write("fine", f"extra{number}", balls())
        request = request_of(("coarse", "coarse"), ("fine", "fine"))
        outcomes = evaluated(request)
        assert list(statuses(outcomes, "fine").values()) == ["done", "missing", "done", "done"]
        assert tell_of_gaps(request, outcomes, true_labels(request.truths)) == [
            "fine: 1 of 4 cases missing: case_01",
            "fine: 6 predictions without true labels, left out: extra0, extra1, extra2, extra3, extra4 and 1 more",
        ]
        assert len(values_by_method(request, outcomes)["fine"]) == 3

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
        with pytest.raises(InputImageError, match=r"^fine: .*(does not exist|holds none of the 4 cases)"):
            evaluated(request_of(("fine", place)))

    def test_one_file_is_one_case(self, folders, request_of):
        request = request_of(("fine", "fine/case_03.nii.gz"), truths=folders["gt"] / "case_03.nii.gz")
        assert statuses(evaluated(request), "fine") == {"case_03": "done"}


class TestBadCases:
    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda f: (f["fine"] / "case_02.nii.gz").write_bytes(b"bad"), "cannot be read"),
            (
                lambda f: f.write("fine", "case_02", balls(), replace(GRID, spacing_mm=(3, 1, 1.1))),
                "not on the image's",
            ),
            (lambda f: f.write("fine", "case_02", balls((1, 1, 1, 3), value=2)), "say which is tumor by --tumor_label"),
        ],
    )
    def test_one_costs_one_score_and_says_why(self, folders, request_of, change, reason, caplog):
        change(folders)
        outcomes = evaluated(request_of(("coarse", "coarse"), ("fine", "fine")))
        assert reason in outcomes["case_02"]["fine"].error
        assert [name for name, status in statuses(outcomes, "fine").items() if status == "failed"] == ["case_02"]
        assert set(statuses(outcomes, "coarse").values()) == {"done"}
        assert [record.getMessage().count("\n") for record in caplog.records] == [0]
        assert caplog.records[0].getMessage().startswith("fine: case_02: ")

    def test_bad_true_labels_cost_the_case_of_every_method(self, folders, request_of):
        (folders["gt"] / "case_02.nii.gz").write_bytes(b"bad")
        outcomes = evaluated(request_of(("coarse", "coarse"), ("fine", "fine")))
        assert {outcome.status for outcome in outcomes["case_02"].values()} == {"failed"}
        assert sum(of_case["fine"].status == "done" for of_case in outcomes.values()) == CASES - 1

    def test_a_worker_that_is_killed_costs_its_case(self, monkeypatch):
        kill_all = lambda _work, jobs, _processes, *, killed: [(job, killed(job)) for job in jobs]  # noqa: E731
        monkeypatch.setattr(evaluation_workers, "map_in_processes", kill_all)
        ((_, scored),) = score_jobs([ScoreJob(case="a", truth=None, predictions={"fine": None})], 2)
        assert "its process was killed" in scored["fine"].error


def test_labels_may_differ_between_truth_and_methods(folders, request_of):
    path = folders["gt"] / "case_00.nii.gz"
    labels = read_volume(path).array.astype(np.uint8)
    folders.write("gt", "case_00", 2 * labels + (labels == 0))
    request = request_of(("fine", "fine"), truths=path, truth_tumor=TumorLabel(values=(2,), named=True))
    values = evaluated(request)["case_00"]["fine"].values
    assert values["reference_ml"] == pytest.approx(0.15)
    assert 0.5 < values["dice"] < 1


class TestGoingOn:
    def test_what_was_scored_is_taken_over_undefined_scores_too(self, folders, request_of):
        for name in ("gt", "fine"):
            folders.write(name, "case_00", balls())
        request = request_of(("fine", "fine"), resume=True)
        first, second = evaluated(request), evaluated(request)
        assert set(statuses(second, "fine").values()) == {"skipped"}
        assert math.isnan(second["case_00"]["fine"].values["dice"])
        for case, of_case in first.items():
            assert second[case]["fine"].values == pytest.approx(of_case["fine"].values, nan_ok=True, rel=0, abs=0)

    def test_what_changed_or_failed_is_scored_anew(self, folders, request_of):
        request = request_of(("fine", "fine"), resume=True)
        (folders["fine"] / "case_02.nii.gz").write_bytes(b"bad")
        assert evaluated(request)["case_02"]["fine"].status == "failed"
        for folder, case in (("fine", "case_00"), ("gt", "case_01"), ("fine", "case_02")):
            folders.write(folder, case, balls((0, 0, 0, 9)))
        found = statuses(evaluated(request), "fine")
        assert [case for case, status in found.items() if status == "done"] == ["case_00", "case_01", "case_02"]

    def test_another_method_is_scored_alone_and_other_labels_anew(self, request_of):
        evaluated(request_of(("fine", "fine"), resume=True))
        outcomes = evaluated(request_of(("fine", "fine"), ("coarse", "coarse"), resume=True))
        assert set(statuses(outcomes, "fine").values()) == {"skipped"}
        assert set(statuses(outcomes, "coarse").values()) == {"done"}
        other = TumorLabel(values=(1, 2), named=True)
        found = evaluated(request_of(("fine", "fine"), resume=True, truth_tumor=other))
        assert set(statuses(found, "fine").values()) == {"done"}


class TestUncertainty:
    def test_records_of_nnc_cascade_predict_give_it(self, folders, request_of):
        block = {"measure": "variance", "mean_in_tumor": 0.02, "mean_in_rois": None}
        stage1 = {"uncertainty": {"measure": "variance", "mean_in_mask": 0.05}}
        (folders["fine"] / "case_00.json").write_text(json.dumps({"uncertainty": block, "stage1": stage1}))
        folders.write("fine", "case_00_stage1", balls((1, 2, 2, 5)))
        methods = ("stage 1", "fine/*_stage1.nii.gz"), ("cascade", "fine")
        outcomes = evaluated(request_of(*methods, truths=folders["gt"] / "case_00.nii.gz"))["case_00"]
        assert outcomes["cascade"].values["mean_variance_in_tumor"] == 0.02
        assert math.isnan(outcomes["cascade"].values["mean_variance_in_rois"])
        assert outcomes["stage 1"].values["mean_variance_in_tumor"] == 0.05
        assert "mean_variance_in_rois" not in outcomes["stage 1"].values

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ('{"measure": "population variance of the tumor", "mean_in_tumor": 0.1}', {"mean_variance_in_tumor": 0.1}),
            ('{"measure": "predictive_entropy", "mean_in_tumor": 0.1}', {"mean_predictive_entropy_in_tumor": 0.1}),
            ('{"measure": "variance", "mean_in_tumor": Infinity}', {"mean_variance_in_tumor": math.nan}),
            *((text, {}) for text in ("", "null", '{"measure": "guess"}', '"high"')),
        ],
    )
    def test_each_measure_is_a_metric_of_its_own(self, tmp_path, text, expected):
        path = tmp_path / "a.json"
        path.write_text(f'{{"uncertainty": {text}}}')
        found = recorded_uncertainty(path)
        assert {name: found[name] for name in expected} == pytest.approx(expected, nan_ok=True)
        assert bool(found) == bool(expected)
        assert recorded_uncertainty(path, of_stage1=True) == {}


def test_the_table_has_a_line_for_every_method_and_case(folders, request_of):
    (folders["fine"] / "case_00.nii.gz").unlink()
    (folders["fine"] / "case_01.nii.gz").write_bytes(b"bad")
    text = scores_csv(score_lines(evaluated(request_of(("coarse", "coarse"), ("fine", "fine")))))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 2 * CASES
    assert [(row["method"], row["case"]) for row in rows[:2]] == [("coarse", "case_00"), ("coarse", "case_01")]
    assert [row["status"] for row in rows[CASES : CASES + 3]] == ["missing", "failed", "done"]
    assert (rows[CASES]["dice"], float(rows[0]["lesions"])) == ("", 1)
    assert "cannot be read" in rows[CASES + 1]["error"]


@pytest.mark.parametrize(
    ("name", "place", "message"),
    [
        *((name, "fine", "give NAME=PREDICTIONS") for name in ("", ".hidden", "a/b", "a*", "a:b")),
        *(("a", place, r"one \* at most") for place in ("*/x.nii.gz", "fine/*_*.nii.gz")),
    ],
)
def test_a_name_that_can_be_no_folder_and_a_pattern_of_several_cases_are_refused(folders, name, place, message):
    with pytest.raises(SettingsError, match=message):
        Predictions(name=name, place=folders[place])


@pytest.mark.parametrize(("methods", "processes"), [("aa", 1), ("", 1), ("a", 0)])
def test_methods_need_different_names_and_a_process(request_of, methods, processes):
    with pytest.raises(SettingsError, match="expected different names" if processes else "at least 1"):
        request_of(*((name, "fine") for name in methods), processes=processes)
