"""Bundles given away and taken in: nothing of this machine goes out, nothing unchecked comes in."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from nnunet_cascade.cascade.bundles.archive import (
    CARD_NAME,
    ArchiveLimits,
    Content,
    extract_archive,
    require_known_name,
    write_archive,
)
from nnunet_cascade.cascade.bundles.bundle import (
    DATASET_NAME,
    NOTES_NAME,
    PLANS_NAME,
    PROVENANCE_NAME,
    SPEC_NAME,
    load_cascade,
    model_files,
    read_notes,
    read_spec,
    without_images,
)
from nnunet_cascade.cascade.bundles.card import CardFacts, ModelFacts, model_card
from nnunet_cascade.cascade.bundles.manifest import MANIFEST_NAME, ListedFile, sha256_of, to_manifest
from nnunet_cascade.cascade.bundles.model_files import Checkpoint
from nnunet_cascade.cascade.nnunet_folders import read_json
from nnunet_cascade.cascade.spec import CascadeSpec
from nnunet_cascade.errors import BundleError, CascadeError
from nnunet_cascade.files import whole_file
from nnunet_cascade.versions import versions

_CALIBRATION_NAME = "calibration.json"
_BESIDE_MODELS = (SPEC_NAME, NOTES_NAME, PROVENANCE_NAME, _CALIBRATION_NAME)
_A_PATH = re.compile(r"(?:^|[\s'\"(=,;])(?:~?/[^\s/]+/[^\s]|[A-Za-z]:[\\/]|\\\\[^\\\s]+\\|file://)")


def export_bundle(bundle: Path, target: Path, facts: CardFacts, *, trusted: bool = False) -> None:
    """Write a bundle as a zip for others, with a manifest and a model card.

    The same bundle, facts and release give the same bytes. Of checkpoints only what prediction needs goes in.

    Args:
        bundle: As `make_bundle` made it.
        target: The zip; it must not be there yet.
        facts: What the model card says beside what is known.
        trusted: Let the models run code of their own while they are tried; who installs the bundle must trust them too.

    Raises:
        BundleError: The bundle is incomplete, was changed, or names a place on this machine; or the target exists.
        DropoutError, SettingsError: As `load_cascade` raises.
        OSError: The zip cannot be written.
    """
    if target.exists() or target.is_symlink():
        raise BundleError(f"{target} is there already; choose another name or remove it")
    spec = read_spec(bundle)
    _require_no_places(spec, str(bundle / SPEC_NAME))
    load_cascade(bundle, device=torch.device("cpu"), trusted=trusted)
    contents: dict[str, Content] = {
        name: _bare(bundle / name, trusted=trusted) for name in _BESIDE_MODELS if (bundle / name).is_file()
    }
    models: dict[str, ModelFacts] = {}
    for name in model_files(spec):
        require_known_name(name)
        contents[name] = _bare(bundle / name, trusted=trusted)
    for stage, settings in (("stage1", spec.stage1), ("stage2", spec.stage2)):
        first = bundle / stage / f"fold_{settings.folds[0]}" / settings.checkpoint
        models[stage] = _model_facts(bundle / stage, Checkpoint.read(first, trusted=trusted))
    further = {"notes": read_notes(bundle), "versions": versions(), "trusted": trusted}
    contents[CARD_NAME] = model_card(target.stem, facts, spec, models, further).encode()
    _require_nothing_of_this_machine(contents)
    listed = {name: _listed(content) for name, content in contents.items()}
    said = {"licence": facts.licence, "training_data": facts.training_data, "versions": versions()}
    contents[MANIFEST_NAME] = _as_json(to_manifest(listed, said))
    with whole_file(target) as beside:
        write_archive(beside, contents)


def install_bundle(path: Path, target: Path, *, limits: ArchiveLimits | None = None, trusted: bool = False) -> None:
    """Unpack a bundle that `export_bundle` wrote, and try that it loads; it appears under its name when all is well.

    Args:
        path: The zip.
        target: The bundle's folder; neither it nor a link of its name may be there.
        limits: How much the zip may unpack to.
        trusted: Let the models run code of their own.

    Raises:
        BundleError: The target exists, or the zip is refused.
        OSError: The zip cannot be read, or the folder not written.
    """
    parent = target.parent.resolve()
    if target.exists() or target.is_symlink():
        raise BundleError(f"{target} is there already; choose another name or remove it")
    if not parent.is_dir() or target.name in {"", ".."}:
        raise BundleError(f"{target} cannot be made; expected the name of a folder in one that is there")
    beside = parent / f".{os.getpid()}.{target.name}"
    try:
        beside.mkdir()
        _unpack(path, beside, limits or ArchiveLimits(), trusted=trusted)
        beside.rename(parent / target.name)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def check_bundle(path: Path, *, limits: ArchiveLimits | None = None, trusted: bool = False) -> CascadeSpec:
    """Do all that `install_bundle` does in a temporary folder, and leave nothing; gives the bundle's settings.

    Raises:
        BundleError: The zip is refused.
        OSError: The zip cannot be read, or there is no room to unpack it.
    """
    with TemporaryDirectory(prefix="nnc-bundle-") as folder:
        return _unpack(path, Path(folder), limits or ArchiveLimits(), trusted=trusted)


def _unpack(path: Path, folder: Path, limits: ArchiveLimits, *, trusted: bool) -> CascadeSpec:
    extract_archive(path, folder, limits)
    try:
        spec = read_spec(folder)
        _require_no_places(spec, SPEC_NAME)
        load_cascade(folder, device=torch.device("cpu"), trusted=trusted)
    except CascadeError as error:
        told = str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), "the bundle")
        raise BundleError(f"{path}: {told}") from error
    return spec


def _require_no_places(spec: CascadeSpec, where: str) -> None:
    """Raise where settings name a file or folder that only one machine has."""
    for name, place in (("path", spec.lungs.path), ("weights", spec.lungs.weights)):
        if place is not None:
            raise BundleError(
                f"{where}: lungs.{name} names {str(place)!r}, a place on one machine; "
                "expected null; whoever predicts can give it to nnc-cascade-predict"
            )


def _bare(path: Path, *, trusted: bool) -> Content:
    """Give a file without what others do not need: as it is, or as bytes."""
    if path.name in {DATASET_NAME, _CALIBRATION_NAME}:
        content = read_json(path)
        # The command line that calibrated names folders of this machine.
        varying = {key: value for key, value in content.items() if key != "varying"}
        bare = without_images(content) if path.name == DATASET_NAME else varying
        return path if bare == content else _as_json(bare)
    if path.suffix in {".json", ".txt"}:
        return path
    checkpoint = Checkpoint.read(path, trusted=trusted)
    if checkpoint.bare:
        return path
    buffer = io.BytesIO()
    checkpoint.write(buffer)
    return buffer.getvalue()


def _model_facts(folder: Path, checkpoint: Checkpoint) -> ModelFacts:
    return ModelFacts(
        trainer=checkpoint.trainer,
        configuration=checkpoint.configuration,
        plans=read_json(folder / PLANS_NAME),
        dataset_json=without_images(read_json(folder / DATASET_NAME)),
    )


def _require_nothing_of_this_machine(contents: Mapping[str, Content]) -> None:
    """Raise where a text of the bundle holds what looks like a path of a file on a computer."""
    for name, content in contents.items():
        if not name.endswith((".json", ".txt", ".md")):
            continue
        text = (content if isinstance(content, bytes) else content.read_bytes()).decode()
        for line in _strings(json.loads(text)) if name.endswith(".json") else text.splitlines():
            if _A_PATH.search(line):
                shown = line if len(line) <= 100 else f"{line[:97]}…"
                raise BundleError(f"{name} holds {shown!r}, a path of a computer; expected none; take it out of there")


def _strings(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield str(key)
            yield from _strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from _strings(value)


def _listed(content: Content) -> ListedFile:
    if isinstance(content, bytes):
        return ListedFile(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    return ListedFile(bytes=content.stat().st_size, sha256=sha256_of(content))


def _as_json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
