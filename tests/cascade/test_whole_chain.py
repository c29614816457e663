"""The real commands on a tiny cascade, from planning to prediction."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from cascade_commands import DATASET, ROI_DATASET, TRAIN_CASCADE, digest, run
from oriented_grids import grid_towards

from nnunet_cascade.cascade.bundles.bundle import load_cascade, make_bundle, read_spec
from nnunet_cascade.cascade.case import Given, predict_case
from nnunet_cascade.cascade.chain import StageTraining, model_of, train_fold
from nnunet_cascade.cascade.outputs import case_record
from nnunet_cascade.cascade.planning import PlanRequest
from nnunet_cascade.cascade.spec import CascadeSpec, SamplingSettings
from nnunet_cascade.cascade.steps import run_nnunet
from nnunet_cascade.cli import cascade_predict
from nnunet_cascade.errors import BundleError, DropoutError, InputImageError, SettingsError, StepFailedError
from nnunet_cascade.geometry import AxisTurn, Grid
from nnunet_cascade.images import Volume, read_ct, read_labels, read_volume, write_image
from nnunet_cascade.trainers.roi_manifest import read_manifest

# nnU-Net and torch warn about themselves when trainers are looked up and plots are drawn.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cascade(tiny_cascade):
    return load_cascade(tiny_cascade.bundle, device=CPU)


@pytest.fixture(scope="module")
def image(tiny_cascade):
    return read_ct(tiny_cascade.test_image)


@pytest.fixture(scope="module")
def truth(tiny_cascade, image):
    return read_labels(tiny_cascade.test_truth, image.grid, what="label") > 0


@pytest.fixture(scope="module")
def result(cascade, image, truth):
    """With the truth as stage 1's prediction, so that stage 2 has work."""
    return predict_case(image, cascade, Given(stage1=truth))


class TestTraining:
    def test_nnunets_own_plans_and_data_survive(self, tiny_cascade):
        after = digest(tiny_cascade.root / "nnUNet_preprocessed")
        changed = [name for name, value in tiny_cascade.baseline_before.items() if after.get(name) != value]
        assert changed == []

    def test_it_says_what_it_is_doing(self, tiny_cascade):
        assert "[1/6] folds" in tiny_cascade.log
        assert "[6/6] cross-validation" in tiny_cascade.log

    def test_folds_of_crops_follow_stage_ones_folds_by_patient(self, tiny_cascade, splits):
        manifest = read_manifest(tiny_cascade.roi_raw / "roi_manifest.json")
        crops = json.loads((tiny_cascade.roi_raw / "splits_final.json").read_text())
        for fold, of_crops in zip(splits, crops, strict=True):
            assert {manifest[crop].patient for crop in of_crops["train"]} <= set(fold["train"])
            assert {manifest[crop].patient for crop in of_crops["val"]} <= set(fold["val"])
            assert not {manifest[c].patient for c in of_crops["train"]} & {manifest[c].patient for c in of_crops["val"]}

    def test_every_tumor_is_in_a_crop_and_false_positives_are_few(self, tiny_cascade):
        manifest = read_manifest(tiny_cascade.roi_raw / "roi_manifest.json")
        kinds = [roi.kind for roi in manifest.values()]
        assert {roi.patient for roi in manifest.values() if roi.kind != "false_positive"} == {
            path.name.removesuffix(".nii.gz") for path in (tiny_cascade.raw / "labelsTr").iterdir()
        }
        assert kinds.count("false_positive") <= len(kinds) / 4

    def test_the_plans_of_a_trained_model_hold_its_settings(self, tiny_cascade):
        block = json.loads((tiny_cascade.model(2) / "plans.json").read_text())["nnunet_cascade"]
        assert (block["epochs"], block["mc_samples"], block["uncertainty_scale"]) == (1, 2, 0.25)

    def test_a_second_run_does_nothing_twice(self, tiny_cascade):
        before = digest(tiny_cascade.root / "nnUNet_results"), digest(tiny_cascade.bundle)
        request = tiny_cascade.bundle.with_name("bundle_logs") / "request.json"
        known = json.loads(request.read_text())
        del known["edge_channel"], known["spec"]["roi"]["margin_voxels"]  # as an earlier release wrote it
        request.write_text(json.dumps(known))
        done = run("nnc-train-cascade", "-o", tiny_cascade.bundle, *TRAIN_CASCADE)
        assert (digest(tiny_cascade.root / "nnUNet_results"), digest(tiny_cascade.bundle)) == before
        assert "epoch/s" not in done.stderr

    def test_a_second_run_with_other_settings_is_refused(self, tiny_cascade):
        done = run("nnc-train-cascade", "-o", tiny_cascade.bundle, *TRAIN_CASCADE, "mc_samples=9", expected=1)
        assert "written by a run with other stage2" in done.stderr
        assert "Traceback" not in done.stderr

    def test_cross_validation_covers_every_patient_on_the_whole_ct(self, tiny_cascade):
        folder = tiny_cascade.root / "bundle_cross_validation"
        scores = json.loads((folder / "scores.json").read_text())["methods"]
        assert list(scores) == ["stage 1", "stage 1 + anatomy", "cascade"]
        for path in (tiny_cascade.raw / "labelsTr").iterdir():
            case = path.name.removesuffix(".nii.gz")
            grid = read_volume(path).grid
            assert grid.difference(read_volume(folder / f"{case}.nii.gz").grid) is None
            assert case in [score["case"] for score in scores["cascade"]["cases"]]

    def test_cross_validation_uses_the_fold_that_left_the_patient_out(self, tiny_cascade, splits):
        for number, fold in enumerate(splits):
            for case in fold["val"]:
                record = json.loads((tiny_cascade.root / "bundle_cross_validation" / f"{case}.json").read_text())
                assert record["settings"]["stage2"]["folds"] == [number]
                assert record["stage1"]["given"] is True


class TestResume:
    def test_a_fold_goes_on_from_its_latest_checkpoint_and_is_validated(self, tiny_cascade, tmp_path, monkeypatch):
        plan = json.loads((tiny_cascade.preprocessed / "nnUNetCascadeCoarsePlans.json").read_text())
        stage = StageTraining(plan=PlanRequest(name="nnUNetCascadeCoarsePlans"), trainer="CascadeTrainer")
        assert plan["plans_name"] == stage.plan.name
        shutil.copytree(tiny_cascade.model(1), tmp_path / "/".join(tiny_cascade.model(1).parts[-2:]))
        monkeypatch.setenv("nnUNet_results", str(tmp_path))
        fold = model_of(DATASET, stage) / "fold_0"
        (fold / "checkpoint_final.pth").rename(fold / "checkpoint_latest.pth")
        shutil.rmtree(fold / "validation")
        train_fold(DATASET, stage, 0, device="cpu", logs=tmp_path / "logs")
        assert (fold / "checkpoint_final.pth").is_file()
        assert (fold / "validation" / "summary.json").is_file()
        assert "Epoch 0" not in next((tmp_path / "logs").iterdir()).read_text()

    def test_a_step_that_fails_shows_its_last_lines_and_its_log(self, tiny_cascade, tmp_path):  # noqa: ARG002
        with pytest.raises(StepFailedError, match=r"ended with [12]; its log is"):
            run_nnunet("nnUNetv2_train", ["--nonsense"], log=tmp_path / "x.log", title="train nothing")
        assert "usage" in (tmp_path / "x.log").read_text()


class TestPrediction:
    def test_the_result_lies_on_the_images_own_grid(self, result, image):
        for array in (result.tumor, result.probability, result.uncertainty, result.regions, result.stage1):
            assert array.shape == image.grid.shape

    def test_uncertainty_is_there_inside_the_regions_and_nowhere_else(self, result):
        inside = result.regions > 0
        assert inside.any()
        assert result.uncertainty[inside].mean() > 1e-6
        assert result.uncertainty.max() <= 0.25
        assert not result.uncertainty[~inside].any()
        assert not result.probability[~inside].any()
        assert not result.tumor[~inside].any()

    def test_the_same_input_gives_the_same_bits(self, cascade, image, truth, result):
        torch.rand(3)
        again = predict_case(image, cascade, Given(case="another name", stage1=truth))
        np.testing.assert_array_equal(again.probability, result.probability)
        np.testing.assert_array_equal(again.uncertainty, result.uncertainty)

    def test_prediction_leaves_the_global_random_state_alone(self, cascade, image, truth):
        torch.manual_seed(3)
        expected = torch.rand(2)
        torch.manual_seed(3)
        predict_case(image, cascade, Given(stage1=truth))
        assert torch.equal(torch.rand(2), expected)

    def test_stage_one_tells_the_probability_of_every_voxel_where_that_is_asked_for(self, cascade, image):
        prepared = cascade.stage1.prepare_coarse(image.array, image.grid.spacing_mm)
        sparse, whole = cascade.stage1.predict_coarse(prepared), cascade.stage1.predict_everywhere(prepared)
        assert np.array_equal(sparse.mask, whole.mask)
        assert sparse.mask.any()
        assert np.allclose(sparse.probability[sparse.mask], whole.probability[sparse.mask], atol=1e-6)
        assert (whole.probability > 0).mean() > 0.99

    def test_another_seed_draws_other_samples(self, tiny_cascade, image, truth, result):
        spec = read_spec(tiny_cascade.bundle)
        other = load_cascade(tiny_cascade.bundle, device=CPU, spec=replace(spec, sampling=SamplingSettings(seed=1)))
        assert not np.array_equal(predict_case(image, other, Given(stage1=truth)).uncertainty, result.uncertainty)

    def test_a_ct_of_16_bits_and_the_same_in_float32_give_the_same_bits(self, tiny_cascade, image):
        cascade = load_cascade(tiny_cascade.bundle, device=CPU)
        found, other = (
            predict_case(Volume(image.array.astype(kind), image.grid), cascade) for kind in (np.int16, np.float32)
        )
        for name in ("tumor", "probability", "uncertainty", "stage1"):
            np.testing.assert_array_equal(getattr(found, name), getattr(other, name))
        np.testing.assert_array_equal(found.lungs.labels, other.lungs.labels)

    @pytest.mark.parametrize("code", ["RAS", "SPL"])
    def test_a_flipped_or_permuted_image_gives_the_same_result_on_its_own_grid(self, tiny_cascade, image, truth, code):
        spec = read_spec(tiny_cascade.bundle)
        spec = replace(spec, stage2=replace(spec.stage2, orientation="LPS"))
        upright = load_cascade(tiny_cascade.bundle, device=CPU, spec=spec, with_stage1=False)
        turn = AxisTurn.to_code(image.grid, code)
        z, y, x = (tuple((-1 if turn.flipped[i] else 1) * v for v in image.grid.axes[turn.order[i]]) for i in range(3))
        corner = tuple(float(image.grid.shape[a] - 1) if turn.flipped[turn.order.index(a)] else 0.0 for a in range(3))
        turned = turn.apply(image.array)
        grid = Grid(
            shape=turned.shape, spacing_mm=turn.spacing(image.grid.spacing_mm),
            origin_mm=image.grid.world_mm(corner), axes=(z, y, x),
        )  # fmt: skip
        expected = predict_case(image, upright, Given(stage1=truth))
        found = predict_case(Volume(np.ascontiguousarray(turned), grid), upright, Given(stage1=turn.apply(truth)))
        np.testing.assert_array_equal(turn.undo(found.tumor), expected.tumor)
        np.testing.assert_allclose(turn.undo(found.probability), expected.probability, atol=1e-5)
        assert [c.verdict.reason for c in found.filtered.candidates] == [
            c.verdict.reason for c in expected.filtered.candidates
        ]
        voxel_ml = grid.voxel_volume_mm3 / 1000
        for name in ("mean_ml", "sd_ml", "p5_ml", "p95_ml"):
            assert getattr(found.volumes.case, name) == pytest.approx(
                getattr(expected.volumes.case, name), abs=voxel_ml
            )

    def test_tumor_nowhere_is_an_empty_mask_and_a_flag(self, cascade, image, truth):
        found = predict_case(image, cascade, Given(stage1=np.zeros_like(truth)))
        assert not found.tumor.any()
        assert {"no_candidate", "empty_result"} <= set(found.flags)

    def test_every_candidate_rejected_is_an_empty_mask_and_a_flag(self, cascade, image):
        far = np.zeros(image.grid.shape, dtype=bool)
        far[0:2, 20:23, 30:34] = True
        found = predict_case(image, cascade, Given(stage1=far))
        assert not found.tumor.any()
        assert {"all_rejected", "empty_result"} <= set(found.flags)
        assert all(not candidate.kept for candidate in found.filtered.candidates)

    def test_without_lungs_candidates_are_kept_and_flagged(self, cascade, image, truth):
        filled = Volume(np.where(image.array < -300, -50, image.array).astype(np.float32), image.grid)
        filled.array[:, 0] = -1000
        found = predict_case(filled, cascade, Given(stage1=truth))
        assert "lungs_missing" in found.flags
        assert any(candidate.kept for candidate in found.filtered.candidates)
        assert found.notes

    def test_without_samples_there_is_no_uncertainty(self, tiny_cascade, image, truth):
        spec = replace(read_spec(tiny_cascade.bundle), sampling=SamplingSettings(mc_samples=0))
        found = predict_case(image, load_cascade(tiny_cascade.bundle, device=CPU, spec=spec), Given(stage1=truth))
        assert found.uncertainty is None
        assert case_record(found, "case", spec=spec)["uncertainty"] is None

    def test_an_image_that_is_no_ct_is_refused(self, cascade):
        grid = grid_towards("LPS", (8, 8, 8))
        with pytest.raises(InputImageError, match="not a CT"):
            predict_case(Volume(np.zeros((8, 8, 8), dtype=np.float32), grid), cascade)

    def test_a_cascade_loaded_without_stage_one_asks_for_its_mask(self, tiny_cascade, image):
        with pytest.raises(BundleError, match="stage-1 mask"):
            predict_case(image, load_cascade(tiny_cascade.bundle, device=CPU, with_stage1=False))


SOURCES = [
    ("mc_dropout",),
    ("tta",),
    ("ensemble",),
    ("mc_dropout", "tta"),
    ("tta", "ensemble"),
    ("mc_dropout", "tta", "ensemble"),
]


class TestSampling:
    def of(self, tiny_cascade, *, folds=(0, 1), with_stage1=False, stage2=None, **sampling):
        """The cascade with other samples; the paper's policy on islands keeps masks plain."""
        spec = read_spec(tiny_cascade.bundle)
        sampling = SamplingSettings(**{"mc_samples": 8, **sampling})
        spec = replace(spec, roi=replace(spec.roi, islands="keep"), sampling=sampling)
        spec = replace(spec, stage2=replace(spec.stage2, folds=folds, **(stage2 or {})))
        return load_cascade(tiny_cascade.bundle, device=CPU, spec=spec, with_stage1=with_stage1)

    @pytest.mark.parametrize("sources", SOURCES)
    @pytest.mark.parametrize("measure", ["variance", "predictive_entropy", "mutual_information"])
    def test_every_source_gives_every_measure(self, tiny_cascade, image, truth, sources, measure):
        folds = (0, 1) if "ensemble" in sources else (0,)
        cascade = self.of(tiny_cascade, folds=folds, sources=sources, measure=measure)
        found = predict_case(image, cascade, Given(stage1=truth))
        inside = found.regions > 0
        assert found.uncertainty[inside].mean() > 1e-7
        highest = 0.25 if measure == "variance" else np.log(2)
        assert 0 <= found.uncertainty.min() <= found.uncertainty.max() <= highest + 1e-6
        record = case_record(found, "case", spec=cascade.spec)["uncertainty"]
        drops, mirrors = "mc_dropout" in sources, 8 if "tta" in sources else 1
        assert (record["measure"], tuple(record["sources"]), record["seed"]) == (measure, sources, 0)
        assert (record["members"], record["mirrors"], record["mc_samples"]) == (len(folds), mirrors, 8 if drops else 0)
        assert record["samples"] == record["volume"]["samples"] == len(folds) * (8 if drops else mirrors)

    def test_naming_the_defaults_changes_no_bit(self, tiny_cascade, image, truth, result):
        spec = read_spec(tiny_cascade.bundle)
        named = replace(spec.sampling, sources=("mc_dropout", "ensemble"), measure="variance", stage1_sources=())
        again = load_cascade(tiny_cascade.bundle, device=CPU, spec=replace(spec, sampling=named))
        found = predict_case(image, again, Given(stage1=truth))
        for name in ("tumor", "probability", "uncertainty"):
            np.testing.assert_array_equal(getattr(found, name), getattr(result, name))

    @pytest.mark.parametrize("measure", ["predictive_entropy", "mutual_information"])
    def test_the_measure_changes_neither_mask_nor_probability(self, tiny_cascade, image, truth, result, measure):
        spec = read_spec(tiny_cascade.bundle)
        other = replace(spec, sampling=replace(spec.sampling, measure=measure))
        found = predict_case(image, load_cascade(tiny_cascade.bundle, device=CPU, spec=other), Given(stage1=truth))
        np.testing.assert_array_equal(found.probability, result.probability)
        np.testing.assert_array_equal(found.tumor, result.tumor)
        assert found.volumes == result.volumes

    def test_volumes_over_two_folds_are_those_of_each_fold_alone(self, tiny_cascade, image, truth):
        both = predict_case(image, self.of(tiny_cascade, sources=("ensemble",)), Given(stage1=truth))
        alone = [
            predict_case(image, self.of(tiny_cascade, folds=(fold,), sources=()), Given(stage1=truth))
            for fold in (0, 1)
        ]
        volumes = [found.tumor.sum() * image.grid.voxel_volume_mm3 / 1000 for found in alone]
        voxel_ml = image.grid.voxel_volume_mm3 / 1000  # nnU-Net blends alone in half precision
        assert both.volumes.case.mean_ml == pytest.approx(np.mean(volumes), abs=5 * voxel_ml)
        assert both.volumes.case.sd_ml == pytest.approx(np.std(volumes), abs=5 * voxel_ml)
        assert all(found.uncertainty is None and found.volumes is None for found in alone)

    def test_a_region_does_not_depend_on_its_neighbours(self, tiny_cascade, image, truth):
        cascade = self.of(tiny_cascade, sources=("mc_dropout", "tta"), measure="mutual_information")
        both = predict_case(image, cascade, Given(stage1=truth))
        assert len(both.rois) == 2
        for roi in both.rois:
            (candidate,) = (c for c in both.filtered.candidates if c.id == roi.candidate)
            one = both.filtered.labels == candidate.id
            found = predict_case(image, cascade, Given(stage1=one))
            mine = (found.regions > 0) & (both.regions == roi.id)
            assert mine.any()
            apart = both.rois[0].box.intersection(both.rois[1].box) is None
            if apart:
                np.testing.assert_array_equal(found.uncertainty[mine], both.uncertainty[mine])
                assert found.volumes.case == both.volumes.regions[roi.id]

    def test_lesions_make_up_the_mask(self, result):
        assert sum(lesion.voxels for lesion in result.lesions) == result.tumor.sum() > 0
        for lesion in result.lesions:
            assert lesion.mean_uncertainty <= lesion.max_uncertainty <= result.uncertainty.max()
            assert lesion.boundary_uncertainty > 0
            assert lesion.volume.samples == result.sampling.samples

    def test_temperature_scales_the_probability_and_nothing_else(self, tiny_cascade, image, truth):
        plain = predict_case(image, self.of(tiny_cascade), Given(stage1=truth))
        cascade = self.of(tiny_cascade, stage2={"temperature": 3.0})
        warm = predict_case(image, cascade, Given(stage1=truth))
        inside = plain.regions > 0
        p = plain.probability[inside].astype(np.float64)
        expected = 1 / (1 + ((1 - p) / p) ** (1 / 3.0))
        np.testing.assert_allclose(warm.probability[inside], expected, atol=1e-6)
        assert not warm.probability[~inside].any()
        for name in ("tumor", "uncertainty"):
            np.testing.assert_array_equal(getattr(warm, name), getattr(plain, name))
        assert warm.volumes == plain.volumes
        assert case_record(warm, "case", spec=cascade.spec)["tumor"]["temperature"] == 3.0

    def test_with_other_thresholds_samples_are_cut_where_the_scaled_mean_is(self, tiny_cascade, image, truth):
        low = {"temperature": 3.0, "threshold": 0.45}
        warm = predict_case(image, self.of(tiny_cascade, stage2=low), Given(stage1=truth))
        raw = {"threshold": 1 / (1 + ((1 - 0.45) / 0.45) ** 3)}
        plain = predict_case(image, self.of(tiny_cascade, stage2=raw), Given(stage1=truth))
        assert warm.volumes == plain.volumes

    def test_without_dropout_as_a_source_stage_two_needs_none(self, tiny_cascade, tmp_path, image, truth):
        spec = CascadeSpec(sampling=SamplingSettings(sources=("tta",)))
        make_bundle(tmp_path / "b", stage1=tiny_cascade.model(1), stage2=tiny_cascade.model(1), spec=spec)
        found = predict_case(image, load_cascade(tmp_path / "b", device=CPU), Given(stage1=truth))
        assert found.sampling.samples == 8
        assert found.uncertainty[found.regions > 0].mean() > 0

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"folds": (0,), "sources": ("ensemble",)}, "one fold and one checkpoint"),
            ({"sources": ("mc_dropout", "tta"), "mc_samples": 7}, "do not go round 8 mirrored images"),
        ],
    )
    def test_a_source_that_the_model_does_not_offer_is_refused(self, tiny_cascade, changes, message):
        with pytest.raises(SettingsError, match=message):
            self.of(tiny_cascade, **changes)

    def test_mirroring_that_the_checkpoint_does_not_allow_is_refused(self, tiny_cascade, tmp_path):
        shutil.copytree(tiny_cascade.bundle, tmp_path / "b")
        (tmp_path / "b" / "manifest.json").unlink(missing_ok=True)
        path = tmp_path / "b" / "stage2" / "fold_0" / "checkpoint_final.pth"
        checkpoint = torch.load(path, weights_only=False)
        torch.save({**checkpoint, "inference_allowed_mirroring_axes": None}, path)
        spec = replace(read_spec(tiny_cascade.bundle), sampling=SamplingSettings(sources=("tta",)))
        with pytest.raises(SettingsError, match="allows the axes None"):
            load_cascade(tmp_path / "b", device=CPU, spec=spec)

    def test_further_checkpoints_are_members(self, tiny_cascade, tmp_path, image, truth):
        stage2 = replace(
            read_spec(tiny_cascade.bundle).stage2, folds=(0,), further_checkpoints=("checkpoint_best.pth",)
        )
        bundle = read_spec(tiny_cascade.bundle)
        spec = replace(bundle, stage2=stage2, sampling=SamplingSettings(sources=("ensemble",)))
        model = shutil.copytree(tiny_cascade.model(2), tmp_path / tiny_cascade.model(2).name)
        other = model / "fold_0" / "checkpoint_best.pth"
        other.unlink(missing_ok=True)
        with pytest.raises(BundleError, match=r"checkpoint_best\.pth is missing"):
            make_bundle(tmp_path / "b", stage1=tiny_cascade.model(1), stage2=model, spec=spec)
        shutil.copyfile(model / "fold_1" / "checkpoint_final.pth", other)
        make_bundle(tmp_path / "b", stage1=tiny_cascade.model(1), stage2=model, spec=spec)
        found = predict_case(image, load_cascade(tmp_path / "b", device=CPU), Given(stage1=truth))
        folds = predict_case(image, self.of(tiny_cascade, sources=("ensemble",)), Given(stage1=truth))
        np.testing.assert_array_equal(found.uncertainty, folds.uncertainty)


class TestStageOneUncertainty:
    @pytest.fixture(scope="class")
    def spec(self, tiny_cascade, image):
        """With a threshold at which the barely trained stage 1 finds something, and no candidate dropped."""
        spec = read_spec(tiny_cascade.bundle)
        everything = replace(spec, stage1=replace(spec.stage1, threshold=1e-6))
        stage1 = load_cascade(tiny_cascade.bundle, device=CPU, spec=everything).stage1
        coarse = stage1.predict_coarse(stage1.prepare_coarse(image.array, image.grid.spacing_mm))
        threshold = float(np.quantile(coarse.probability, 0.999))
        anatomy = replace(spec.anatomy, min_volume_mm3=0.0, min_lung_overlap=0.0, min_lung_overlap_central=0.0)
        return replace(spec, stage1=replace(spec.stage1, threshold=threshold), anatomy=replace(anatomy, top_k=1))

    def predicted(self, tiny_cascade, image, spec, **changes):
        return predict_case(image, load_cascade(tiny_cascade.bundle, device=CPU, spec=replace(spec, **changes)))

    @pytest.mark.parametrize("sources", [("tta",), ("tta", "ensemble")])
    @pytest.mark.parametrize("measure", ["variance", "mutual_information"])
    def test_its_map_is_handed_on_and_changes_nothing_of_its_mask(self, tiny_cascade, image, spec, sources, measure):
        sampling = replace(spec.sampling, stage1_sources=sources, measure=measure)
        plain = self.predicted(tiny_cascade, image, spec)
        found = self.predicted(tiny_cascade, image, spec, sampling=sampling)
        np.testing.assert_array_equal(found.stage1, plain.stage1)
        assert [c.mean_probability for c in found.filtered.candidates] == [
            c.mean_probability for c in plain.filtered.candidates
        ]
        assert found.stage1_uncertainty.shape == image.grid.shape
        for candidate in found.filtered.candidates:
            mean = found.stage1_uncertainty[found.filtered.labels == candidate.id].mean(dtype=np.float64)
            assert candidate.mean_uncertainty == pytest.approx(mean)
            assert candidate.mean_uncertainty > 0
        assert plain.stage1_uncertainty is None
        assert {c.mean_uncertainty for c in plain.filtered.candidates} == {None}
        record = case_record(found, "case", spec=replace(spec, sampling=sampling))["stage1"]["uncertainty"]
        assert (record["measure"], record["samples"], record["mc_samples"]) == (measure, 16, 0)
        assert record["sources"] == ["tta", "ensemble"]  # both folds predict together anyway

    def test_candidates_can_be_ranked_by_it(self, tiny_cascade, image, spec):
        anatomy = replace(spec.anatomy, rank_by="mean_uncertainty")
        sampling = replace(spec.sampling, stage1_sources=("tta",))
        found = self.predicted(tiny_cascade, image, spec, anatomy=anatomy, sampling=sampling)
        (kept,) = found.filtered.kept
        assert kept.mean_uncertainty == min(c.mean_uncertainty for c in found.filtered.candidates)

    def test_ranking_by_it_without_it_is_refused_before_the_first_case(self, tiny_cascade, spec):
        spec = replace(spec, anatomy=replace(spec.anatomy, rank_by="mean_uncertainty"))
        with pytest.raises(SettingsError, match="give it"):
            load_cascade(tiny_cascade.bundle, device=CPU, spec=spec)

    def test_mirroring_that_is_switched_off_is_no_source(self, tiny_cascade, spec):
        spec = replace(spec, stage1=replace(spec.stage1, mirroring=False))
        with pytest.raises(SettingsError, match="mirroring False"):
            load_cascade(
                tiny_cascade.bundle,
                device=CPU,
                spec=replace(spec, sampling=SamplingSettings(stage1_sources=("tta",))),
            )


class TestBundle:
    def test_uncertainty_of_a_stage_two_without_dropout_is_refused(self, tiny_cascade, tmp_path):
        with pytest.raises(DropoutError, match="no active dropout"):
            make_bundle(tmp_path / "b", stage1=tiny_cascade.model(1), stage2=tiny_cascade.model(1), spec=CascadeSpec())
        assert list(tmp_path.iterdir()) == []

    def test_without_samples_any_model_serves_as_stage_two(self, tiny_cascade, tmp_path):
        spec = CascadeSpec(sampling=SamplingSettings(mc_samples=0))
        make_bundle(tmp_path / "b", stage1=tiny_cascade.model(1), stage2=tiny_cascade.model(1), spec=spec)
        assert read_spec(tmp_path / "b") == spec

    @pytest.mark.parametrize("stage", [1, 2])
    def test_a_model_that_predicts_nan_is_no_empty_result(self, tiny_cascade, tmp_path, image, truth, stage):
        shutil.copytree(tiny_cascade.bundle, tmp_path / "b")
        (tmp_path / "b" / "manifest.json").unlink(missing_ok=True)
        for path in (tmp_path / "b" / f"stage{stage}").glob("fold_*/*.pth"):
            checkpoint = torch.load(path, weights_only=False)
            for weights in checkpoint["network_weights"].values():
                weights.fill_(np.nan)
            torch.save(checkpoint, path)
        broken = load_cascade(tmp_path / "b", device=CPU)
        with pytest.raises(BundleError, match=f"stage{stage} predicts NaN"):
            predict_case(image, broken, Given(stage1=truth if stage == 2 else None))

    def test_a_bundle_is_not_overwritten(self, tiny_cascade):
        with pytest.raises(BundleError, match="is there already"):
            make_bundle(
                tiny_cascade.bundle, stage1=tiny_cascade.model(1), stage2=tiny_cascade.model(2), spec=CascadeSpec()
            )

    def test_a_bundle_holds_no_more_than_prediction_needs(self, tiny_cascade):
        names = {path.name for path in tiny_cascade.bundle.rglob("*") if path.is_file()}
        assert names == {
            "cascade.json", "provenance.json", "notes.txt", "manifest.json", "plans.json", "dataset.json",
            "checkpoint_final.pth",
        }  # fmt: skip

    @pytest.mark.parametrize("name", ["cascade.json", "stage2/plans.json", "stage1/fold_1/checkpoint_final.pth"])
    def test_a_missing_file_is_named(self, tiny_cascade, tmp_path, name):
        shutil.copytree(tiny_cascade.bundle, tmp_path / "b")
        (tmp_path / "b" / name).unlink()
        with pytest.raises(BundleError, match=name.rsplit("/", maxsplit=1)[-1]):
            load_cascade(tmp_path / "b", device=CPU)

    def test_a_model_of_other_channels_is_refused(self, tiny_cascade, tmp_path):
        shutil.copytree(tiny_cascade.bundle, tmp_path / "b")
        (tmp_path / "b" / "manifest.json").unlink(missing_ok=True)
        path = tmp_path / "b" / "stage2" / "dataset.json"
        path.write_text(path.read_text().replace('"0": "CT"', '"0": "CT", "1": "PET"'))
        with pytest.raises(BundleError, match="takes the channels CT, PET; expected one, the CT, or"):
            load_cascade(tmp_path / "b", device=CPU)


@pytest.fixture(scope="module")
def mixed_inputs(tiny_cascade, tmp_path_factory, image):
    """One good case among bad ones."""
    folder = tmp_path_factory.mktemp("inputs")
    shutil.copyfile(tiny_cascade.test_image, folder / "good_0000.nii.gz")
    (folder / "truncated_0000.nii.gz").write_bytes(tiny_cascade.test_image.read_bytes()[:2000])
    broken = image.array.astype(np.float32)
    broken[0, 0, 0] = np.nan
    write_image(broken, image.grid, folder / "nan_0000.nii.gz")
    write_image(np.zeros_like(image.array), image.grid, folder / "mask_0000.nii.gz")
    return folder


@pytest.fixture(scope="module")
def predicted(tiny_cascade, mixed_inputs, tmp_path_factory):
    """The command, run for real on them."""
    output = tmp_path_factory.mktemp("outputs")
    arguments = ["-i", mixed_inputs, "-o", output, "-m", tiny_cascade.bundle, "-device", "cpu", "--mc_samples", "3"]
    return output, run("nnc-cascade-predict", *arguments, expected=1)


class TestCommand:
    def test_bad_cases_get_one_line_each_and_the_good_one_is_done(self, predicted):
        output, done = predicted
        run_record = json.loads((output / "run.json").read_text())
        assert run_record["counts"] == {"done": 1, "failed": 3, "left": 0}
        assert "truncated" in run_record["cases"]["truncated"]["error"]
        assert "NaN" in run_record["cases"]["nan"]["error"]
        assert "not a CT" in run_record["cases"]["mask"]["error"]
        assert "Traceback" not in done.stderr
        for case in ("truncated", "nan", "mask"):
            assert f"{case}: " in done.stderr
            assert not list(output.glob(f"{case}*"))

    def test_a_case_has_its_files_on_its_own_grid(self, predicted, image):
        output, _ = predicted
        suffixes = ("", "_probability", "_uncertainty", "_roi", "_stage1", "_candidates", "_lungs")
        for suffix in suffixes:
            assert image.grid.difference(read_volume(output / f"good{suffix}.nii.gz").grid) is None
        assert not [path for path in output.iterdir() if path.name.startswith(".")]

    def test_a_record_explains_itself(self, predicted):
        record = json.loads((predicted[0] / "good.json").read_text())
        assert "not a medical device" in record["notice"]
        assert record["uncertainty"]["mc_samples"] == 3
        assert record["versions"]["nnunetv2"]
        for candidate in record["candidates"]:
            assert candidate["verdict"]["reason"]
        sizes = [candidate["volume_mm3"] for candidate in record["candidates"]]
        assert all(a >= b for a, b in pairwise(sizes))

    def test_a_continued_run_leaves_out_what_is_done(self, tiny_cascade, mixed_inputs, predicted, capsys):
        output, _ = predicted
        before = (output / "good.nii.gz").stat().st_mtime_ns
        arguments = ["-i", mixed_inputs, "-o", output, "-m", tiny_cascade.bundle, "-device", "cpu", "--mc_samples", "3"]
        assert cascade_predict.main([*map(str, arguments), "--continue_prediction"]) == 1
        assert json.loads((output / "run.json").read_text())["varying"]["skipped"] == ["good"]
        assert (output / "good.nii.gz").stat().st_mtime_ns == before
        capsys.readouterr()

    def test_a_stage_one_mask_on_another_grid_fails_its_case_alone(self, tiny_cascade, tmp_path, capsys):
        case = tiny_cascade.test_image.name.removesuffix("_0000.nii.gz")
        wrong = grid_towards("LPS", (4, 4, 4))
        write_image(np.zeros((4, 4, 4), dtype=np.uint8), wrong, tmp_path / f"{case}.nii.gz")
        arguments = ["-i", tiny_cascade.test_image, "-o", tmp_path / "o", "-m", tiny_cascade.bundle, "-device", "cpu"]
        assert cascade_predict.main([*map(str, arguments), "--stage1_predictions", str(tmp_path)]) == 1
        assert "is not on the image's grid" in capsys.readouterr().err

    def test_lungs_from_a_folder_are_used(self, tiny_cascade, tmp_path, capsys):
        arguments = ["-i", tiny_cascade.test_image, "-o", tmp_path / "o", "-m", tiny_cascade.bundle, "-device", "cpu"]
        lungs = tiny_cascade.raw / "lungsTs"
        truth = tiny_cascade.raw / "labelsTs"
        code = cascade_predict.main(
            [*map(str, arguments), "--mc_samples", "2", "--lungs", str(lungs), "--stage1_predictions", str(truth)]
        )
        assert code == 0
        record = json.loads(next((tmp_path / "o").glob("phantom*.json")).read_text())
        assert "folder" in record["lungs"]["source"]
        assert record["stage1"]["given"] is True
        assert record["rois"]
        capsys.readouterr()

    def test_samples_are_chosen_on_the_command_line(self, tiny_cascade, tmp_path, capsys):
        arguments = ["-i", tiny_cascade.test_image, "-o", tmp_path / "o", "-m", tiny_cascade.bundle, "-device", "cpu"]
        options = ["--uncertainty_sources", "tta", "ensemble", "--uncertainty_measure", "predictive_entropy"]
        assert cascade_predict.main([*map(str, arguments), *options, "--stage1_uncertainty", "ensemble"]) == 0
        path = next((tmp_path / "o").glob("phantom*.json"))
        record = json.loads(path.read_text())
        assert record["uncertainty"]["sources"] == ["tta", "ensemble"]
        assert record["stage1"]["uncertainty"]["measure"] == "predictive_entropy"
        assert record["settings"]["sampling"]["stage1_sources"] == ["ensemble"]
        assert path.with_name(f"{path.stem}_stage1_uncertainty.nii.gz").is_file()
        assert cascade_predict.main([*map(str, arguments), *options]) == 0
        assert not path.with_name(f"{path.stem}_stage1_uncertainty.nii.gz").is_file()
        capsys.readouterr()

    def test_wrong_usage_ends_with_two(self, tiny_cascade, tmp_path, capsys):
        arguments = ["-i", tiny_cascade.test_image, "-o", tmp_path / "o", "-m", tiny_cascade.bundle]
        assert cascade_predict.main([*map(str, arguments), "--mc_samples", "1"]) == 2
        assert "mc_samples must be 0 or at least 2" in capsys.readouterr().err

    def test_an_output_that_cannot_be_written_is_one_line(self, tiny_cascade, tmp_path, capsys):
        (tmp_path / "file").touch()
        arguments = ["-i", tiny_cascade.test_image, "-o", tmp_path / "file" / "o", "-m", tiny_cascade.bundle]
        assert cascade_predict.main([*map(str, arguments), "-device", "cpu"]) == 1
        assert "cannot be written" in capsys.readouterr().err

    def test_plans_and_bundle_commands_end_with_what_to_do_next(self, tiny_cascade, tmp_path):
        done = run(
            "nnc-make-bundle",
            "-o",
            tmp_path / "b",
            "--stage1",
            tiny_cascade.model(1),
            "--stage2",
            tiny_cascade.model(2),
        )
        assert "next: nnc-cascade-predict" in done.stdout
        assert read_spec(tmp_path / "b").stage2.folds == (0, 1)
        done = run("nnc-roi-dataset", "-d", DATASET, "-o", ROI_DATASET + 1, "--context_mm", "96", "96", "96")
        assert "ground_truth" in done.stdout
        assert "next: nnc-plan" in done.stdout


class TestRealCt:
    def test_a_real_ct_keeps_its_grid_and_shows_its_lungs(self, cascade, real_data):
        path = real_data / "CIP_ct64" / "ct-64.nrrd"
        if not path.is_file():
            pytest.skip(f"{path.name} is not among the real CTs")
        image = read_ct(path)
        found = predict_case(image, cascade)
        assert found.tumor.shape == image.grid.shape
        assert 2000 <= found.lungs.volume_ml <= 8000
        assert not {"lungs_implausible", "lungs_missing"} & set(found.flags)
