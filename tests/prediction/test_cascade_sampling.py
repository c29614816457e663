"""Samples of both stages of a tiny cascade: sources, measures, seeds."""

import shutil
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch

from nnunet_cascade.bundles.bundle import load_cascade, make_bundle, read_spec
from nnunet_cascade.errors import BundleError, SettingsError
from nnunet_cascade.geometry import Box
from nnunet_cascade.images import Volume
from nnunet_cascade.prediction.case import PrecomputedInputs, predict_case
from nnunet_cascade.prediction.outputs import case_record
from nnunet_cascade.prediction.spec import CascadeSpec, SamplingSettings

# nnU-Net and torch warn about themselves when trainers are looked up and plots are drawn.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CPU = torch.device("cpu")

ALL = ("mc_dropout", "tta", "ensemble")
SOURCES = [ALL[:1], ALL[1:2], ALL[2:], ALL[:2], ALL[1:], ALL]
MEASURES = ("variance", "predictive_entropy", "mutual_information")
QUICK = [*zip((ALL[:1], ALL[1:2], ALL), MEASURES, strict=True)]


def quick_or_long(quick, *combinations):
    """Cases of which all but some run with the long tests."""
    return [pytest.param(*each, marks=() if each in quick else pytest.mark.long) for each in combinations]


def record_of(found, spec):
    return case_record(found, "case", spec=spec).to_json()


@pytest.fixture(scope="module")
def load(tiny_cascade):
    """Give the cascade with other samples; the paper's policy on islands keeps masks plain."""

    @cache
    def of(*, folds=(0, 1), temperature=1.0, threshold=0.5, **sampling):
        spec = read_spec(tiny_cascade.bundle)
        stage2 = replace(spec.stage2, folds=folds, temperature=temperature, threshold=threshold)
        sampling = SamplingSettings(**{"mc_samples": 8, **sampling})
        spec = replace(spec, roi=replace(spec.roi, islands="keep"), stage2=stage2, sampling=sampling)
        return load_cascade(tiny_cascade.bundle, device=CPU, spec=spec, with_stage1=False)

    return of


@pytest.fixture(scope="module")
def predict(load, image, truth):
    """Give what a cascade with such samples finds around the true tumors."""
    return cache(lambda **changes: predict_case(image, load(**changes), PrecomputedInputs(stage1=truth)))


def assert_same(found, expected, *names):
    for name in names:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert found.volumes == expected.volumes


class TestSampling:
    @pytest.mark.parametrize(("sources", "measure"), quick_or_long(QUICK, *product(SOURCES, MEASURES)))
    def test_every_source_gives_every_measure(self, load, predict, sources, measure):
        folds = (0, 1) if "ensemble" in sources else (0,)
        asked = {"folds": folds, "sources": sources, "measure": measure}
        found = predict(**asked)
        assert found.uncertainty[found.regions > 0].mean() > 1e-7
        highest = 0.25 if measure == "variance" else np.log(2)
        assert 0 <= found.uncertainty.min() <= found.uncertainty.max() <= highest + 1e-6
        record = record_of(found, load(**asked).spec)["uncertainty"]
        drops, mirrors = "mc_dropout" in sources, 8 if "tta" in sources else 1
        assert (record["measure"], tuple(record["sources"]), record["seed"]) == (measure, sources, 0)
        assert (record["members"], record["mirrors"], record["mc_samples"]) == (len(folds), mirrors, 8 if drops else 0)
        assert record["total_samples"] == record["volume"]["samples"] == len(folds) * (8 if drops else mirrors)

    def test_naming_the_defaults_changes_no_bit(self, predict):
        named = predict(sources=("mc_dropout", "ensemble"), measure="variance", stage1_sources=())
        assert_same(named, predict(), "tumor", "probability", "uncertainty")

    def test_the_measure_changes_neither_mask_nor_probability(self, predict):
        assert_same(predict(measure="mutual_information"), predict(), "tumor", "probability")

    def test_volumes_over_two_folds_are_those_of_each_fold_alone(self, predict, image):
        both = predict(sources=("ensemble",))
        alone = [predict(folds=(fold,), sources=()) for fold in (0, 1)]
        voxel_ml = image.grid.voxel_volume_mm3 / 1000
        volumes = [found.tumor.sum() * voxel_ml for found in alone]
        # nnU-Net blends alone in half precision
        assert both.volumes.case.mean_ml == pytest.approx(np.mean(volumes), abs=5 * voxel_ml)
        assert both.volumes.case.sd_ml == pytest.approx(np.std(volumes), abs=5 * voxel_ml)
        assert all(found.uncertainty is None and found.volumes is None for found in alone)

    def test_a_region_does_not_depend_on_its_neighbours(self, load, predict, image):
        asked = {"sources": ("mc_dropout", "tta"), "measure": "mutual_information"}
        both = predict(**asked)
        assert len(both.rois) == 2
        apart = both.rois[0].box.intersection(both.rois[1].box) is None
        for roi in both.rois:
            one = both.filtered.labels == roi.candidate
            found = predict_case(image, load(**asked), PrecomputedInputs(stage1=one))
            mine = (found.regions > 0) & (both.regions == roi.id)
            assert mine.any()
            if apart:
                np.testing.assert_array_equal(found.uncertainty[mine], both.uncertainty[mine])
                assert found.volumes.case == both.volumes.regions[roi.id]

    def test_lesions_make_up_the_mask(self, predict):
        found = predict()
        assert sum(lesion.voxels for lesion in found.lesions) == found.tumor.sum() > 0
        for lesion in found.lesions:
            assert lesion.mean_uncertainty <= lesion.max_uncertainty <= found.uncertainty.max()
            assert lesion.boundary_uncertainty > 0
            assert lesion.volume.samples == found.sampling.total_samples

    def test_temperature_scales_the_probability_and_nothing_else(self, load, predict):
        plain, warm = predict(), predict(temperature=3.0)
        inside = plain.regions > 0
        p = plain.probability[inside].astype(np.float64)
        expected = 1 / (1 + ((1 - p) / p) ** (1 / 3.0))
        np.testing.assert_allclose(warm.probability[inside], expected, atol=1e-6)
        assert not warm.probability[~inside].any()
        assert_same(warm, plain, "tumor", "uncertainty")
        assert record_of(warm, load(temperature=3.0).spec)["tumor"]["temperature"] == 3.0

    def test_with_other_thresholds_samples_are_cut_where_the_scaled_mean_is(self, predict):
        raw = 1 / (1 + ((1 - 0.45) / 0.45) ** 3)
        assert predict(temperature=3.0, threshold=0.45).volumes == predict(threshold=raw).volumes

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
    def test_a_source_that_the_model_does_not_offer_is_refused(self, load, changes, message):
        with pytest.raises(SettingsError, match=message):
            load(**changes)

    def test_mirroring_that_the_checkpoint_does_not_allow_is_refused(self, tiny_cascade, tmp_path):
        shutil.copytree(tiny_cascade.bundle, tmp_path / "b")
        (tmp_path / "b" / "manifest.json").unlink(missing_ok=True)
        path = tmp_path / "b" / "stage2" / "fold_0" / "checkpoint_final.pth"
        checkpoint = torch.load(path, weights_only=False)
        torch.save({**checkpoint, "inference_allowed_mirroring_axes": None}, path)
        spec = replace(read_spec(tiny_cascade.bundle), sampling=SamplingSettings(sources=("tta",)))
        with pytest.raises(SettingsError, match="allows the axes None"):
            load_cascade(tmp_path / "b", device=CPU, spec=spec)

    def test_further_checkpoints_are_members(self, tiny_cascade, tmp_path, image, truth, predict):
        bundle, models = read_spec(tiny_cascade.bundle), {"stage1": tiny_cascade.model(1)}
        stage2 = replace(bundle.stage2, folds=(0,), further_checkpoints=("checkpoint_best.pth",))
        spec = replace(bundle, stage2=stage2, sampling=SamplingSettings(sources=("ensemble",)))
        models["stage2"] = shutil.copytree(tiny_cascade.model(2), tmp_path / tiny_cascade.model(2).name)
        other = models["stage2"] / "fold_0" / "checkpoint_best.pth"
        other.unlink(missing_ok=True)
        with pytest.raises(BundleError, match=r"checkpoint_best\.pth is missing"):
            make_bundle(tmp_path / "b", **models, spec=spec)
        shutil.copyfile(models["stage2"] / "fold_1" / "checkpoint_final.pth", other)
        make_bundle(tmp_path / "b", **models, spec=spec)
        found = predict_case(image, load_cascade(tmp_path / "b", device=CPU), PrecomputedInputs(stage1=truth))
        np.testing.assert_array_equal(found.uncertainty, predict(sources=("ensemble",)).uncertainty)


class TestStageOneUncertainty:
    @pytest.fixture(scope="class")
    def image(self, image):
        """The upper left quarter of the phantom: stage 1 sees eight mirrored images of it twice."""
        z, _, x = image.grid.shape
        box = Box((z // 2, 0, x // 2), image.grid.shape)
        return Volume(image.array[box.slices], image.grid.cropped(box))

    @pytest.fixture(scope="class")
    def spec(self, tiny_cascade, image):
        """With a threshold at which the barely trained stage 1 finds something, and no candidate dropped."""
        spec = read_spec(tiny_cascade.bundle)
        everything = replace(spec, stage1=replace(spec.stage1, threshold=1e-6))
        stage1 = load_cascade(tiny_cascade.bundle, device=CPU, spec=everything).stage1
        coarse = stage1.predict_coarse(stage1.prepare_coarse(image.array, image.grid.spacing_mm))
        threshold = float(np.quantile(coarse.probability, 0.999))
        anatomy = replace(spec.anatomy, min_volume_mm3=0.0, min_lung_overlap=0.0, min_lung_overlap_central=0.0)
        spec = replace(spec, sampling=replace(spec.sampling, mc_samples=2))
        return replace(spec, stage1=replace(spec.stage1, threshold=threshold), anatomy=replace(anatomy, top_k=1))

    @pytest.fixture(scope="class")
    def predicted(self, tiny_cascade, image, spec):
        """Give what the whole cascade finds with other settings, by their names."""

        @cache
        def of(rank_by="volume", **sampling):
            sampling = replace(spec.sampling, **sampling)
            changed = replace(spec, anatomy=replace(spec.anatomy, rank_by=rank_by), sampling=sampling)
            return predict_case(image, load_cascade(tiny_cascade.bundle, device=CPU, spec=changed)), changed

        return of

    @pytest.mark.parametrize(
        ("sources", "measure"), quick_or_long([(ALL[1:2], MEASURES[2])], *product((ALL[1:2], ALL[1:]), MEASURES[::2]))
    )
    def test_its_map_is_handed_on_and_changes_nothing_of_its_mask(self, predicted, image, sources, measure):
        plain, _ = predicted()
        found, asked = predicted(stage1_sources=sources, measure=measure)
        np.testing.assert_array_equal(found.stage1, plain.stage1)
        assert [c.mean_probability for c in found.filtered.candidates] == [
            c.mean_probability for c in plain.filtered.candidates
        ]
        assert found.stage1_uncertainty.shape == image.grid.shape
        for candidate in found.filtered.candidates:
            mean = found.stage1_uncertainty[found.filtered.labels == candidate.id].mean(dtype=np.float64)
            assert 0 < candidate.mean_uncertainty == pytest.approx(mean)
        assert plain.stage1_uncertainty is None
        assert {c.mean_uncertainty for c in plain.filtered.candidates} == {None}
        record = record_of(found, asked)["stage1"]["uncertainty"]
        assert (record["measure"], record["total_samples"], record["mc_samples"]) == (measure, 16, 0)
        assert record["sources"] == ["tta", "ensemble"]  # both folds predict together anyway

    def test_candidates_can_be_ranked_by_it(self, predicted):
        found, _ = predicted(rank_by="mean_uncertainty", stage1_sources=("tta",))
        (kept,) = found.filtered.kept
        assert kept.mean_uncertainty == min(c.mean_uncertainty for c in found.filtered.candidates)

    def test_what_cannot_be_done_is_refused_before_the_first_case(self, tiny_cascade, spec):
        ranked = replace(spec, anatomy=replace(spec.anatomy, rank_by="mean_uncertainty"))
        still = replace(spec, stage1=replace(spec.stage1, mirroring=False))
        still = replace(still, sampling=SamplingSettings(stage1_sources=("tta",)))
        for refused, message in ((ranked, "give it"), (still, "mirroring False")):
            with pytest.raises(SettingsError, match=message):
                load_cascade(tiny_cascade.bundle, device=CPU, spec=refused)
