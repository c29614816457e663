"""Choosing what is sampled, in cascade.json and on the command line."""

import json
from dataclasses import replace

import pytest

from nnunet_cascade.cli.cascade_predict import _changed, build_parser
from nnunet_cascade.errors import SettingsError
from nnunet_cascade.prediction.spec import CascadeSpec, SamplingSettings
from nnunet_cascade.uncertainty.sampling_types import SamplingPlan, SamplingSummary

PATHS = ("-i", "in", "-o", "out", "-m", "bundle")
ALL = SamplingSettings(sources=("mc_dropout", "tta", "ensemble"), stage1_sources=("tta",))


def sampling_after(*options, bundle=None):
    spec = CascadeSpec() if bundle is None else CascadeSpec(sampling=bundle)
    return _changed(spec, build_parser().parse_args([*PATHS, *options])).sampling


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ((), {}),
        (("--uncertainty_sources", "tta"), {"sources": ("tta",)}),
        (("--uncertainty_sources", "mc_dropout", "ensemble"), {"sources": ("mc_dropout", "ensemble")}),
        (("--uncertainty_sources", "none"), {"sources": ()}),
        (("--uncertainty_measure", "mutual_information"), {"measure": "mutual_information"}),
        (("--stage1_uncertainty", "tta", "ensemble"), {"stage1_sources": ("tta", "ensemble")}),
        (("--stage1_uncertainty", "none"), {"stage1_sources": ()}),
        (("--mc_samples", "5"), {"mc_samples": 5}),
        (("--disable_tta",), {"sources": ("mc_dropout", "ensemble"), "stage1_sources": ()}),
    ],
)
def test_an_option_changes_what_it_names(options, changes):
    assert sampling_after(*options, bundle=ALL) == replace(ALL, **changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--uncertainty_sources", "none", "tta"), "none cannot be combined"),
        (("--uncertainty_sources", "tta", "--disable_tta"), "exclude each other"),
        (("--stage1_uncertainty", "tta", "--disable_tta"), "exclude each other"),
        (("--stage1_uncertainty", "tta", "--stage1_predictions", "masks"), "needs the prediction of stage 1"),
        (("--uncertainty_sources", "mc_dropout", "tta", "--mc_samples", "0"), "mc_samples 0 means no dropout"),
        (("--uncertainty_sources", "tta", "tta"), "each once"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(SettingsError, match=message):
        sampling_after(*options)


@pytest.mark.parametrize("options", [("--uncertainty_sources", "folds"), ("--stage1_uncertainty", "mc_dropout")])
def test_an_unknown_source_is_wrong_usage(options, capsys):
    with pytest.raises(SystemExit) as ended:
        sampling_after(*options)
    assert ended.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "plan"),
    [
        ({}, SamplingPlan(sources=("mc_dropout",), mc_samples=20, measure="variance")),
        ({"mc_samples": 0}, None),
        ({"sources": ()}, None),
        ({"sources": ("tta",)}, SamplingPlan(sources=("tta",))),
        ({"sources": ("tta",), "mc_samples": 0}, SamplingPlan(sources=("tta",))),
        ({"sources": ("ensemble", "mc_dropout")}, SamplingPlan(sources=("ensemble", "mc_dropout"), mc_samples=20)),
    ],
)
def test_passes_are_those_of_dropout_and_stage_1_is_sampled_aside(settings, plan):
    assert SamplingSettings(**settings).of_stage2() == plan
    assert SamplingSettings(**settings).of_stage1() is None
    aside = SamplingSettings(**settings, stage1_sources=("tta",), measure="predictive_entropy").of_stage1()
    assert aside == SamplingPlan(sources=("tta",), measure="predictive_entropy", deterministic=True)


@pytest.mark.parametrize(("passes", "samples"), [(0, 3 * 8), (20, 3 * 20)])
def test_samples_are_passes_or_mirrored_images_of_each_member(passes, samples):
    facts = SamplingSummary(sources=("tta", "ensemble"), members=3, mirrors=8, mc_samples=passes, measure="variance")
    assert facts.total_samples == samples


def test_a_cascade_json_from_before_there_was_a_choice_loads_with_the_defaults():
    content = json.loads(json.dumps(CascadeSpec().to_json()))
    for name in ("sources", "measure", "stage1_sources"):
        del content["sampling"][name]
    for stage in ("stage1", "stage2"):
        for name in ("temperature", "further_checkpoints"):
            del content[stage][name]
    assert CascadeSpec.from_json(content, where="old") == CascadeSpec()


def test_a_choice_survives_json():
    spec = CascadeSpec(sampling=replace(ALL, measure="mutual_information"))
    spec = replace(spec, stage2=replace(spec.stage2, temperature=1.7, further_checkpoints=("checkpoint_best.pth",)))
    assert CascadeSpec.from_json(json.loads(json.dumps(spec.to_json())), where="test") == spec
