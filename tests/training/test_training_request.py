"""The training that Python asks for is the one that the command asks for, and an earlier one goes on as it began."""

import json
from dataclasses import replace

import pytest

import nnunet_cascade as nnc
from nnunet_cascade.cli import options as options_module
from nnunet_cascade.cli import train_cascade
from nnunet_cascade.errors import DatasetError
from nnunet_cascade.settings.serialization import to_json
from nnunet_cascade.training import pipeline
from nnunet_cascade.training.earlier_runs import PLAN_BEFORE, as_begun


def asked_by_command(monkeypatch, *options):
    """What nnc-train-cascade hands to the training."""
    asked = []
    monkeypatch.setattr(pipeline, "train_cascade", asked.append)
    monkeypatch.setattr(options_module, "dataset_tumor", lambda *_: (1,))
    assert train_cascade.main(["-d", "501", "-device", "cpu", *options]) == 0
    return asked[0]


@pytest.mark.parametrize("preset", ["recommended", "paper"])
def test_a_preset_is_that_of_the_command(preset, monkeypatch, tmp_path):
    bundle = str(tmp_path / "bundle")
    asked = asked_by_command(monkeypatch, "-o", bundle, "--preset", preset)
    expected = nnc.TrainingRequest.of_preset(501, bundle, preset=preset, device="cpu")
    assert asked == replace(expected, tumor_labels=(1,))


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        ([], [("coarse", None, None), ("fine", None, 112)]),
        (["--preset", "paper"], [(None, (1, 1, 1), None), (None, (1, 1, 1), 112)]),
        (["--stage1_spacing_mm", "3", "3", "3"], [(None, (3, 3, 3), None), ("fine", None, 112)]),
        (["--stage1_grid", "nnunet", "--stage2_max_patch_mm", "90"], [(None, None, None), ("fine", None, 90)]),
        (["--preset", "paper", "--stage2_grid", "fine"], [(None, (1, 1, 1), None), ("fine", None, 112)]),
        (["--stage2_patch_size", "9", "9", "9"], [("coarse", None, None), ("fine", None, None)]),
    ],
)
def test_stage_1_is_planned_coarse_and_stage_2_fine_unless_told_otherwise(options, stages, monkeypatch, tmp_path):
    asked = asked_by_command(monkeypatch, "-o", str(tmp_path / "bundle"), *options)
    plans = [asked.stage1.plan, asked.stage2.plan]
    assert [(plan.grid, plan.spacing_mm, plan.max_patch_mm) for plan in plans] == stages


def test_each_stage_has_its_planner_and_memory(monkeypatch, tmp_path):
    options = ["--stage1_pl", "nnUNetPlannerResEncL", "--stage2_gpu_memory_target", "11"]
    asked = asked_by_command(monkeypatch, "-o", str(tmp_path / "bundle"), *options)
    plans = [asked.stage1.plan, asked.stage2.plan]
    assert [(plan.planner, plan.gpu_memory_target_gb) for plan in plans] == [("nnUNetPlannerResEncL", None), (None, 11)]


def recorded(request, path):
    """Write a request as a release did that had no grids and no score, and planned stage 2 on its crops."""
    known = json.loads(json.dumps(to_json(request)))
    del known["context_mm"], known["false_positives_per_scan"], known["spec"]["roi"]["max_candidates"]
    known["spec"]["anatomy"]["top_k"] = 1
    for stage in ("stage1", "stage2"):
        del known["spec"][stage]["average"]
        for name in PLAN_BEFORE:
            del known[stage]["plan"][name]
    path.parent.mkdir()
    path.write_text(json.dumps(known))


def test_a_run_that_an_earlier_release_began_goes_on_with_its_grids_crops_and_rules(monkeypatch, tmp_path):
    asked = nnc.TrainingRequest.of_preset(501, tmp_path / "bundle", device="cpu")
    record = tmp_path / "bundle_logs" / "request.json"
    assert as_begun(asked, record) == asked
    recorded(asked, record)
    begun = as_begun(asked, record)
    assert [begun.stage1.plan.grid, begun.stage2.plan.grid] == [None, None]
    assert (begun.false_positives_per_scan, begun.spec.anatomy.top_k, begun.spec.roi.max_candidates) == (None, 1, None)
    assert (asked.spec.stage1.average, begun.spec.stage1.average) == ("probabilities", "logits")
    assert begun.context_mm == (168, 168, 168)  # half as much again as a patch of 112 mm
    done = []
    monkeypatch.setattr(pipeline, "tumor_label", lambda _: "")
    monkeypatch.setattr(pipeline, "with_tumor_values", lambda request: request)
    monkeypatch.setattr(pipeline, "_model_steps", lambda request: [("nothing", lambda: done.append(request))])
    pipeline.train_models(asked)
    assert done == [begun]
    with pytest.raises(DatasetError, match=r"other settings \(context_mm\)"):
        pipeline.train_models(replace(asked, context_mm=(99, 99, 99)))


def test_a_run_of_this_release_does_not_go_on_with_another_grid(monkeypatch, tmp_path):
    asked = replace(nnc.TrainingRequest.of_preset(501, tmp_path / "bundle", device="cpu"), tumor_labels=(1,))
    monkeypatch.setattr(pipeline, "tumor_label", lambda _: "")
    monkeypatch.setattr(pipeline, "with_tumor_values", lambda request: request)
    monkeypatch.setattr(pipeline, "_model_steps", lambda _: [])
    pipeline.train_models(asked)
    coarser = asked_by_command(monkeypatch, "-o", str(tmp_path / "bundle"), "--stage1_grid", "nnunet")
    with pytest.raises(DatasetError, match=r"other settings \(stage1\)"):
        pipeline.train_models(coarser)
