"""The filter on folders of predictions: what is written, flagged, refused, and left alone."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from builders.drawn_chests import GRID, IN_LEFT, IN_RIGHT, LUNGS, MIDDLE, SPECK, blocks, chest_ct

from nnunet_cascade.case_folders.case_files import find_masks
from nnunet_cascade.case_folders.prediction_files import TumorLabel
from nnunet_cascade.case_folders.run import Outcome, run_cases
from nnunet_cascade.dicom_export.series_geometry import turned_grid
from nnunet_cascade.errors import NoLungsError
from nnunet_cascade.geometry import AxisTurn, Box
from nnunet_cascade.images import read_volume, write_image
from nnunet_cascade.postprocessing.lungs.source import LungSource
from nnunet_cascade.postprocessing.scoring.score import CandidateScore, ScoreFit
from nnunet_cascade.postprocessing.settings import AnatomySettings
from nnunet_cascade.workflows import lung_masks as lung_folder
from nnunet_cascade.workflows.anatomy_filter import FilterRequest, filter_figures, filter_task, verdict_table

ALL = AnatomySettings(top_k="all")


@pytest.fixture
def request_of(folders):
    """Ask to filter the predictions with the drawn lungs."""

    def build(tumor=None, anatomy=ALL, **changed):
        request = {
            "images": folders["images"],
            "output": folders["out"],
            "lungs": LungSource(kind="folder", path=folders["lung_masks"]),
            "tumor": tumor or TumorLabel.of(folders["predictions"]),
            "anatomy": anatomy,
        }
        return FilterRequest(**{**request, **changed})

    return build


@pytest.fixture
def run(folders, request_of):
    """Filter the predictions; gives the outcomes by case."""

    def build(**changed):
        outcomes = run_cases(find_masks(folders["predictions"]), filter_task(request_of(**changed)))
        return {outcome.case: outcome for outcome in outcomes}

    return build


def rules(outcome):
    return [candidate.verdict.rule for candidate in outcome.record.candidates]


class TestFiltering:
    def test_what_cannot_be_a_tumor_is_gone_and_the_record_says_why(self, folders, run):
        folders.write("a", [IN_LEFT, MIDDLE])
        outcome = run()["a"]
        mask = read_volume(folders["out"] / "a.nii.gz")
        np.testing.assert_array_equal(mask.array, blocks(IN_LEFT))
        assert mask.grid.difference(GRID) is None
        record = json.loads((folders["out"] / "a.json").read_text())
        assert record == outcome.record.to_json()
        assert rules(outcome) == ["lung_overlap", "outside_lungs"]
        assert "25.0 mm from the nearest lung" in record["candidates"][1]["verdict"]["reason"]
        # 4 × 4 × 4 and 3 × 3 × 3 voxels of 0.125 ml
        assert record["tumor"] == {
            "values": [1], "before_ml": 11.375, "after_ml": 8.0, "probability_known": False, "uncertainty_known": False,
        }  # fmt: skip
        assert (record["flags"], record["notes"]) == ([], [])
        assert record["lungs"]["volume_ml"] == 1820.0

    @pytest.mark.parametrize("name", ["a_uncertainty", "a"])
    def test_the_least_uncertain_comes_first_where_one_ranks_by_it(self, folders, run, name):
        folders.write("a", [IN_LEFT, IN_RIGHT])
        write_image(blocks(IN_LEFT, value=2).astype(np.float32) / 10, GRID, folders["maps"] / f"{name}.nii.gz")
        outcome = run(anatomy=AnatomySettings(rank_by="mean_uncertainty", top_k=1), uncertainty=folders["maps"])["a"]
        assert rules(outcome) == ["top_k", "lung_overlap"]
        assert [c.mean_uncertainty for c in outcome.record.candidates] == pytest.approx([0.2, 0.0])

    def test_other_labels_are_left_as_they_are(self, folders, run):
        labels = blocks(IN_LEFT, MIDDLE, value=2).astype(np.uint16)
        labels[0:3] = 5
        labels[20:23, 2:5, 2:5] = 300
        folders.write("a", labels)
        run(tumor=TumorLabel(values=(2,), named=True))
        expected = labels.copy()
        expected[MIDDLE] = 0
        np.testing.assert_array_equal(read_volume(folders["out"] / "a.nii.gz").array, expected)

    def test_an_empty_prediction_stays_empty_and_asks_for_no_lungs(self, folders, run):
        folders.write("a")
        (folders["lung_masks"] / "a.nii.gz").unlink()
        record = run()["a"].record
        assert (record.flags, record.lungs, record.candidates) == (("no_candidate",), None, ())

    def test_a_case_is_made_of_all_its_files_and_settings(self, folders, request_of):
        folders.write("a", [IN_LEFT])
        (folders["maps"] / "a.nii.gz").touch()
        task = filter_task(request_of(uncertainty=folders["maps"], resume=True))
        found = task.inputs("a", folders["predictions"] / "a.nii.gz")
        names = ["predictions/a.nii.gz", "images/a_0000.nii.gz", "predictions/a.npz", "maps/a.nii.gz"]
        assert [str(path.relative_to(folders.root)) for path in found] == [*names, "lung_masks/a.nii.gz"]
        assert task.settings["anatomy"] == ALL.to_dict()
        assert (task.settings["tumor_values"], task.settings["uncertainty"], task.resume) == ([1], True, True)
        assert task.settings["lungs"]["kind"] == "folder"

    def test_users_own_images_are_never_overwritten_by_lungs(self, folders, run):
        folders.write("a", [IN_LEFT])
        mine = folders["out"] / "lungs" / "a.nii.gz"
        mine.parent.mkdir()
        write_image(blocks(MIDDLE, value=7), GRID, mine)
        assert "holds images that are not ours" in run(lungs=LungSource())["a"].error
        assert read_volume(mine).array.max() == 7

    @pytest.mark.parametrize("code", ["RAS", "SPL", "AIR"])
    def test_files_of_another_orientation_get_the_same_verdicts(self, folders, run, code):
        turn = AxisTurn.to_code(GRID, code)
        for name, grid, lay in (("a", GRID, np.asarray), ("b", turned_grid(GRID, turn), turn.apply)):
            labels = np.ascontiguousarray(lay(blocks(IN_LEFT, MIDDLE, SPECK)))
            ct, lungs = (np.ascontiguousarray(lay(array)) for array in (chest_ct(), LUNGS))
            folders.write(name, labels, ct=ct, grid=grid, lungs=lungs)
        outcomes = run()
        for here, there in zip(*(outcomes[name].record.candidates for name in "ab"), strict=True):
            assert (there.verdict, there.side) == (here.verdict, here.side)
            assert there.lung_distance_mm == pytest.approx(here.lung_distance_mm)
            assert there.centroid_mm == pytest.approx(here.centroid_mm, abs=1e-4)
        np.testing.assert_array_equal(
            turn.undo(read_volume(folders["out"] / "b.nii.gz").array), read_volume(folders["out"] / "a.nii.gz").array
        )


ELSEWHERE = np.zeros_like(LUNGS)
ELSEWHERE[:, 0:1, :] = ELSEWHERE[:, 25:, :] = ELSEWHERE[:, :, 19:31] = 1  # air around, and the mediastinum
HALF_A_LITRE = np.where(np.arange(30)[:, None, None] < 9, LUNGS, 0).astype(np.uint8)


class TestLungsThatCannotBeUsed:
    def test_a_scan_without_lungs_keeps_all_and_is_flagged(self, folders, run, monkeypatch):
        folders.write("a", [IN_LEFT, MIDDLE])

        def none(*_, **__):
            raise NoLungsError("nothing looks like lung")

        monkeypatch.setattr(lung_folder, "find_lungs", none)
        outcome = run(lungs=LungSource())["a"]
        assert rules(outcome) == ["no_lungs", "no_lungs"]
        assert (outcome.record.flags, outcome.record.notes) == (("lungs_not_found",), ("nothing looks like lung",))

    @pytest.mark.parametrize(
        ("lungs", "flag"),
        [(ELSEWHERE, "lungs_misplaced"), (HALF_A_LITRE, "lungs_implausible"), (LUNGS * (LUNGS == 1), "one_lung_small")],
        ids=["of another scan", "half a litre", "one alone"],
    )
    def test_others_keep_all_and_are_flagged_once(self, folders, run, lungs, flag):
        folders.write("a", [IN_LEFT, MIDDLE], lungs=lungs)
        outcome = run()["a"]
        assert rules(outcome) == ["no_lungs", "no_lungs"]
        assert outcome.record.flags.count(flag) == 1


class TestBadInput:
    @pytest.mark.parametrize(
        ("what", "message"),
        [
            ("no ct", "holds no CT of bad; expected bad_0000.nii.gz or bad.nii.gz"),
            ("grid", "prediction .* is not on the image's grid: .*; resample it to the image"),
            ("one slice", "a single slice; expected a volume"),
            ("no lung mask", "does not exist"),
            ("no map", "holds no uncertainty of bad"),
            ("map elsewhere", "uncertainty map .* is not on the image's grid"),
        ],
    )
    def test_a_bad_case_is_said_in_a_line_and_the_rest_goes_on(self, folders, run, what, message):
        for case in ("bad", "good"):
            folders.write(case, [IN_LEFT])
            write_image(np.zeros(GRID.shape, np.float32), GRID, folders["maps"] / f"{case}.nii.gz")
        self.spoil(folders, what)
        outcomes = run(uncertainty=folders["maps"])
        assert (outcomes["good"].status, outcomes["bad"].status) == ("done", "failed")
        assert "\n" not in outcomes["bad"].error
        assert re.search(message, outcomes["bad"].error)
        assert not (folders["out"] / "bad.json").exists()

    @staticmethod
    def spoil(folders, what):
        ct, mask = folders["images"] / "bad_0000.nii.gz", folders["predictions"] / "bad.nii.gz"
        doubt, shifted = folders["maps"] / "bad.nii.gz", replace(GRID, origin_mm=(0.0, 0.0, 0.0))
        gone = {"no ct": ct, "no lung mask": folders["lung_masks"] / "bad.nii.gz", "no map": doubt}
        if what in gone:
            gone[what].unlink()
        if what == "grid":
            write_image(blocks(IN_LEFT), shifted, mask)
        if what == "one slice":
            write_image(chest_ct()[9:10], GRID.cropped(Box((9, 0, 0), (10, *GRID.shape[1:]))), ct)
        if what == "map elsewhere":
            write_image(np.zeros(GRID.shape, np.float32), shifted, doubt)

    def test_slices_of_8_mm_work_and_are_flagged_once(self, folders, run):
        folders.write("a", [IN_LEFT, MIDDLE], grid=replace(GRID, spacing_mm=(8.0, 5.0, 5.0)))
        record = run()["a"].record
        assert record.flags == ("thick_slices",)
        assert record.notes == ("voxels are 8 mm long along one axis: distances and merging are no finer than that",)
        assert [c.verdict.kept for c in record.candidates] == [True, False]


class TestProbabilities:
    @pytest.fixture
    def softmax(self, folders):
        """What nnU-Net saves beside a prediction of two tumors; its tumor is less likely in the right lung."""
        folders.write("a", [IN_LEFT, IN_RIGHT])
        tumor = np.full(GRID.shape, 0.1, dtype=np.float32)
        tumor[IN_LEFT], tumor[IN_RIGHT] = 0.9, 0.6
        return np.stack([1 - tumor, tumor])

    def test_what_nnunet_saved_is_measured(self, folders, run, softmax):
        np.savez_compressed(folders["predictions"] / "a.npz", probabilities=softmax)
        record = run(anatomy=AnatomySettings(rank_by="mean_probability"))["a"].record
        assert [round(c.mean_probability, 3) for c in record.candidates] == [0.9, 0.6]
        assert [round(c.max_probability, 3) for c in record.candidates] == [0.9, 0.6]
        assert record.tumor.probability_known

    def test_a_score_judges_by_what_is_known_before_stage_2(self, folders, run, softmax):
        fit = ScoreFit(
            features=("stage1_mean",), means=(0.75,), spreads=(0.1,), coefficients=(2.0,), intercept=0.0,
            operating_point=0.5,
        )  # fmt: skip
        counts = {"true_candidates": 10, "false_candidates": 10, "scans": 9, "false_positives_per_scan": 0.25}
        score = CandidateScore(fits={"before stage 2": fit}, **counts)
        known, unknown = (run(score=score)["a"].record.candidates for _ in self.with_and_without(folders, softmax))
        assert [(c.verdict.rule, c.verdict.kept, c.score_fit) for c in known] == [
            ("score", True, "before stage 2"),
            ("score", False, "before stage 2"),
        ]
        assert {c.verdict.rule for c in unknown} == {"lung_overlap"}

    @staticmethod
    def with_and_without(folders, softmax):
        path = folders["predictions"] / "a.npz"
        np.savez_compressed(path, probabilities=softmax)
        yield
        path.unlink()
        yield

    def test_what_does_not_fit_is_not_used_and_flagged(self, folders, run, softmax):
        np.savez_compressed(folders["predictions"] / "a.npz", probabilities=softmax[:, ::-1, ::-1, ::-1])
        record = run()["a"].record
        assert record.flags == ("probability_unused",)
        assert "belongs to another mask or reader" in record.notes[0]
        assert record.candidates[0].mean_probability is None


def test_the_table_shows_each_case_in_a_line(folders, run):
    folders.write("a", [IN_LEFT, MIDDLE, SPECK])
    done = run()["a"]
    lines = verdict_table([done, Outcome(case="b_long", status="failed", error="no CT")]).splitlines()
    assert lines[0].split() == ["case", "candidates", "kept", "dropped", "flags"]
    assert lines[1].split() == ["a", "3", "2", "outside_lungs", "1", "–"]
    assert lines[2].split() == ["b_long", "–", "–", "–", "failed:", "no", "CT"]
    assert filter_figures(done.record)["dropped"] == {"outside_lungs": 1}
