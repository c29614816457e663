"""What is installed, what the machine offers, where nnU-Net's folders are, and what a bundle contains."""

from __future__ import annotations

import io
import os
import platform
import warnings
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nnunet_cascade._startup import VARIABLE, plugin_folder
from nnunet_cascade.bundles.bundle import DATASET_NAME, PROVENANCE_NAME, read_notes, read_spec
from nnunet_cascade.bundles.manifest import MANIFEST_NAME, STAGES, require_unchanged
from nnunet_cascade.errors import CascadeError, one_line
from nnunet_cascade.machine import processors
from nnunet_cascade.nnunet_folders import NNUNET_FOLDERS, read_json
from nnunet_cascade.settings.serialization import to_json
from nnunet_cascade.versions import PACKAGES

_EXTRAS = {"dicom": "highdicom", "ray": "ray"}
_TRAINER = "CascadeTrainer"

Info = Mapping[str, Any]
"""What is known, as JSON: by topic, then by name."""


def collect_info(bundle: Path | None = None) -> Info:
    """Return what a report of a fault should contain; it names no patient and no image.

    By topic: versions, extras, devices, folders, trainers, and the bundle if one is given. Where something cannot be
    found out, `problem` says why.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries warn of their own when they are loaded
        topics = _topics()
    return topics if bundle is None else {**topics, "bundle": _bundle(bundle)}


def _topics() -> dict[str, Any]:
    return {
        "system": {"python": platform.python_version(), "system": platform.platform()},
        "versions": {package: _version(package) for package in PACKAGES},
        "extras": {extra: _version(package) for extra, package in _EXTRAS.items()},
        "devices": {"cpu_threads": processors(), "memory_gb": _memory_gb(), **_torch_devices()},
        "folders": {variable: _folder(os.environ.get(variable, "")) for variable in NNUNET_FOLDERS},
        "trainers": _trainers(),
    }


def found_problems(info: Info) -> list[str]:
    """List what is broken: packages that are missing, and topics with a problem."""
    missing = [f"{package} is not installed" for package, found in info["versions"].items() if found is None]
    topics = {name: topic for name, topic in info.items() if isinstance(topic, dict)}
    return [*missing, *(f"{name}: {topic['problem']}" for name, topic in topics.items() if "problem" in topic)]


def info_lines(content: Any, indent: str = "") -> Iterator[str]:
    """Yield the lines of a text for people: nested names are indented, lists are joined."""
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:"
            yield from info_lines(value, f"{indent}  ")
        elif isinstance(value, (list, tuple)):
            yield f"{indent}{name}: {', '.join(map(str, value)) or 'none'}"
        else:
            yield f"{indent}{name}: {_word(value)}"


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None or value == {} else str(value)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _memory_gb() -> float | None:
    """Return the memory of the machine in 10⁹ bytes; None if the system does not tell."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _torch_devices() -> dict[str, Any]:
    try:
        import torch  # noqa: PLC0415 - the rest is told without it

        count = torch.cuda.device_count()
        gpus = [torch.cuda.get_device_properties(number) for number in range(count)]
    except Exception as error:  # noqa: BLE001 - whatever a broken installation raises is what we want to know
        return {"problem": f"PyTorch does not work ({one_line(error)}); install it again, see pytorch.org"}
    found = [f"cuda:{number} {gpu.name} ({gpu.total_memory / 1e9:.1f} GB)" for number, gpu in enumerate(gpus)]
    return {"cuda": torch.version.cuda, "gpus": found, "mps": torch.backends.mps.is_available()}


def _folder(value: str) -> dict[str, Any] | str:
    """Say whether one of nnU-Net's folders can be used."""
    if not value:
        return "not set"
    return {"path": value, "exists": Path(value).is_dir(), "writable": os.access(value, os.W_OK)}


def _trainers() -> dict[str, Any]:
    """Say whether nnU-Net finds our trainers, by the function that it uses itself."""
    registered = plugin_folder() in os.environ.get(VARIABLE, "").split(os.pathsep)
    try:
        from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name  # noqa: PLC0415

        with redirect_stdout(io.StringIO()):
            recursive_find_trainer_class_by_name(_TRAINER)
    except Exception as error:  # noqa: BLE001 - as above
        what = f"nnU-Net does not find {_TRAINER} ({one_line(error, longest=200)})"
        return {"registered": registered, "problem": f"{what}; {VARIABLE} must list {plugin_folder()}"}
    return {"registered": registered, "found": True}


def _bundle(folder: Path) -> dict[str, Any]:
    """Describe a bundle; its models are not loaded."""
    try:
        spec = read_spec(folder)
        stages = {"stage1": spec.stage1, "stage2": spec.stage2}
        known = {
            "notes": read_notes(folder),
            **{name: {"folds": stage.folds, **_model(folder, name)} for name, stage in stages.items()},
            "settings": to_json(spec),
            "checksums": "none" if not (folder / MANIFEST_NAME).is_file() else "unchanged",
        }
        require_unchanged(folder)
    except (CascadeError, OSError) as error:
        return {"problem": one_line(error)}
    return known


def _model(folder: Path, stage: str) -> dict[str, Any]:
    """Say which model a stage has, and what it was trained on."""
    dataset = read_json(folder / stage / DATASET_NAME)
    path = folder / PROVENANCE_NAME
    models: list[str] = read_json(path).get("models", []) if path.is_file() else []
    number = STAGES.index(f"{stage}/")
    trained = {"name": dataset.get("name"), "cases": dataset.get("numTraining"), "labels": dataset.get("labels")}
    return {"model": models[number] if number < len(models) else None, "trained_on": trained}
