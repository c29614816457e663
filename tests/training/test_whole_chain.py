"""The real commands on a tiny cascade, from planning to prediction."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from builders.cascade_commands import DATASET, TRAIN_CASCADE, digest
from builders.nnunet_here import run_nnunet_here
from builders.tiny_cascades import quick_spec

from nnunet_cascade.bundles.bundle import load_cascade, make_bundle, read_spec
from nnunet_cascade.case_folders.case_record import read_record
from nnunet_cascade.cli import cross_validate, evaluate, train_cascade
from nnunet_cascade.errors import BundleError, DropoutError, StepFailedError
from nnunet_cascade.geometry import AxisTurn, Grid
from nnunet_cascade.images import Volume, read_ct, read_volume
from nnunet_cascade.postprocessing.scoring.fitting import FittedScore
from nnunet_cascade.postprocessing.scoring.score import FITS, CandidateScore, ScoreFit
from nnunet_cascade.prediction.case import PrecomputedInputs, predict_case, refine_case
from nnunet_cascade.prediction.outputs import case_record
from nnunet_cascade.prediction.result import assemble_result
from nnunet_cascade.prediction.spec import CascadeSpec, SamplingSettings
from nnunet_cascade.trainers.roi_manifest import read_manifest
from nnunet_cascade.training import cross_validation, pipeline
from nnunet_cascade.training.nnunet_commands import run_nnunet
from nnunet_cascade.training.pipeline import model_of, train_fold
from nnunet_cascade.training.planning import PlanRequest
from nnunet_cascade.training.request import StageTraining

# nnU-Net and torch warn about themselves when trainers are looked up and plots are drawn.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def quick(tiny_cascade):
    """The cascade with few samples of one candidate: its stage 1 learned nothing and finds hundreds."""
    spec = quick_spec(tiny_cascade.bundle)
    return load_cascade(tiny_cascade.bundle, device=CPU, spec=replace(spec, anatomy=replace(spec.anatomy, top_k=1)))


class TestTraining:
    def test_nnunets_own_plans_and_data_survive(self, tiny_cascade):
        after = digest(tiny_cascade.root / "nnUNet_preprocessed")
        changed = [name for name, value in tiny_cascade.baseline_before.items() if after.get(name) != value]
        assert changed == []

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

    def test_the_dice_is_summed_over_the_batch_where_crops_have_no_tumor(self, tiny_cascade):
        manifest = read_manifest(tiny_cascade.roi_raw / "roi_manifest.json")
        assert any(roi.kind == "false_positive" for roi in manifest.values())
        plans = json.loads((tiny_cascade.model(2) / "plans.json").read_text())
        assert plans["configurations"]["3d_fullres"]["batch_dice"] is True
        whole = json.loads((tiny_cascade.model(1) / "plans.json").read_text())
        assert whole["configurations"]["3d_fullres"]["batch_dice"] is False

    def test_stage_2_is_planned_ahead_of_its_crops_which_hold_all_that_its_training_cuts(self, tiny_cascade):
        paths = tiny_cascade.preprocessed / "nnUNetCascadeROIPlans.json", tiny_cascade.model(2) / "plans.json"
        ahead, trained = (json.loads(path.read_text())["configurations"]["3d_fullres"] for path in paths)
        for name in ("spacing", "patch_size", "architecture"):
            assert ahead[name] == trained[name]
        (log,) = (tiny_cascade.model(2) / "fold_0").glob("training_log_*.txt")
        assert "Epoch 0" in log.read_text()
        assert "the rest is padding" not in log.read_text()

    def test_a_second_run_does_nothing_twice_and_one_with_other_settings_is_refused(self, tiny_cascade, capsys):
        before = digest(tiny_cascade.root / "nnUNet_results"), digest(tiny_cascade.bundle)
        request = tiny_cascade.bundle.with_name("bundle_logs") / "request.json"
        known = json.loads(request.read_text())
        del known["edge_channel"], known["spec"]["roi"]["margin_voxels"]  # as an earlier release wrote it
        request.write_text(json.dumps(known))
        options = ["-o", str(tiny_cascade.bundle), *TRAIN_CASCADE]
        assert train_cascade.main(options) == 0
        assert "epoch/s" not in capsys.readouterr().err
        assert train_cascade.main([*options, "mc_samples=9"]) == 1
        assert "written by a run with other settings (stage2" in capsys.readouterr().err
        assert (digest(tiny_cascade.root / "nnUNet_results"), digest(tiny_cascade.bundle)) == before

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


class TestScore:
    """The regression is tested elsewhere: here a forged fit goes its way from the cross-validation to the FROC."""

    @pytest.fixture(scope="class")
    def scored(self, tiny_cascade, tmp_path_factory):
        bundle = tmp_path_factory.mktemp("scored") / "bundle"
        shutil.copytree(tiny_cascade.bundle, bundle)
        spec = read_spec(bundle)
        few = replace(spec, sampling=replace(spec.sampling, mc_samples=2))
        (bundle / "cascade.json").write_text(json.dumps(few.to_json()))
        fit = ScoreFit(
            features=("volume",), means=(3.0,), spreads=(1.0,), coefficients=(1.0,), intercept=0.0, operating_point=0.5
        )
        counts = {"true_candidates": 10, "false_candidates": 10, "scans": 4, "false_positives_per_scan": 0.25}
        score = CandidateScore(fits=dict.fromkeys(FITS, fit), **counts)

        def fitted(examples, scans, **_):
            assert {example.scan for example in examples} <= set(scans)
            return FittedScore(score=score, held_out=dict.fromkeys(scans, score))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cross_validation, "FEWEST_SCANS", 1)
            patch.setattr(cross_validation, "fit_score", fitted)
            options = ["-d", str(DATASET), "--stage1", str(tiny_cascade.model(1)), "-m", str(bundle), "-device", "cpu"]
            assert cross_validate.main(options) == 0
        return bundle, score

    def test_it_is_stored_in_the_bundle_and_judges_every_candidate_that_stage_2_looked_at(self, scored):
        bundle, score = scored
        assert read_spec(bundle).scoring == score
        records = [
            read_record(path) for path in sorted(bundle.with_name("bundle_cross_validation").glob("phantom*.json"))
        ]
        assert len(records) == 4
        looked_at = [each for record in records for each in record.candidates if each.stage2 is not None]
        assert looked_at
        assert {each.verdict.rule for each in looked_at} <= {"score", "stage2_empty"}
        for each in looked_at:
            assert (each.score is None) is (each.verdict.rule == "stage2_empty")
        assert not list(bundle.with_name("bundle_cross_validation").glob(".refined*"))

    def test_prediction_judges_by_it_and_the_operating_point_cuts_it_elsewhere(self, scored, image, truth):
        bundle, score = scored
        cascade = load_cascade(bundle, device=CPU, with_stage1=False)
        refined = refine_case(image, cascade, PrecomputedInputs(stage1=truth))
        every, none = (
            assemble_result(refined, replace(cascade.spec, scoring=score.with_operating_point(point)))
            for point in (0.0, 1.0)
        )
        judged = [each for each in every.filtered.candidates if each.verdict.rule == "score"]
        assert all(each.kept for each in judged)
        assert (every.proposals > 0).any() == bool(judged)
        np.testing.assert_array_equal(every.proposals, none.proposals)
        assert not none.filtered.kept
        assert not none.tumor.any()

    def test_evaluation_draws_the_froc_of_it(self, scored, tiny_cascade, tmp_path):
        folder = scored[0].with_name("bundle_cross_validation")
        options = ["-gt", str(tiny_cascade.raw / "labelsTr"), "-pred", f"cascade={folder}", "-o", str(tmp_path / "out")]
        assert evaluate.main([*options, "--resamples", "200"]) == 0
        froc = json.loads((tmp_path / "out" / "froc.json").read_text())
        assert froc["methods"]["cascade"]["scans"] == 4


class TestResume:
    def test_a_step_that_fails_shows_its_last_lines_and_its_log(self, tmp_path):
        with pytest.raises(StepFailedError, match=r"ended with [12]; its log is"):
            run_nnunet("nnc-info", ["--nonsense"], log=tmp_path / "x.log", title="do nothing")
        assert "usage" in (tmp_path / "x.log").read_text()

    def test_a_fold_goes_on_from_its_latest_checkpoint_and_is_validated(self, tiny_cascade, tmp_path, monkeypatch):
        plan = json.loads((tiny_cascade.preprocessed / "nnUNetCascadeCoarsePlans.json").read_text())
        stage = StageTraining(plan=PlanRequest(name="nnUNetCascadeCoarsePlans"), trainer="CascadeTrainer")
        assert plan["plans_name"] == stage.plan.name
        shutil.copytree(tiny_cascade.model(1), tmp_path / "/".join(tiny_cascade.model(1).parts[-2:]))
        monkeypatch.setenv("nnUNet_results", str(tmp_path))
        monkeypatch.setattr(pipeline, "run_nnunet", run_nnunet_here)
        fold = model_of(DATASET, stage) / "fold_0"
        (fold / "checkpoint_final.pth").rename(fold / "checkpoint_latest.pth")
        shutil.rmtree(fold / "validation")
        train_fold(DATASET, stage, 0, device="cpu", logs=tmp_path / "logs")
        assert (fold / "checkpoint_final.pth").is_file()
        assert (fold / "validation" / "summary.json").is_file()
        assert "Epoch 0" not in next((tmp_path / "logs").iterdir()).read_text()


class TestPrediction:
    def test_uncertainty_is_there_inside_the_regions_and_nowhere_else(self, result, image):
        for array in (result.tumor, result.probability, result.uncertainty, result.regions, result.stage1):
            assert array.shape == image.grid.shape
        inside = result.regions > 0
        assert inside.any()
        assert result.uncertainty[inside].mean() > 1e-6
        assert result.uncertainty.max() <= 0.25
        assert not result.uncertainty[~inside].any()
        assert not result.probability[~inside].any()
        assert not result.tumor[~inside].any()

    def test_the_same_input_gives_the_same_bits(self, quick, image, truth):
        once = predict_case(image, quick, PrecomputedInputs(case="a name", stage1=truth))
        torch.rand(3)
        again = predict_case(image, quick, PrecomputedInputs(case="another name", stage1=truth))
        np.testing.assert_array_equal(again.probability, once.probability)
        np.testing.assert_array_equal(again.uncertainty, once.uncertainty)

    def test_prediction_leaves_the_global_random_state_alone(self, quick, image, truth):
        torch.manual_seed(3)
        expected = torch.rand(2)
        torch.manual_seed(3)
        predict_case(image, quick, PrecomputedInputs(stage1=truth))
        assert torch.equal(torch.rand(2), expected)

    def test_stage_one_tells_the_probability_of_every_voxel_where_that_is_asked_for(self, quick, image):
        prepared = quick.stage1.prepare_coarse(image.array, image.grid.spacing_mm)
        sparse, whole = quick.stage1.predict_coarse(prepared), quick.stage1.predict_everywhere(prepared)
        assert np.array_equal(sparse.mask, whole.mask)
        assert sparse.mask.any()
        assert np.allclose(sparse.probability[sparse.mask], whole.probability[sparse.mask], atol=1e-6)
        assert (whole.probability > 0).mean() > 0.99

    def test_another_seed_draws_other_samples(self, tiny_cascade, quick, image, truth):
        spec = replace(quick.spec, sampling=replace(quick.spec.sampling, seed=1))
        other = load_cascade(tiny_cascade.bundle, device=CPU, spec=spec)
        first, second = (predict_case(image, each, PrecomputedInputs(stage1=truth)) for each in (quick, other))
        assert not np.array_equal(first.uncertainty, second.uncertainty)

    def test_a_ct_of_16_bits_and_the_same_in_float32_give_the_same_bits(self, quick, image):
        found, other = (
            predict_case(Volume(image.array.astype(kind), image.grid), quick) for kind in (np.int16, np.float32)
        )
        for name in ("tumor", "probability", "uncertainty", "stage1"):
            np.testing.assert_array_equal(getattr(found, name), getattr(other, name))
        np.testing.assert_array_equal(found.lungs.labels, other.lungs.labels)

    @pytest.mark.parametrize("code", ["RAS", "SPL"])
    def test_a_flipped_or_permuted_image_gives_the_same_result_on_its_own_grid(self, tiny_cascade, image, truth, code):
        spec = quick_spec(tiny_cascade.bundle)
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
        expected = predict_case(image, upright, PrecomputedInputs(stage1=truth))
        found = predict_case(
            Volume(np.ascontiguousarray(turned), grid), upright, PrecomputedInputs(stage1=turn.apply(truth))
        )
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

    @pytest.mark.parametrize(("size", "flag"), [((0, 0, 0), "no_candidate"), ((2, 3, 4), "all_rejected")])
    def test_what_leaves_no_candidate_is_an_empty_mask_and_flags(self, cascade, image, size, flag):
        z, y, x = size
        stage1 = np.zeros(image.grid.shape, dtype=bool)
        stage1[0:z, 20 : 20 + y, 30 : 30 + x] = True
        found = predict_case(image, cascade, PrecomputedInputs(stage1=stage1))
        assert not found.tumor.any()
        assert {flag, "empty_result"} <= set(found.flags)
        assert all(not candidate.kept for candidate in found.filtered.candidates)

    def test_without_lungs_candidates_are_kept_and_flagged(self, cascade, image, truth):
        filled = Volume(np.where(image.array < -300, -50, image.array).astype(np.float32), image.grid)
        filled.array[:, 0] = -1000
        found = predict_case(filled, cascade, PrecomputedInputs(stage1=truth))
        assert "lungs_missing" in found.flags
        assert any(candidate.kept for candidate in found.filtered.candidates)
        assert found.notes

    def test_without_samples_there_is_no_uncertainty(self, tiny_cascade, image, truth):
        spec = replace(read_spec(tiny_cascade.bundle), sampling=SamplingSettings(mc_samples=0))
        found = predict_case(
            image, load_cascade(tiny_cascade.bundle, device=CPU, spec=spec), PrecomputedInputs(stage1=truth)
        )
        assert found.uncertainty is None
        assert case_record(found, "case", spec=spec).uncertainty is None

    def test_a_cascade_loaded_without_stage_one_asks_for_its_mask(self, tiny_cascade, image):
        with pytest.raises(BundleError, match="stage-1 mask"):
            predict_case(image, load_cascade(tiny_cascade.bundle, device=CPU, with_stage1=False))


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
            predict_case(image, broken, PrecomputedInputs(stage1=truth if stage == 2 else None))

    def test_a_bundle_holds_no_more_than_prediction_needs(self, tiny_cascade):
        names = {path.name for path in tiny_cascade.bundle.rglob("*") if path.is_file()}
        assert names == {
            "cascade.json", "provenance.json", "notes.txt", "manifest.json", "plans.json", "dataset.json",
            "checkpoint_final.pth",
        }  # fmt: skip

    def test_a_model_of_other_channels_is_refused(self, tiny_cascade, tmp_path):
        shutil.copytree(tiny_cascade.bundle, tmp_path / "b")
        (tmp_path / "b" / "manifest.json").unlink(missing_ok=True)
        path = tmp_path / "b" / "stage2" / "dataset.json"
        path.write_text(path.read_text().replace('"0": "CT"', '"0": "CT", "1": "PET"'))
        with pytest.raises(BundleError, match="takes the channels CT, PET; expected one, the CT, or"):
            load_cascade(tmp_path / "b", device=CPU)


class TestRealCt:
    def test_a_real_ct_keeps_its_grid_and_shows_its_lungs(self, quick, real_data):
        path = real_data / "CIP_ct64" / "ct-64.nrrd"
        if not path.is_file():
            pytest.skip(f"{path.name} is not among the real CTs")
        image = read_ct(path)
        found = predict_case(image, quick)
        assert found.tumor.shape == image.grid.shape
        assert 2000 <= found.lungs.volume_ml <= 8000
        assert not {"lungs_implausible", "lungs_missing"} & set(found.flags)
