"""Runs that an earlier release began: what it did not write down means what held then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

from nnunet_cascade.geometry import Spacing
from nnunet_cascade.networks.backbones import BACKBONES
from nnunet_cascade.networks.patch import legal_patch
from nnunet_cascade.nnunet_folders import read_json
from nnunet_cascade.plugin import nnunet_cascade_trainers
from nnunet_cascade.prediction.spec import CascadeSpec, RoiSettings, StageSettings
from nnunet_cascade.settings.serialization import to_json
from nnunet_cascade.training.request import DEFAULT_PATCH_MM, StageTraining, TrainingRequest

PLAN_BEFORE: dict[str, Any] = {"grid": None, "planner": None, "gpu_memory_target_gb": None}
"""What settings that plans of earlier releases do not name were then."""
_STAGES = ("stage1", "stage2")
_ROOM_TO_TURN = 1.5


def as_begun(request: TrainingRequest, record: Path) -> TrainingRequest:
    """Return a request that goes on as its run began.

    Args:
        request: What is asked for.
        record: The run's request.json; it need not be there.

    Returns:
        The request, where an earlier release began the run with the choices that it left open as it made them then.

    Raises:
        DatasetError: The record cannot be read.
    """
    if not record.is_file():
        return request
    known = read_json(record)
    stages = {name: _stage_as_begun(getattr(request, name), known.get(name)) for name in _STAGES}
    context_mm = request.context_mm
    if context_mm is None and "context_mm" not in known:
        context_mm = context_mm_before(request.stage2)
    spec = request.spec
    if "average" not in known.get("spec", {}).get("stage1", {}):
        spec = replace(spec, stage1=replace(spec.stage1, average="logits"))
    begun = replace(request, **stages, context_mm=context_mm, spec=spec)
    return begun if "false_positives_per_scan" in known else _without_score(begun, known)


def _without_score(request: TrainingRequest, known: Mapping[str, Any]) -> TrainingRequest:
    """Return a request as runs were before there was a score: the rules decided, and kept the largest by default."""
    spec = request.spec
    top_k = known.get("spec", {}).get("anatomy", {}).get("top_k", spec.anatomy.top_k)
    spec = replace(spec, anatomy=replace(spec.anatomy, top_k=top_k), roi=replace(spec.roi, max_candidates=None))
    return replace(request, false_positives_per_scan=None, spec=spec)


def _stage_as_begun(stage: StageTraining, known: Any) -> StageTraining:
    plan = known.get("plan") if isinstance(known, dict) else None
    if not isinstance(plan, dict) or "grid" in plan:
        return stage
    return replace(stage, plan=replace(stage.plan, grid=None))


def context_mm_before(stage: StageTraining) -> Spacing:
    """Return what crops held before stage 2 was planned ahead of them: its largest patch, and half as much again."""
    plan = stage.plan
    if plan.patch_size is None or plan.spacing_mm is None:
        patch_mm = DEFAULT_PATCH_MM if plan.max_patch_mm is None else plan.max_patch_mm
    else:
        backbone = getattr(getattr(nnunet_cascade_trainers, stage.trainer, None), "backbone", None)
        patch = plan.patch_size if backbone is None else legal_patch(plan.patch_size, BACKBONES[backbone])
        # nnU-Net may order the axes anew: the longest one serves for all.
        patch_mm = max(voxels * size for voxels, size in zip(patch, plan.spacing_mm, strict=True))
    extent_mm = _ROOM_TO_TURN * patch_mm
    return extent_mm, extent_mm, extent_mm


def completed(known: Mapping[str, Any], stage2: StageTraining) -> dict[str, Any]:
    """Return the record of a run with what an earlier release did not write; `stage2` is the one asked for."""
    own = {item.name: item.default for item in fields(TrainingRequest) if item.default is not MISSING}
    own |= {"context_mm": context_mm_before(stage2), "false_positives_per_scan": None}
    spec = CascadeSpec(stage1=StageSettings(), roi=RoiSettings(max_candidates=None))
    stages = {name: {"plan": PLAN_BEFORE} for name in _STAGES}
    return _filled(known, json.loads(json.dumps({**own, "spec": to_json(spec), **stages})))


def _filled(known: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    nested = {
        name: _filled(known[name], value) for name, value in defaults.items() if isinstance(known.get(name), dict)
    }
    return {**defaults, **known, **nested}
