"""Runs that an earlier release began: what it did not write down means what held then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

from nnunet_cascade.nnunet_folders import read_json
from nnunet_cascade.prediction.spec import CascadeSpec
from nnunet_cascade.settings.serialization import to_json
from nnunet_cascade.training.request import StageTraining, TrainingRequest

PLAN_BEFORE: dict[str, Any] = {"grid": None}
"""What settings that plans of earlier releases do not name were then."""
_STAGES = ("stage1", "stage2")


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
    changed = {name: _stage_as_begun(getattr(request, name), known.get(name)) for name in _STAGES}
    return replace(request, **changed)


def _stage_as_begun(stage: StageTraining, known: Any) -> StageTraining:
    plan = known.get("plan") if isinstance(known, dict) else None
    if not isinstance(plan, dict) or "grid" in plan:
        return stage
    return replace(stage, plan=replace(stage.plan, grid=None))


def completed(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a run with what an earlier release did not write."""
    own = {item.name: item.default for item in fields(TrainingRequest) if item.default is not MISSING}
    stages = {name: {"plan": PLAN_BEFORE} for name in _STAGES}
    return _filled(known, json.loads(json.dumps({**own, "spec": to_json(CascadeSpec()), **stages})))


def _filled(known: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    nested = {
        name: _filled(known[name], value) for name, value in defaults.items() if isinstance(known.get(name), dict)
    }
    return {**defaults, **known, **nested}
