"""The filter on folders of predictions: what is written, flagged, refused, and left alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from builders.drawn_chests import GRID, IN_LEFT, IN_RIGHT, LUNGS, MIDDLE, SPECK, Folders, blocks, chest_ct

from nnunet_cascade.case_folders.case_files import find_masks
from nnunet_cascade.case_folders.prediction_files import TumorLabel, read_probability
from nnunet_cascade.case_folders.run import Outcome, run_cases
from nnunet_cascade.errors import DatasetError, NoLungsError, SettingsError
from nnunet_cascade.geometry import AxisTurn, Grid
from nnunet_cascade.images import read_volume, write_image
from nnunet_cascade.postprocessing.lungs.source import LungSource
from nnunet_cascade.postprocessing.settings import AnatomySettings
from nnunet_cascade.workflows import lung_masks as lung_folder
from nnunet_cascade.workflows.anatomy_filter import FilterRequest, filter_figures, filter_task, verdict_table

ALL = AnatomySettings(top_k="all")


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)


@pytest.fixture
def run(folders):
    """Filter the predictions with the drawn lungs; gives the outcomes by case."""

    def build(tumor=None, anatomy=ALL, **changed):
        request = {
            "images": folders["images"],
            "output": folders["out"],
            "lungs": LungSource(kind="folder", path=folders["lung_masks"]),
            "tumor": tumor or TumorLabel.of(folders["predictions"]),
            "anatomy": anatomy,
            **changed,
        }
        outcomes = run_cases(find_masks(folders["predictions"]), filter_task(FilterRequest(**request)))
        return {outcome.case: outcome for outcome in outcomes}

    return build


def rules(outcome):
    return [candidate["verdict"]["rule"] for candidate in outcome.record.to_json()["candidates"]]


def dataset(folders, labels):
    (folders["predictions"] / "dataset.json").write_text(json.dumps({"labels": labels}))


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

    def test_the_presets_top_k_is_the_users(self, folders, run):
        folders.write("a", [IN_LEFT, IN_RIGHT])
        assert rules(run(anatomy=AnatomySettings())["a"]) == ["lung_overlap", "top_k"]

    @pytest.mark.parametrize("name", ["a_uncertainty", "a"])
    def test_the_least_uncertain_comes_first_where_one_ranks_by_it(self, folders, run, name):
        folders.write("a", [IN_LEFT, IN_RIGHT])
        write_image(blocks(IN_LEFT, value=2).astype(np.float32) / 10, GRID, folders["maps"] / f"{name}.nii.gz")
        outcome = run(anatomy=AnatomySettings(rank_by="mean_uncertainty"), uncertainty=folders["maps"])["a"]
        assert rules(outcome) == ["top_k", "lung_overlap"]
        assert [c["mean_uncertainty"] for c in outcome.record.to_json()["candidates"]] == pytest.approx([0.2, 0.0])

    def test_a_map_that_is_missing_or_elsewhere_fails_its_case(self, folders, run):
        folders.write("a", [IN_LEFT])
        assert "holds no uncertainty of a" in run(uncertainty=folders["maps"])["a"].error
        moved = replace(GRID, origin_mm=(0.0, 0.0, 0.0))
        write_image(np.zeros(GRID.shape, dtype=np.float32), moved, folders["maps"] / "a.nii.gz")
        assert "uncertainty map" in run(uncertainty=folders["maps"])["a"].error

    def test_other_labels_are_left_as_they_are(self, folders, run):
        labels = blocks(IN_LEFT, MIDDLE, value=2)
        labels = labels.astype(np.uint16)
        labels[0:3] = 5
        labels[20:23, 2:5, 2:5] = 300
        folders.write("a", labels)
        dataset(folders, {"background": 0, "lung": 5, "tumor": 2, "heart": 300})
        run(tumor=TumorLabel.of(folders["predictions"], ["tumor"]))
        expected = labels.copy()
        expected[MIDDLE] = 0
        np.testing.assert_array_equal(read_volume(folders["out"] / "a.nii.gz").array, expected)

    def test_an_empty_prediction_stays_empty_and_asks_for_no_lungs(self, folders, run):
        folders.write("a")
        (folders["lung_masks"] / "a.nii.gz").unlink()
        record = run()["a"].record.to_json()
        assert (record["flags"], record["lungs"], record["candidates"]) == (["no_candidate"], None, [])

    def test_lungs_are_kept_beside_the_results(self, folders, run, monkeypatch):
        folders.write("a", [IN_LEFT])
        searched = []

        def find(ct, source, *, case):
            searched.append(case)
            return lung_folder.LungMask.of(LUNGS, ct.grid, source=source.kind)

        monkeypatch.setattr(lung_folder, "find_lungs", find)
        for _ in range(2):
            assert rules(run(lungs=LungSource())["a"]) == ["lung_overlap"]
        assert searched == ["a"]
        assert (folders["out"] / "lungs" / "a.nii.gz").is_file()

    def test_cases_done_with_the_same_settings_are_left_out(self, folders, run):
        folders.write("a", [IN_LEFT])
        assert run(resume=True)["a"].status == "done"
        assert run(resume=True)["a"].status == "skipped"
        assert run(resume=True, anatomy=AnatomySettings(top_k=2))["a"].status == "done"

    @pytest.mark.parametrize("changed", ["prediction", "CT", "lungs", "map"])
    def test_a_case_whose_files_changed_is_done_again(self, folders, run, changed):
        folders.write("a", [IN_LEFT])
        write_image(np.zeros(GRID.shape, dtype=np.float32), GRID, folders["maps"] / "a.nii.gz")
        again = {"uncertainty": folders["maps"], "resume": True}
        assert [run(**again)["a"].status for _ in range(2)] == ["done", "skipped"]
        if changed == "prediction":
            write_image(blocks(IN_RIGHT), GRID, folders["predictions"] / "a.nii.gz")
        if changed == "CT":
            write_image(chest_ct() + 1, GRID, folders["images"] / "a_0000.nii.gz")
        if changed == "lungs":
            write_image(np.minimum(LUNGS, 1), GRID, folders["lung_masks"] / "a.nii.gz")
        if changed == "map":
            write_image(np.ones(GRID.shape, dtype=np.float32), GRID, folders["maps"] / "a.nii.gz")
        assert run(**again)["a"].status == "done"

    @pytest.mark.parametrize("side", [1, 2])
    def test_a_file_of_one_lung_keeps_all_and_is_flagged(self, folders, run, side):
        folders.write("a", [IN_LEFT, IN_RIGHT, MIDDLE], lungs=LUNGS * (side == LUNGS))
        outcome = run()["a"]
        assert rules(outcome) == ["no_lungs"] * 3
        assert "one_lung_small" in outcome.record.to_json()["flags"]

    def test_users_own_images_are_never_overwritten_by_lungs(self, folders, run):
        folders.write("a", [IN_LEFT])
        mine = folders["out"] / "lungs" / "a.nii.gz"
        mine.parent.mkdir()
        write_image(blocks(MIDDLE, value=7), GRID, mine)
        assert "holds images that are not ours" in run(lungs=LungSource())["a"].error
        assert read_volume(mine).array.max() == 7

    def test_lungs_of_no_whole_numbers_are_refused(self, folders, run):
        folders.write("a", [IN_LEFT])
        write_image(LUNGS * np.float32(0.3), GRID, folders["lung_masks"] / "a.nii.gz")
        assert "expected labels, whole numbers" in run()["a"].error

    def test_filtering_the_result_changes_nothing(self, folders, run):
        folders.write("a", [IN_LEFT, IN_RIGHT, MIDDLE, SPECK])
        run()
        once = read_volume(folders["out"] / "a.nii.gz").array
        write_image(once.astype(np.uint8), GRID, folders["predictions"] / "a.nii.gz")
        run()
        np.testing.assert_array_equal(read_volume(folders["out"] / "a.nii.gz").array, once)

    @pytest.mark.parametrize("code", ["RAS", "SPL", "AIR"])
    def test_files_of_another_orientation_get_the_same_verdicts(self, folders, run, code):
        turn = AxisTurn.to_code(GRID, code)
        axes = tuple(
            tuple((-1 if flip else 1) * value for value in GRID.axes[axis])
            for axis, flip in zip(turn.order, turn.flipped, strict=True)
        )
        corner = tuple(
            float(GRID.shape[axis] - 1) if turn.flipped[turn.order.index(axis)] else 0.0 for axis in range(3)
        )
        turned = Grid(
            shape=tuple(GRID.shape[axis] for axis in turn.order), spacing_mm=turn.spacing(GRID.spacing_mm),
            origin_mm=GRID.world_mm(corner), axes=axes,
        )  # fmt: skip
        for name, grid, lay in (("a", GRID, np.asarray), ("b", turned, turn.apply)):
            labels = np.ascontiguousarray(lay(blocks(IN_LEFT, MIDDLE, SPECK)))
            ct, lungs = (np.ascontiguousarray(lay(array)) for array in (chest_ct(), LUNGS))
            folders.write(name, labels, ct=ct, grid=grid, lungs=lungs)
        outcomes = run()
        here, there = (
            [
                (c["verdict"], c["side"], round(c["lung_distance_mm"], 6), np.round(c["centroid_mm"], 4).tolist())
                for c in outcomes[name].record.to_json()["candidates"]
            ]
            for name in "ab"
        )
        assert here == there
        np.testing.assert_array_equal(
            turn.undo(read_volume(folders["out"] / "b.nii.gz").array), read_volume(folders["out"] / "a.nii.gz").array
        )


class TestLungsThatCannotBeUsed:
    def test_a_scan_without_lungs_keeps_all_and_is_flagged(self, folders, run, monkeypatch):
        folders.write("a", [IN_LEFT, MIDDLE])

        def none(*_, **__):
            raise NoLungsError("nothing looks like lung")

        monkeypatch.setattr(lung_folder, "find_lungs", none)
        outcome = run(lungs=LungSource())["a"]
        assert rules(outcome) == ["no_lungs", "no_lungs"]
        assert outcome.record.to_json()["flags"] == ["lungs_not_found"]
        assert outcome.record.to_json()["notes"] == ["nothing looks like lung"]

    def test_lungs_of_another_scan_keep_all_and_are_flagged(self, folders, run):
        elsewhere = np.zeros_like(LUNGS)
        elsewhere[:, 0:1, :] = elsewhere[:, 25:, :] = elsewhere[:, :, 19:31] = 1  # air around, and the mediastinum
        folders.write("a", [IN_LEFT, MIDDLE], lungs=elsewhere)
        outcome = run()["a"]
        assert rules(outcome) == ["no_lungs", "no_lungs"]
        assert "lungs_misplaced" in outcome.record.to_json()["flags"]

    def test_lungs_of_half_a_litre_keep_all_and_are_flagged(self, folders, run):
        small = LUNGS.copy()
        small[9:] = 0
        folders.write("a", [IN_LEFT, MIDDLE], lungs=small)
        outcome = run()["a"]
        assert rules(outcome) == ["no_lungs", "no_lungs"]
        assert outcome.record.to_json()["flags"].count("lungs_implausible") == 1


class TestBadInput:
    @pytest.mark.parametrize(
        ("what", "message"),
        [
            ("no ct", "holds no CT of bad; expected bad_0000.nii.gz or bad.nii.gz"),
            ("grid", "prediction .* is not on the image's grid: .*; resample it to the image"),
            ("half", r"holds the value 0\.5; expected labels, whole numbers"),
            ("negative", "holds the value -1; expected labels"),
            ("unknown", r"holds the value 7; dataset\.json knows 0, 1"),
            ("two-dimensional", "expected one three-dimensional image"),
            ("one slice", "a single slice; expected a volume"),
            ("cut", "cannot be read"),
            ("no lung mask", "does not exist"),
            ("lung grid", "lung mask .* is not on the image's grid"),
            ("no ct at all", "not a CT of a thorax"),
        ],
    )
    def test_a_bad_case_is_said_in_a_line_and_the_rest_goes_on(self, folders, run, what, message):
        dataset(folders, {"background": 0, "tumor": 1})
        for case in ("bad", "good"):
            folders.write(case, [IN_LEFT])
        self.spoil(folders, what)
        outcomes = run()
        assert outcomes["good"].status == "done"
        assert outcomes["bad"].status == "failed"
        assert "\n" not in outcomes["bad"].error
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(outcomes["bad"].error)
        assert not (folders["out"] / "bad.json").exists()

    @staticmethod
    def spoil(folders, what):
        ct, mask = folders["images"] / "bad_0000.nii.gz", folders["predictions"] / "bad.nii.gz"
        lungs, shifted = folders["lung_masks"] / "bad.nii.gz", Grid(shape=GRID.shape, spacing_mm=(5.0, 5.0, 5.0))
        labels = blocks(IN_LEFT).astype(np.float32)
        match what:
            case "no ct":
                ct.unlink()
            case "grid":
                write_image(blocks(IN_LEFT), shifted, mask)
            case "half" | "negative" | "unknown":
                labels[0, 0, 0] = {"half": 0.5, "negative": -1, "unknown": 7}[what]
                write_image(labels, GRID, mask)
            case "two-dimensional":
                sitk.WriteImage(sitk.GetImageFromArray(chest_ct()[9]), str(ct))
            case "one slice":
                write_image(chest_ct()[9:10], GRID.cropped(_box(9)), ct)
            case "cut":
                mask.write_bytes(mask.read_bytes()[:100])
            case "no lung mask":
                lungs.unlink()
            case "lung grid":
                write_image(LUNGS, shifted, lungs)
            case "no ct at all":
                write_image(blocks(IN_LEFT).astype(np.float32), GRID, ct)

    def test_a_foreign_tumor_value_is_not_taken_for_an_empty_prediction(self, folders, run):
        folders.write("a", blocks(IN_LEFT, value=255))
        outcome = run()["a"]
        assert outcome.status == "failed"
        assert "holds the values 0, 255 and not 1; say which is tumor by --tumor_label" in outcome.error
        assert run(tumor=TumorLabel.of(folders["predictions"], ["255"]))["a"].status == "done"

    def test_slices_of_8_mm_work_and_are_flagged_once(self, folders, run):
        thick = Grid(shape=GRID.shape, spacing_mm=(8.0, 5.0, 5.0))
        folders.write("a", [IN_LEFT, MIDDLE], grid=thick)
        record = run()["a"].record.to_json()
        assert record["flags"] == ["thick_slices"]
        assert record["notes"] == ["voxels are 8 mm long along one axis: distances and merging are no finer than that"]
        assert [c["verdict"]["kept"] for c in record["candidates"]] == [True, False]


def _box(z):
    from nnunet_cascade.geometry import Box  # noqa: PLC0415 - one use

    return Box((z, 0, 0), (z + 1, GRID.shape[1], GRID.shape[2]))


ONE = {"background": 0, "tumor": 1}
THREE = {"background": 0, "lung": 1, "tumor": 2, "ignore": 3}
REGIONS = {"background": 0, "both": [1, 2], "tumor": [2]}


class TestTumorLabel:
    @pytest.mark.parametrize(
        ("labels", "asked", "values", "channels"),
        [
            (ONE, (), (1,), (1,)),
            (THREE, ("tumor",), (2,), (2,)),
            (THREE, ("2",), (2,), (2,)),
            (THREE, ("lung", "tumor"), (1, 2), (1, 2)),
            (REGIONS, ("tumor",), (2,), (1,)),
            (REGIONS, ("both",), (1, 2), (0,)),
            (REGIONS, ("2",), (2,), ()),
            (None, (), (1,), (1,)),
            (None, ("3", "2"), (2, 3), (2, 3)),
        ],
    )
    def test_dataset_json_says_which_values_and_channels_are_tumor(self, folders, labels, asked, values, channels):
        if labels is not None:
            dataset(folders, labels)
        found = TumorLabel.of(folders["predictions"], asked)
        assert (found.values, found.channels) == (values, channels)

    @pytest.mark.parametrize(
        ("labels", "asked", "message"),
        [
            (THREE, (), "has the labels lung, tumor; say which is tumor"),
            (THREE, ("tumour",), "has no label 'tumour'; found lung, tumor"),
            (THREE, ("9",), "has no label '9'"),
            (THREE, ("0",), "has no label '0'"),
            (None, ("tumor",), "without a dataset.json"),
        ],
    )
    def test_what_cannot_be_told_is_refused(self, folders, labels, asked, message):
        if labels is not None:
            dataset(folders, labels)
        with pytest.raises(SettingsError, match=message):
            TumorLabel.of(folders["predictions"], asked)

    def test_out_of_fold_predictions_have_it_in_the_models_folder(self, folders):
        (folders["model"] / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "tumor": 4}}))
        assert TumorLabel.of(folders["model/fold_0/validation"]).values == (4,)

    def test_a_file_without_labels_is_refused(self, folders):
        (folders["predictions"] / "dataset.json").write_text("{}")
        with pytest.raises(DatasetError, match='has no "labels"'):
            TumorLabel.of(folders["predictions"])


class TestProbabilities:
    MASK = blocks(IN_LEFT, IN_RIGHT) > 0
    TUMOR = TumorLabel(known=frozenset({0, 1}), named=True)

    def softmax(self, left=0.9, right=0.6):
        tumor = np.full(GRID.shape, 0.1, dtype=np.float32)
        tumor[IN_LEFT], tumor[IN_RIGHT] = left, right
        return np.stack([1 - tumor, tumor])

    def save(self, folders, array, name="probabilities"):
        path = folders["predictions"] / "a.npz"
        np.savez_compressed(path, **{name: array})
        return path

    def test_what_nnunet_saved_is_measured(self, folders, run):
        folders.write("a", [IN_LEFT, IN_RIGHT])
        self.save(folders, self.softmax())
        record = run(anatomy=AnatomySettings(rank_by="mean_probability"))["a"].record.to_json()
        assert [round(c["mean_probability"], 3) for c in record["candidates"]] == [0.9, 0.6]
        assert [round(c["max_probability"], 3) for c in record["candidates"]] == [0.9, 0.6]
        assert record["tumor"]["probability_known"]

    def test_regions_have_a_channel_each(self, folders):
        regions = TumorLabel(values=(2,), channels=(1,), regions=True, named=True)
        path = self.save(folders, np.stack([np.ones(GRID.shape, np.float32), self.softmax()[1]]))
        found, why = read_probability(path, regions, self.MASK)
        assert why == ""
        assert found[IN_LEFT].mean() == pytest.approx(0.9)

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda p: p[:, 1:], "has shape"),
            (lambda p: p[:1], "has 1 channels"),
            (lambda p: p[:, ::-1, ::-1, ::-1], "belongs to another mask or reader"),
        ],
    )
    def test_what_does_not_fit_is_not_used_and_flagged(self, folders, run, spoil, message):
        folders.write("a", [IN_LEFT, IN_RIGHT])
        self.save(folders, spoil(self.softmax()))
        record = run()["a"].record.to_json()
        assert record["flags"] == ["probability_unused"]
        assert message in record["notes"][0]
        assert record["candidates"][0]["mean_probability"] is None

    def test_a_broken_file_is_not_used(self, folders):
        path = self.save(folders, self.softmax())
        path.write_bytes(path.read_bytes()[:300])
        assert read_probability(path, self.TUMOR, self.MASK)[0] is None
        assert "'probabilities" in read_probability(self.save(folders, np.ones(2), "softmax"), self.TUMOR, self.MASK)[1]

    def test_ranking_by_a_probability_that_is_not_there_fails_the_case(self, folders, run):
        folders.write("a", [IN_LEFT, IN_RIGHT])
        outcome = run(anatomy=AnatomySettings(rank_by="mean_probability"))["a"]
        assert outcome.status == "failed"
        assert "no probability map was given" in outcome.error


def test_the_table_shows_each_case_in_a_line(folders, run):
    folders.write("a", [IN_LEFT, MIDDLE, SPECK])
    done = run()["a"]
    lines = verdict_table([done, Outcome(case="b_long", status="failed", error="no CT")]).splitlines()
    assert lines[0].split() == ["case", "candidates", "kept", "dropped", "flags"]
    assert lines[1].split() == ["a", "3", "2", "outside_lungs", "1", "–"]
    assert lines[2].split() == ["b_long", "–", "–", "–", "failed:", "no", "CT"]
    assert filter_figures(done.record)["dropped"] == {"outside_lungs": 1}
