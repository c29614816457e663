"""Tuning on folders: what is measured, cross-validated, written, and how honestly it is put."""

import json

import numpy as np
import pytest
from builders.drawn_chests import IN_LEFT, IN_RIGHT, LUNGS, MIDDLE, SPECK

from nnunet_cascade.case_folders.case_files import find_masks
from nnunet_cascade.case_folders.run_report import RunContext
from nnunet_cascade.errors import DatasetError, SettingsError
from nnunet_cascade.postprocessing.lungs.source import LungSource
from nnunet_cascade.postprocessing.settings import AnatomySettings
from nnunet_cascade.postprocessing.tuning import SearchSpace
from nnunet_cascade.workflows.anatomy_filter import FilterRequest
from nnunet_cascade.workflows.anatomy_tuning import (
    TuningRequest,
    conclusions,
    measure_cases,
    read_splits,
    tune,
    tuning_table,
    write_tuning,
)

SPACE = SearchSpace(
    min_volume_mm3=(0.0, 100.0, 500.0),
    min_lung_overlap=(0.5, 0.8),
    min_lung_overlap_central=(0.5, 0.9),
    rescue_distance_mm=(0.0, 5.0, 30.0),
    rescue_near_surface_share_central=(0.0, 0.4),
)


@pytest.fixture
def tuning(folders):
    """Measure and tune; gives (tuned, measured, request)."""

    def build(**changed):
        request = TuningRequest(
            filter=FilterRequest(
                images=folders["images"],
                output=folders["out"],
                lungs=LungSource(kind="folder", path=folders["lung_masks"]),
                anatomy=AnatomySettings(top_k="all"),
            ),
            truths=folders["labels"],
            space=SPACE,
            **changed,
        )
        measured = list(measure_cases(find_masks(folders["predictions"]), request))
        return tune(measured, request), measured, request

    return build


def write_four(folders):
    """Four patients with a tumor in a lung, specks of 125 mm³ beside it and a block in the middle that is none."""
    for name, tumor in zip("abcd", (IN_LEFT, IN_RIGHT, IN_LEFT, IN_RIGHT), strict=True):
        folders.write(name, [tumor, SPECK, MIDDLE], [tumor])


def test_tuned_settings_lose_no_tumor_and_drop_what_is_none(folders, tuning):
    write_four(folders)
    tuned, measured, _ = tuning(folds=2)
    # 500 mm³ drops the specks, a reach below 25 mm what lies in the middle; the rest stays as cautious as it can be.
    assert (tuned.settings.min_volume_mm3, tuned.settings.rescue_distance_mm) == (500.0, 5.0)
    assert (tuned.settings.min_lung_overlap, tuned.settings.rescue_near_surface_share_central) == (0.5, 0.0)
    for scores in (tuned.in_sample, tuned.out_of_fold):
        assert (scores["tuned"].true_lost, scores["tuned"].false_dropped, scores["tuned"].false) == (0, 8, 8)
        assert (scores["recommended"].true_lost, scores["recommended"].false_dropped) == (0, 4)
    words = " ".join(conclusions(tuned, measured))
    assert "tuned settings drop 8 of 8 false candidates and lose 0 of 4 true ones; recommended drops 4" in words
    assert "0 of 4 patients lose one; with 95 % confidence that is fewer than 53% of patients like these" in words
    assert "4 patients with a tumor are few" in words


def test_the_files_can_be_taken_back_and_tell_everything(folders, tuning):
    write_four(folders)
    tuned, measured, request = tuning(folds=2)
    settings, report = write_tuning(tuned, measured, request, RunContext(begun=0.0, command=("--tune",)))
    assert AnatomySettings(**json.loads(settings.read_text())) == tuned.settings
    told = json.loads(report.read_text())
    assert told["out_of_fold"]["tuned"]["losing_at_most"] == round(1 - 0.05**0.25, 4)
    assert sorted(case for fold in told["folds"] for case in fold["left_out"]) == list("abcd")
    assert told["tried"]["settings"] == 3 * 3 * 3 * 2  # of two overlaps, three pairs
    candidates = told["cases"]["a"]["candidates"]
    assert [candidate["true"] for candidate in candidates] == [True, False, False]
    assert list(candidates[0]["near_surface_share"]) == ["0.0", "5.0", "30.0"]
    table = tuning_table(tuned)
    assert "out of fold  tuned        0 of 4     0 of 4" in table
    assert "min_volume_mm3" in table


def test_what_could_not_be_measured_is_told(folders, tuning):
    write_four(folders)
    folders.write("no_lungs", [IN_LEFT], [IN_LEFT], lungs=np.zeros_like(LUNGS))
    folders.write("missed", [], [IN_LEFT])
    folders.write("bad", [IN_LEFT], [IN_LEFT])
    (folders["labels"] / "bad.nii.gz").unlink()
    tuned, measured, request = tuning(folds=2)
    assert [case.case for case in measured if case.error] == ["bad"]
    assert conclusions(tuned, measured)[:2] == [
        "The predictions miss 1 of 6 true tumors; no rule brings them back.",
        "1 of 7 cases failed and were left out.",
    ]
    case = json.loads(write_tuning(tuned, measured, request, RunContext(begun=0.0))[1].read_text())["cases"]["no_lungs"]
    assert case["candidates"][0]["lung_overlap"] is None
    assert "lungs_empty" in case["flags"]


def test_one_patient_is_tuned_but_not_cross_validated_and_two_gain_nothing(folders, tuning):
    folders.write("a", [IN_LEFT, MIDDLE], [IN_LEFT])
    tuned, measured, request = tuning()
    assert tuned.out_of_fold is None
    assert "the figures in sample flatter" in conclusions(tuned, measured)[-1]
    _, report = write_tuning(tuned, measured, request, RunContext(begun=0.0))
    assert json.loads(report.read_text())["out_of_fold"] is None
    folders.write("b", [IN_LEFT, MIDDLE], [IN_LEFT])
    tuned, measured, _ = tuning()
    assert conclusions(tuned, measured)[-1] == "Tuning gains nothing over recommended: stay with recommended."


def test_splits_say_who_is_left_out_together(folders, tuning):
    write_four(folders)
    tuned, _, _ = tuning(splits=(("a", "b"), ("c", "d", "not predicted")))
    assert [fold.left_out for fold in tuned.folds] == [("a", "b"), ("c", "d")]


def test_nothing_to_tune_on_is_refused(folders, tuning):
    folders.write("a", [MIDDLE], [IN_LEFT])
    with pytest.raises(SettingsError, match="none of 1 candidates meets a true tumor"):
        tuning()
    (folders["images"] / "a_0000.nii.gz").unlink()
    with pytest.raises(DatasetError, match="no case could be measured"):
        tuning()
    with pytest.raises(SettingsError, match="1 folds; expected at least 2"):
        tuning(folds=1)


def test_nnunets_splits_are_read(tmp_path):
    path = tmp_path / "splits_final.json"
    path.write_text('[{"train": ["a"], "val": ["b", "c"]}]')
    assert read_splits(path) == (("b", "c"),)
    for bad in ("{", '[{"train": []}]', "7"):
        path.write_text(bad)
        with pytest.raises(DatasetError, match=r"expected nnU-Net's splits_final\.json"):
            read_splits(path)
