"""Samples of both stages of a tiny cascade: sources, measures, seeds."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from nnunet_cascade.bundles.bundle import load_cascade, make_bundle, read_spec
from nnunet_cascade.errors import BundleError, SettingsError
from nnunet_cascade.prediction.case import PrecomputedInputs, predict_case
from nnunet_cascade.prediction.outputs import case_record
from nnunet_cascade.prediction.spec import CascadeSpec, SamplingSettings

# nnU-Net and torch warn about themselves when trainers are looked up and plots are drawn.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CPU = torch.device("cpu")


ALL = ("mc_dropout", "tta", "ensemble")
SOURCES = [ALL[:1], ALL[1:2], ALL[2:], ALL[:2], ALL[1:], ALL]


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
        found = predict_case(image, cascade, PrecomputedInputs(stage1=truth))
        inside = found.regions > 0
        assert found.uncertainty[inside].mean() > 1e-7
        highest = 0.25 if measure == "variance" else np.log(2)
        assert 0 <= found.uncertainty.min() <= found.uncertainty.max() <= highest + 1e-6
        record = case_record(found, "case", spec=cascade.spec).to_json()["uncertainty"]
        drops, mirrors = "mc_dropout" in sources, 8 if "tta" in sources else 1
        assert (record["measure"], tuple(record["sources"]), record["seed"]) == (measure, sources, 0)
        assert (record["members"], record["mirrors"], record["mc_samples"]) == (len(folds), mirrors, 8 if drops else 0)
        assert record["total_samples"] == record["volume"]["samples"] == len(folds) * (8 if drops else mirrors)

    def test_naming_the_defaults_changes_no_bit(self, tiny_cascade, image, truth, result):
        spec = read_spec(tiny_cascade.bundle)
        named = replace(spec.sampling, sources=("mc_dropout", "ensemble"), measure="variance", stage1_sources=())
        again = load_cascade(tiny_cascade.bundle, device=CPU, spec=replace(spec, sampling=named))
        found = predict_case(image, again, PrecomputedInputs(stage1=truth))
        for name in ("tumor", "probability", "uncertainty"):
            np.testing.assert_array_equal(getattr(found, name), getattr(result, name))

    @pytest.mark.parametrize("measure", ["predictive_entropy", "mutual_information"])
    def test_the_measure_changes_neither_mask_nor_probability(self, tiny_cascade, image, truth, result, measure):
        spec = read_spec(tiny_cascade.bundle)
        other = replace(spec, sampling=replace(spec.sampling, measure=measure))
        found = predict_case(
            image, load_cascade(tiny_cascade.bundle, device=CPU, spec=other), PrecomputedInputs(stage1=truth)
        )
        np.testing.assert_array_equal(found.probability, result.probability)
        np.testing.assert_array_equal(found.tumor, result.tumor)
        assert found.volumes == result.volumes

    def test_volumes_over_two_folds_are_those_of_each_fold_alone(self, tiny_cascade, image, truth):
        both = predict_case(image, self.of(tiny_cascade, sources=("ensemble",)), PrecomputedInputs(stage1=truth))
        alone = [
            predict_case(image, self.of(tiny_cascade, folds=(fold,), sources=()), PrecomputedInputs(stage1=truth))
            for fold in (0, 1)
        ]
        volumes = [found.tumor.sum() * image.grid.voxel_volume_mm3 / 1000 for found in alone]
        voxel_ml = image.grid.voxel_volume_mm3 / 1000  # nnU-Net blends alone in half precision
        assert both.volumes.case.mean_ml == pytest.approx(np.mean(volumes), abs=5 * voxel_ml)
        assert both.volumes.case.sd_ml == pytest.approx(np.std(volumes), abs=5 * voxel_ml)
        assert all(found.uncertainty is None and found.volumes is None for found in alone)

    def test_a_region_does_not_depend_on_its_neighbours(self, tiny_cascade, image, truth):
        cascade = self.of(tiny_cascade, sources=("mc_dropout", "tta"), measure="mutual_information")
        both = predict_case(image, cascade, PrecomputedInputs(stage1=truth))
        assert len(both.rois) == 2
        for roi in both.rois:
            (candidate,) = (c for c in both.filtered.candidates if c.id == roi.candidate)
            one = both.filtered.labels == candidate.id
            found = predict_case(image, cascade, PrecomputedInputs(stage1=one))
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
            assert lesion.volume.samples == result.sampling.total_samples

    def test_temperature_scales_the_probability_and_nothing_else(self, tiny_cascade, image, truth):
        plain = predict_case(image, self.of(tiny_cascade), PrecomputedInputs(stage1=truth))
        cascade = self.of(tiny_cascade, stage2={"temperature": 3.0})
        warm = predict_case(image, cascade, PrecomputedInputs(stage1=truth))
        inside = plain.regions > 0
        p = plain.probability[inside].astype(np.float64)
        expected = 1 / (1 + ((1 - p) / p) ** (1 / 3.0))
        np.testing.assert_allclose(warm.probability[inside], expected, atol=1e-6)
        assert not warm.probability[~inside].any()
        for name in ("tumor", "uncertainty"):
            np.testing.assert_array_equal(getattr(warm, name), getattr(plain, name))
        assert warm.volumes == plain.volumes
        assert case_record(warm, "case", spec=cascade.spec).to_json()["tumor"]["temperature"] == 3.0

    def test_with_other_thresholds_samples_are_cut_where_the_scaled_mean_is(self, tiny_cascade, image, truth):
        low = {"temperature": 3.0, "threshold": 0.45}
        warm = predict_case(image, self.of(tiny_cascade, stage2=low), PrecomputedInputs(stage1=truth))
        raw = {"threshold": 1 / (1 + ((1 - 0.45) / 0.45) ** 3)}
        plain = predict_case(image, self.of(tiny_cascade, stage2=raw), PrecomputedInputs(stage1=truth))
        assert warm.volumes == plain.volumes

    def test_without_dropout_as_a_source_stage_two_needs_none(self, tiny_cascade, tmp_path, image, truth):
        spec = CascadeSpec(sampling=SamplingSettings(sources=("tta",)))
        make_bundle(tmp_path / "b", stage1=tiny_cascade.model(1), stage2=tiny_cascade.model(1), spec=spec)
        found = predict_case(image, load_cascade(tmp_path / "b", device=CPU), PrecomputedInputs(stage1=truth))
        assert found.sampling.total_samples == 8
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
        found = predict_case(image, load_cascade(tmp_path / "b", device=CPU), PrecomputedInputs(stage1=truth))
        folds = predict_case(image, self.of(tiny_cascade, sources=("ensemble",)), PrecomputedInputs(stage1=truth))
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
        record = case_record(found, "case", spec=replace(spec, sampling=sampling)).to_json()["stage1"]["uncertainty"]
        assert (record["measure"], record["total_samples"], record["mc_samples"]) == (measure, 16, 0)
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
                tiny_cascade.bundle, device=CPU, spec=replace(spec, sampling=SamplingSettings(stage1_sources=("tta",)))
            )
