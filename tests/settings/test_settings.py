"""Settings: checked when made, nothing unknown accepted."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cascade.errors import BundleError, SettingsError
from nnunet_cascade.postprocessing.lungs.source import LungSource
from nnunet_cascade.prediction.spec import CascadeSpec, RoiSettings, SamplingSettings, StageSettings
from nnunet_cascade.settings.serialization import to_json
from nnunet_cascade.settings.training import BLOCK, TrainingSettings


def test_plans_of_an_earlier_release_mean_what_held_then():
    whole = to_json(TrainingSettings(epochs=7))
    assert TrainingSettings.from_plans({BLOCK: whole}).entropy_without_tumor
    del whole["entropy_without_tumor"]
    assert TrainingSettings.from_plans({BLOCK: whole}) == TrainingSettings(epochs=7, entropy_without_tumor=False)
    assert TrainingSettings.from_plans({BLOCK: {"epochs": 7}}).entropy_without_tumor


def test_plans_without_the_block_give_the_defaults_and_an_unknown_setting_is_named():
    assert TrainingSettings.from_plans({"plans_name": "nnUNetPlans"}) == TrainingSettings()
    with pytest.raises(SettingsError, match=r"unknown settings epoch \(did you mean epochs\?\); known are .*epochs"):
        TrainingSettings.from_plans({BLOCK: {"epoch": 3}})


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"save_every": 2.5},
        {"iterations_per_epoch": 2.5},
        {"initial_learning_rate": 0.0},
        {"weight_decay": -1.0},
        {"oversample_foreground": 1.1},
        {"seed": -1},
        {"seed": 2**32},
        {"dropout": 0.0},
        {"dropout": 1.0},
        {"dropout_placement": "encoder"},
        {"adaptive_variant": "dice"},
        {"uncertainty_scale": 0.0},
        {"mc_samples": 1},
        {"dropout": "much"},
        {"mirroring": 1},
    ],
)
def test_a_training_setting_out_of_range_is_refused_by_name(wrong):
    with pytest.raises(SettingsError, match=rf"plans.*{next(iter(wrong))}"):
        TrainingSettings.from_plans({BLOCK: wrong})


@pytest.mark.parametrize("preset", ["recommended", "paper"])
def test_a_spec_survives_json(preset):
    stages = {"stage1": StageSettings(folds=(0, 3)), "stage2": StageSettings(folds=("all",), mirroring=False)}
    spec = replace(CascadeSpec.of_preset(preset), **stages, lungs=LungSource(kind="folder", path=Path("masks")))
    assert CascadeSpec.from_json(json.loads(json.dumps(spec.to_json())), where="test") == spec


@pytest.mark.parametrize(
    ("label", "names"),
    [("", ()), ("tumor", ("tumor",)), (["primary", "nodes"], ("primary", "nodes")), (["tumor"], ("tumor",))],
)
def test_a_tumor_is_one_label_or_several_and_is_written_as_it_was_read(label, names):
    content = {"version": 1, "stage1": {"tumor_label": label}}
    spec = CascadeSpec.from_json(content, where="b/cascade.json")
    assert spec.stage1.tumor_names == names
    assert json.loads(json.dumps(spec.to_json()))["stage1"]["tumor_label"] == label


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"stage1": []}, r"stage1: expected a JSON object of settings; found \[\]"),
        ({"sampling": None}, "sampling: expected a JSON object"),
        ({"lungs": "x"}, "lungs: expected a JSON object"),
        ({"lungs": {"kind": "folder", "path": 5}}, "lungs: path must be text or null; found 5"),
        ({"lungs": {"kind": "lungmask", "weights": ["a"]}}, "lungs: weights must be text or null"),
        ({"a\nb": 1}, "unknown settings"),
        ({"roi": {"margin": 3}}, "unknown settings margin"),
        *(
            ({"stage1": {"tumor_label": label}}, "tumor_label must be a text or a list of different texts; found")
            for label in (1, None, [], [1, 2], [""], ["tumor", "tumor"], [["tumor"]], [{}])
        ),
        *(({"version": version}, "bundle version") for version in (None, 0, 2, "1")),
    ],
)
def test_a_part_of_another_shape_is_refused_in_one_line(changed, told):
    with pytest.raises(BundleError, match=told) as caught:
        CascadeSpec.from_json({"version": 1, **changed}, where="b/cascade.json")
    assert "\n" not in str(caught.value)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PLACES = [
    (part, name)
    for part, block in CascadeSpec().to_json().items()
    for name in (block if isinstance(block, dict) else [None])
]


@given(st.sampled_from(PLACES), ANYTHING)
def test_whatever_json_holds_is_taken_or_refused(place, value):
    part, name = place
    content = CascadeSpec().to_json()
    content[part] = value if name is None else {**content[part], name: value}
    told = ""
    try:
        CascadeSpec.from_json(content, where="b/cascade.json")
    except BundleError as refused:
        told = str(refused)
    assert "\n" not in told


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (StageSettings, {"folds": ()}),
        (StageSettings, {"folds": (-1,)}),
        (StageSettings, {"checkpoint": "../../x.pth"}),
        (StageSettings, {"step_size": 0.0}),
        (RoiSettings, {"margin_mm": -1.0}),
        (StageSettings, {"threshold": 1.0}),
        (RoiSettings, {"islands": "burn"}),
        (SamplingSettings, {"mc_samples": 1}),
        (SamplingSettings, {"seed": 2**32}),
        (SamplingSettings, {"seed": 0.5}),
        (StageSettings, {"mirroring": "no"}),
        (CascadeSpec, {"preset": "mine"}),
        (StageSettings, {"orientation": "XYZ"}),
        (StageSettings, {"temperature": 0.0}),
        (StageSettings, {"temperature": float("nan")}),
        (StageSettings, {"further_checkpoints": ("../x.pth",)}),
        (StageSettings, {"further_checkpoints": ("checkpoint_final.pth",)}),
        (SamplingSettings, {"sources": ("dropout",)}),
        (SamplingSettings, {"sources": "tta"}),
        (SamplingSettings, {"stage1_sources": ("mc_dropout",)}),
        (SamplingSettings, {"measure": "entropy"}),
    ],
)
def test_a_spec_setting_out_of_range_is_refused(kind, wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong)).split("_")[0].rstrip("s")):
        kind(**wrong)


def test_stage_one_takes_no_temperature():
    with pytest.raises(SettingsError, match="stage 1 takes no temperature"):
        CascadeSpec(stage1=StageSettings(temperature=2.0))


def test_stage_1_averages_probabilities_but_in_the_paper_and_in_bundles_that_say_nothing_of_it():
    recommended, paper = CascadeSpec.of_preset("recommended"), CascadeSpec.of_preset("paper")
    assert [spec.stage1.average for spec in (recommended, paper)] == ["probabilities", "logits"]
    content = recommended.to_json()
    assert "average" not in content["stage2"]
    assert all("average" not in paper.to_json()[stage] for stage in ("stage1", "stage2"))
    del content["stage1"]["average"]
    assert CascadeSpec.from_json(content, where="earlier").stage1.average == "logits"
    content["stage1"]["average"] = "votes"
    with pytest.raises(BundleError, match="average must be one of"):
        CascadeSpec.from_json(content, where="test")
