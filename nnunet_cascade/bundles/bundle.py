"""A bundle: a folder with both trained models and the settings they are used with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nnunet_cascade.atomic_folder import atomic_folder, require_free
from nnunet_cascade.bundles.manifest import MANIFEST_NAME, file_checksums, require_unchanged, write_manifest
from nnunet_cascade.dataset_labels import CUT_FROM, DatasetLabels
from nnunet_cascade.errors import BundleError
from nnunet_cascade.files import sha256_of, write_json, write_text
from nnunet_cascade.nnunet_folders import read_json
from nnunet_cascade.prediction.loaded import LoadedCascade
from nnunet_cascade.prediction.spec import CascadeSpec, StageSettings
from nnunet_cascade.settings.serialization import require
from nnunet_cascade.versions import versions

if TYPE_CHECKING:  # the parent of a run reads settings and checksums and needs no PyTorch
    import torch


SPEC_NAME = "cascade.json"
NOTES_NAME = "notes.txt"
PROVENANCE_NAME = "provenance.json"
PLANS_NAME, DATASET_NAME = "plans.json", "dataset.json"
# Others, such as "training" and "dataset", list the images of patients by name.
_DATASET_KEYS = frozenset(
    {
        "channel_names",
        "modality",
        "labels",
        "regions_class_order",
        "file_ending",
        "overwrite_image_reader_writer",
        "numTraining",
        "name",
        "description",
        "reference",
        "licence",
        "license",
        "release",
    }
)


def read_spec(folder: str | Path) -> CascadeSpec:
    """Read the settings of a bundle.

    Raises:
        BundleError: The folder is not a bundle, or one of another version.
    """
    path = Path(folder) / SPEC_NAME
    if not path.is_file():
        raise BundleError(f"{folder} has no {SPEC_NAME}; expected a bundle made by nnc-make-bundle")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not JSON ({error}); make the bundle again") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} holds no JSON object; make the bundle again")
    return CascadeSpec.from_json(content, where=str(path))


def read_notes(folder: Path) -> tuple[str, ...]:
    """Read what a bundle says about itself, such as what it was trained on: the lines of `notes.txt`, if there.

    Raises:
        BundleError: It is not text in UTF-8.
    """
    path = folder / NOTES_NAME
    try:
        return tuple(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else ()
    except UnicodeDecodeError as error:
        raise BundleError(f"{path} is no text in UTF-8 ({error.reason}); store it as UTF-8") from error


def model_files(spec: CascadeSpec, *, with_stage1: bool = True) -> tuple[str, ...]:
    """Return the names of the files that the models of a bundle are read from, such as `stage2/plans.json`."""
    stages = {"stage1": spec.stage1, "stage2": spec.stage2} if with_stage1 else {"stage2": spec.stage2}
    return tuple(f"{stage}/{name}" for stage, settings in stages.items() for name in _files_of(settings))


def load_cascade(  # noqa: PLR0913 - what is loaded, where, and how far it is trusted
    folder: Path,
    *,
    device: torch.device,
    spec: CascadeSpec | None = None,
    with_stage1: bool = True,
    trusted: bool = False,
    precision: Literal["float32", "bfloat16"] = "float32",
) -> LoadedCascade:
    """Load both models of a bundle.

    Args:
        folder: Of the bundle.
        device: Where to predict.
        spec: Settings to use instead of the bundle's own.
        with_stage1: False leaves stage 1 out, where its predictions are given.
        trusted: Let checkpoints and plans run code of their own, as nnU-Net itself does.
        precision: What the networks compute in; "bfloat16" on CPUs that have it.

    Raises:
        BundleError: Something is missing, does not fit, was changed after the bundle was made, or
            would run code and is not trusted; or stage 2 has more than one foreground label.
        DropoutError: Monte-Carlo dropout is asked of a stage 2 without active dropout.
        SettingsError: A source of samples is asked for that the models do not offer, candidates are ranked
            by an uncertainty that nobody makes, or the device lacks the precision.
    """
    from nnunet_cascade.prediction.model_files import require_one_label  # noqa: PLC0415 - as above
    from nnunet_cascade.prediction.stage_model import StageModel  # noqa: PLC0415 - as above

    spec = spec or read_spec(folder)
    coarse, fine = spec.sampling.of_stage1() if with_stage1 else None, spec.sampling.of_stage2()
    ranked = spec.anatomy.rank_by != "mean_uncertainty" or coarse is not None
    require(
        ranked, "rank_by is mean_uncertainty, which needs stage 1's own prediction and --stage1_uncertainty; give it"
    )
    if (folder / MANIFEST_NAME).is_file():
        there = [name for name in model_files(spec, with_stage1=with_stage1) if (folder / name).is_file()]
        require_unchanged(folder, file_checksums(folder, there))
    stage = partial(StageModel, device=device, trusted=trusted, precision=precision)
    stage1 = stage(folder / "stage1", spec.stage1, plan=coarse) if with_stage1 else None
    require_one_label(folder / "stage2", spec.stage2)
    return LoadedCascade(spec, stage1, stage(folder / "stage2", spec.stage2, plan=fine))


def make_bundle(  # noqa: PLR0913 - the words of its command
    target: Path,
    *,
    stage1: Path,
    stage2: Path,
    spec: CascadeSpec,
    notes: Sequence[str] = (),
    trusted: bool = False,
) -> None:
    """Pack two trained models and the settings into a bundle, and try that it loads.

    Only what prediction needs is packed: of checkpoints the weights, of dataset.json no
    list of images; no logs, splits or fingerprints. `provenance.json` has the checksums of the checkpoints as they
    were. The bundle appears under its name when it is complete.

    Args:
        target: The bundle's folder; it must not be there yet.
        stage1: Model folder of any nnU-Net trainer.
        stage2: Model folder of a trainer with dropout, unless no Monte-Carlo dropout is asked. It has one
            foreground label.
        spec: The settings; its folds are those that are packed.
        notes: Lines that every result of the bundle repeats, such as what it was trained on.
        trusted: Let the models run code of their own, as nnU-Net itself does.

    Raises:
        BundleError: The target exists, or a model is incomplete, does not fit, or would run code and is not trusted.
        DropoutError: Monte-Carlo dropout is asked of a stage 2 without active dropout.
        SettingsError: As `load_cascade` raises.
    """
    import torch  # noqa: PLC0415 - as above

    from nnunet_cascade.prediction.model_files import require_one_label, tumor_channels  # noqa: PLC0415 - as above

    require_free(target, BundleError)
    models = (("stage1", stage1, spec.stage1), ("stage2", stage2, spec.stage2))
    for _, source, settings in models:
        for name in _files_of(settings):
            if not (source / name).is_file():
                raise BundleError(f"{source / name} is missing; expected a trained nnU-Net model folder")
    tumor_channels(read_json(stage1 / DATASET_NAME), spec.stage1.tumor_names, where=str(stage1))
    require_one_label(stage2, spec.stage2)
    _require_same_tumor(stage1, stage2, spec.stage1)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(target, error=BundleError) as beside:
        sources: dict[str, str] = {}
        for name, source, settings in models:
            packed = _pack_model(source, beside / name, settings, trusted=trusted)
            sources |= {f"{name}/{file}": checksum for file, checksum in packed.items()}
        write_json(beside / SPEC_NAME, spec.to_json())
        provenance = {"models": [stage1.name, stage2.name], "packed_from": sources, "versions": versions()}
        write_json(beside / PROVENANCE_NAME, provenance)
        write_text(beside / NOTES_NAME, "".join(f"{note}\n" for note in notes))
        write_manifest(beside, {"versions": versions()})
        load_cascade(beside, device=torch.device("cpu"), trusted=trusted)


def _require_same_tumor(stage1: Path, stage2: Path, settings: StageSettings) -> None:
    """Raise if the crops of stage 2 were cut around other labels than the tumor of stage 1, of the same dataset.

    Models of crops that were made otherwise, or from another dataset, are not compared.
    """
    cut: Any = read_json(stage2 / DATASET_NAME).get(CUT_FROM)
    same = isinstance(cut, dict) and cut.get("dataset") == read_json(stage1 / PLANS_NAME).get("dataset_name")
    if not same:
        return
    labels = DatasetLabels.of(read_json(stage1 / DATASET_NAME), where=str(stage1))
    tumor = sorted(labels.values_of(settings.tumor_names))
    if cut.get("tumor_labels") != tumor:
        raise BundleError(
            f"{stage2} was trained on crops around the labels {cut.get('tumor_labels')} of {cut['dataset']}; the tumor "
            f"of stage 1 is {tumor}; give the same --tumor_label to nnc-roi-dataset and nnc-make-bundle"
        )


def available_folds(model: Path, checkpoint: str) -> tuple[int, ...]:
    """List the trained folds of a model folder, by number; "all" is not among them."""
    numbers = [path.parent.name.removeprefix("fold_") for path in model.glob(f"fold_*/{checkpoint}")]
    return tuple(sorted(int(number) for number in numbers if number.isdecimal()))


def with_folds(settings: StageSettings, model: Path) -> StageSettings:
    """Return stage settings for all trained folds of a model.

    Raises:
        BundleError: No fold is trained.
    """
    folds = available_folds(model, settings.checkpoint)
    if folds:
        return replace(settings, folds=folds)
    if (model / "fold_all" / settings.checkpoint).is_file():
        return replace(settings, folds=("all",))
    raise BundleError(f"{model} has no fold_*/{settings.checkpoint}; expected a trained nnU-Net model folder")


def without_images(dataset_json: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dataset.json without the lists of images that some tools put in."""
    return {key: value for key, value in dataset_json.items() if key in _DATASET_KEYS}


def _files_of(settings: StageSettings) -> Iterator[str]:
    yield from (PLANS_NAME, DATASET_NAME)
    yield from (f"fold_{fold}/{name}" for name in settings.checkpoints for fold in settings.folds)


def _pack_model(source: Path, target: Path, settings: StageSettings, *, trusted: bool) -> dict[str, str]:
    """Write what prediction needs of a model; gives the checksums of the checkpoints as they were."""
    from nnunet_cascade.prediction.model_files import Checkpoint  # noqa: PLC0415 - as above

    checksums: dict[str, str] = {}
    for name in _files_of(settings):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if name == PLANS_NAME:
            shutil.copyfile(source / name, target / name)
        elif name == DATASET_NAME:
            write_json(target / name, without_images(read_json(source / name)))
        else:
            Checkpoint.read(source / name, trusted=trusted).write(target / name)
            checksums[name] = sha256_of(source / name)
    return checksums
