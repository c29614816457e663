"""A bundle: a folder with both trained models and the settings they are used with."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nnunet_cascade.cascade.models import StageModel
from nnunet_cascade.cascade.spec import CascadeSpec, StageSettings
from nnunet_cascade.errors import BundleError
from nnunet_cascade.files import write_json
from nnunet_cascade.settings.block import require
from nnunet_cascade.versions import versions

SPEC_NAME = "cascade.json"
NOTES_NAME = "notes.txt"
_MODEL_FILES = ("plans.json", "dataset.json")


@dataclass(frozen=True, slots=True)
class LoadedCascade:
    """Both models in memory and the settings to use them with.

    Attributes:
        spec: The settings.
        stage1: The coarse model, or None where its predictions are always given.
        stage2: The ROI model.
    """

    spec: CascadeSpec
    stage1: StageModel | None
    stage2: StageModel


def read_spec(folder: Path) -> CascadeSpec:
    """Read the settings of a bundle.

    Raises:
        BundleError: The folder is no bundle, or one of another version.
    """
    path = folder / SPEC_NAME
    if not path.is_file():
        raise BundleError(f"{folder} has no {SPEC_NAME}; expected a bundle made by nnc-make-bundle")
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise BundleError(f"{path} is not JSON ({error}); make the bundle again") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} holds no JSON object; make the bundle again")
    return CascadeSpec.from_json(content, where=str(path))


def read_notes(folder: Path) -> tuple[str, ...]:
    """Read what a bundle says about itself, such as what it was trained on: the lines of `notes.txt`, if there."""
    path = folder / NOTES_NAME
    return tuple(path.read_text().splitlines()) if path.is_file() else ()


def load_cascade(
    folder: Path, *, device: torch.device, spec: CascadeSpec | None = None, with_stage1: bool = True
) -> LoadedCascade:
    """Load both models of a bundle.

    Args:
        folder: Of the bundle.
        device: Where to predict.
        spec: Settings to use instead of the bundle's own.
        with_stage1: False leaves stage 1 out, where its predictions are given.

    Raises:
        BundleError: Something is missing or does not fit.
        DropoutError: Monte-Carlo dropout is asked of a stage 2 without active dropout.
        SettingsError: A source of samples is asked for that the models do not offer, or candidates are
            ranked by an uncertainty that nobody makes.
    """
    spec = spec or read_spec(folder)
    coarse, fine = spec.sampling.of_stage1() if with_stage1 else None, spec.sampling.of_stage2()
    ranked = spec.anatomy.rank_by != "mean_uncertainty" or coarse is not None
    require(
        ranked, "rank_by is mean_uncertainty, which needs stage 1's own prediction and --stage1_uncertainty; give it"
    )
    stage1 = StageModel(folder / "stage1", spec.stage1, device=device, plan=coarse) if with_stage1 else None
    return LoadedCascade(spec, stage1, StageModel(folder / "stage2", spec.stage2, device=device, plan=fine))


def make_bundle(target: Path, *, stage1: Path, stage2: Path, spec: CascadeSpec, notes: Sequence[str] = ()) -> None:
    """Copy two trained model folders and the settings into a bundle, and try that it loads.

    Only what prediction needs is copied: no logs, splits or fingerprints. The
    bundle appears under its name when it is complete.

    Args:
        target: The bundle's folder; it must not be there yet.
        stage1: Model folder of any nnU-Net trainer.
        stage2: Model folder of a trainer with dropout, unless no Monte-Carlo dropout is asked.
        spec: The settings; its folds are those that are copied.
        notes: Lines that every result of the bundle repeats, such as what it was trained on.

    Raises:
        BundleError: The target exists, or a model is incomplete or does not fit.
        DropoutError: Monte-Carlo dropout is asked of a stage 2 without active dropout.
        SettingsError: As `load_cascade` raises.
    """
    if target.exists():
        raise BundleError(f"{target} is there already; choose another name or remove it")
    beside = target.with_name(f".{os.getpid()}.{target.name}")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        for name, source, settings in (("stage1", stage1, spec.stage1), ("stage2", stage2, spec.stage2)):
            _copy_model(source, beside / name, settings)
        write_json(beside / SPEC_NAME, spec.to_json())
        write_json(beside / "provenance.json", {"models": [stage1.name, stage2.name], "versions": versions()})
        (beside / NOTES_NAME).write_text("".join(f"{note}\n" for note in notes))
        load_cascade(beside, device=torch.device("cpu"))
        beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def available_folds(model: Path, checkpoint: str) -> tuple[int, ...]:
    """List the trained folds of a model folder, by number; "all" is not among them."""
    numbers = [path.parent.name.removeprefix("fold_") for path in model.glob(f"fold_*/{checkpoint}")]
    return tuple(sorted(int(number) for number in numbers if number.isdigit()))


def with_folds(settings: StageSettings, model: Path) -> StageSettings:
    """Give stage settings for all trained folds of a model.

    Raises:
        BundleError: No fold is trained.
    """
    folds = available_folds(model, settings.checkpoint)
    if folds:
        return replace(settings, folds=folds)
    if (model / "fold_all" / settings.checkpoint).is_file():
        return replace(settings, folds=("all",))
    raise BundleError(f"{model} has no fold_*/{settings.checkpoint}; expected a trained nnU-Net model folder")


def _copy_model(source: Path, target: Path, settings: StageSettings) -> None:
    names = [*_MODEL_FILES, *(f"fold_{fold}/{name}" for name in settings.checkpoints for fold in settings.folds)]
    for name in names:
        if not (source / name).is_file():
            raise BundleError(f"{source / name} is missing; expected a trained nnU-Net model folder")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
