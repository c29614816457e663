"""Bundles given away and taken in: nothing of this machine goes out, nothing unchecked comes in."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch

from nnunet_cascade.atomic_folder import atomic_folder, require_free
from nnunet_cascade.bundles.archive import (
    CARD_NAME,
    ArchiveLimits,
    Content,
    extract_archive,
    is_text,
    require_known_name,
    write_archive,
)
from nnunet_cascade.bundles.bundle import (
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
from nnunet_cascade.bundles.card import CardFacts, ModelFacts, model_card
from nnunet_cascade.bundles.manifest import MANIFEST_NAME, listed, to_manifest
from nnunet_cascade.errors import BundleError, CascadeError, one_line
from nnunet_cascade.files import atomic_file
from nnunet_cascade.nnunet_folders import read_json
from nnunet_cascade.prediction.model_files import Checkpoint
from nnunet_cascade.prediction.spec import CascadeSpec
from nnunet_cascade.versions import versions

_CALIBRATION_NAME = "calibration.json"
_BESIDE_MODELS = (SPEC_NAME, NOTES_NAME, PROVENANCE_NAME, _CALIBRATION_NAME)
# The report that nnc-calibrate writes elsewhere has the same name, and lists cases; the command line names folders.
_CALIBRATION_KEYS = frozenset(
    {
        "notice",
        "conclusions",
        "definitions",
        "temperature",
        "interval",
        "fit",
        "region",
        "results",
        "held_out",
        "held_out_temperatures",
        "in_sample",
        "everywhere",
        "reliability",
        "uncertainty",
        "resampling",
        "versions",
    }
)
_A_PLACE = re.compile(
    r"(?<![\w/])(?:/[^\s/<>]+/[^\s/]|~(?:[A-Za-z_][\w.-]*)?/\S|[A-Za-z]:[\\/])"  # /a/b, ~/a, ~b/a, C:\
    r"|(?<!\\)\\\\[^\\\s]+\\"  # \\server\
    r"|\b(?!(?:https?|ftp|doi)://)[A-Za-z][A-Za-z0-9+.-]{1,20}://|\bfile:/"  # smb://
    r"|\w@[\w.-]{1,255}:\S"  # me@server:a
)


def export_bundle(bundle: Path, target: Path, facts: CardFacts, *, trusted: bool = False) -> None:
    """Write a bundle as a zip for others, with a manifest and a model card.

    The same bundle, facts and release give the same bytes. Of checkpoints only what prediction needs goes in.

    Args:
        bundle: As `make_bundle` made it.
        target: The zip; it must not be there yet.
        facts: What the model card says next to what is known.
        trusted: Let the models run code of their own while they are tried; who installs the bundle must trust them too.

    Raises:
        BundleError: The bundle is incomplete, was changed, or names a place on this machine; or the target exists.
        DropoutError, SettingsError: As `load_cascade` raises.
        OSError: The zip cannot be written.
    """
    require_free(target, BundleError)
    if not target.parent.is_dir():
        raise BundleError(f"{target} cannot be written; expected a name in a folder that is there")
    spec = read_spec(bundle)
    _require_no_places(spec, str(bundle / SPEC_NAME))
    load_cascade(bundle, device=torch.device("cpu"), trusted=trusted)
    further = {"notes": read_notes(bundle), "versions": versions(), "trusted": trusted}
    card = model_card(target.stem, facts, spec, _facts_of(bundle, spec, trusted=trusted), further)
    beside_models = (name for name in _BESIDE_MODELS if (bundle / name).is_file())
    with TemporaryDirectory(prefix=f".{target.name[:100]}.", dir=target.parent) as folder:
        contents: dict[str, Content] = {}
        for name in (*beside_models, *model_files(spec)):
            require_known_name(name)
            contents[name] = _bare(bundle / name, Path(folder) / name, trusted=trusted)
        contents[CARD_NAME] = card.encode()
        _require_nothing_of_this_machine(contents)
        files = {name: listed(content) for name, content in contents.items()}
        said = {"licence": facts.license, "training_data": facts.training_data, "versions": versions()}
        contents[MANIFEST_NAME] = _as_json(to_manifest(files, said))
        with atomic_file(target) as beside:
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
    require_free(target, BundleError)
    if not target.parent.is_dir() or target.name in {"", ".."}:
        raise BundleError(f"{target} cannot be made; expected the name of a folder in one that is there")
    with atomic_folder(target, error=BundleError) as beside:
        _unpack(path, beside, limits or ArchiveLimits(), trusted=trusted)


def check_bundle(path: Path, *, limits: ArchiveLimits | None = None, trusted: bool = False) -> CascadeSpec:
    """Do all that `install_bundle` does in a temporary folder, and leave nothing; gives the bundle's settings.

    Raises:
        BundleError: The zip is refused.
        OSError: The zip cannot be read, or there is no room to unpack it.
    """
    with TemporaryDirectory(prefix="nnc-bundle-") as folder:
        return _unpack(path, Path(folder), limits or ArchiveLimits(), trusted=trusted)


def _unpack(path: Path, folder: Path, limits: ArchiveLimits, *, trusted: bool) -> CascadeSpec:
    """Unpack a bundle and try it; whatever its files make stumble is the bundle's fault."""
    extract_archive(path, folder, limits)
    try:
        spec = read_spec(folder)
        _require_no_places(spec, SPEC_NAME)
        read_notes(folder)
        for name in (PROVENANCE_NAME, _CALIBRATION_NAME):
            if (folder / name).is_file():
                read_json(folder / name)
        load_cascade(folder, device=torch.device("cpu"), trusted=trusted)
    except OSError:
        raise
    except Exception as error:
        kind = "" if isinstance(error, CascadeError) else f"{type(error).__name__}: "
        told = one_line(error).replace(f"{folder}{os.sep}", "").replace(str(folder), "the bundle")
        raise BundleError(f"{path}: {kind}{told}") from error
    return spec


def _require_no_places(spec: CascadeSpec, where: str) -> None:
    """Raise if settings name a file or folder that only one machine has."""
    for name, place in (("path", spec.lungs.path), ("weights", spec.lungs.weights)):
        if place is not None:
            raise BundleError(
                f"{where}: lungs.{name} names {str(place)!r}, a place on one machine; "
                "expected null; whoever predicts can give it to nnc-cascade-predict"
            )


def _bare(source: Path, scratch: Path, *, trusted: bool) -> Content:
    """Return a file without what others do not need: as it is, as bytes, or written anew to another place."""
    if source.name == DATASET_NAME:
        return _as_json(without_images(read_json(source)))
    if source.name == _CALIBRATION_NAME:
        return _as_json({key: value for key, value in read_json(source).items() if key in _CALIBRATION_KEYS})
    if is_text(source.name):
        return source
    scratch.parent.mkdir(parents=True, exist_ok=True)
    Checkpoint.read(source, trusted=trusted).write(scratch)
    return scratch


def _facts_of(bundle: Path, spec: CascadeSpec, *, trusted: bool) -> dict[str, ModelFacts]:
    models: dict[str, ModelFacts] = {}
    for stage, settings in (("stage1", spec.stage1), ("stage2", spec.stage2)):
        folder = bundle / stage
        checkpoint = Checkpoint.read(folder / f"fold_{settings.folds[0]}" / settings.checkpoint, trusted=trusted)
        models[stage] = ModelFacts(
            trainer=checkpoint.trainer,
            configuration=checkpoint.configuration,
            plans=read_json(folder / PLANS_NAME),
            dataset_json=without_images(read_json(folder / DATASET_NAME)),
        )
    return models


def _require_nothing_of_this_machine(contents: Mapping[str, Content]) -> None:
    """Raise if a text of the bundle is none that can be installed, or holds what looks like a path of a computer."""
    for name, content in contents.items():
        if not is_text(name):
            continue
        if listed(content).bytes > ArchiveLimits().text_bytes:
            raise BundleError(f"{name} is longer than {ArchiveLimits().text_bytes} bytes; expected a shorter text")
        for text in _texts(name, content):
            found = _A_PLACE.search(text)
            if found:
                shown = text[max(found.start() - 50, 0) : found.end() + 50]
                raise BundleError(f"{name} holds {shown!r}, a path of a computer; expected none; take it out of there")


def _texts(name: str, content: Content) -> Iterator[str]:
    """Return the texts in a file: lines, or all that JSON names and says, be it twice under one name."""
    raw = content if isinstance(content, bytes) else content.read_bytes()
    try:
        lines = raw.decode().splitlines()
        waiting: list[Any] = [json.loads(raw, object_pairs_hook=list)] if name.endswith(".json") else [lines]
    except (ValueError, RecursionError) as error:
        reason = one_line(error, longest=100)
        raise BundleError(f"{name} cannot be read as text or JSON ({reason}); mend it or take it out") from error
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, (list, tuple)):
            waiting.extend(cast("Sequence[Any]", part))


def _as_json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
