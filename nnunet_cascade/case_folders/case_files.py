"""Files of a folder of cases: which are images, which label maps, and which a cascade wrote next to them."""

from __future__ import annotations

import re
from pathlib import Path

from nnunet_cascade.case_folders.records import record_path
from nnunet_cascade.errors import InputImageError
from nnunet_cascade.images import ENDING

CHANNEL = "_0000"
MAPS = ("_probability", "_uncertainty", "_roi", "_stage1", "_stage1_uncertainty", "_candidates", "_proposals", "_lungs")
"""Endings of the maps that a cascade writes next to the label map of a case."""
_OTHER_CHANNEL = re.compile(r"_(?!0000)\d{4}$")


def find_images(inputs: Path) -> dict[str, Path]:
    """List the images of a folder, or the one of a file, by case.

    `<case>_0000.nii.gz` is nnU-Net's name; without the channel the file's stem is the case.

    Raises:
        InputImageError: There is no such file, no image in the folder, a second channel
            beside the first, or two files of one case.
    """
    cases: dict[str, Path] = {}
    for path in _listed(inputs, expected=f"<case>{CHANNEL}{ENDING}"):
        stem = _stem(path)
        name = stem.removesuffix(CHANNEL)
        if _OTHER_CHANNEL.search(stem) and path.with_name(f"{stem[: -len(CHANNEL)]}{CHANNEL}{ENDING}").is_file():
            raise InputImageError(f"{path} is a second channel; expected one channel per case, the CT, as <case>_0000")
        if name in cases:
            raise InputImageError(f"{path} and {cases[name]} are the same case {name}; keep one of them")
        cases[name] = path
    return cases


def find_masks(inputs: Path) -> dict[str, Path]:
    """List the label maps `<case>.nii.gz` of a folder, or the one of a file, by case.

    What a cascade writes beside a label map and its record, such as `<case>_probability.nii.gz`, is none,
    unless it has a record of its own.

    Raises:
        InputImageError: There is no such file, or none in the folder.
    """
    found = {_stem(path): path for path in _listed(inputs, expected=f"<case>{ENDING}")}
    predicted = [case for case, path in found.items() if record_path(path.parent, case).is_file()]
    beside = {case + suffix for case in predicted for suffix in MAPS}.difference(predicted)
    return {case: path for case, path in found.items() if case not in beside}


def _stem(path: Path) -> str:
    return path.name.removesuffix(ENDING) if path.name.endswith(ENDING) else path.stem


def _listed(inputs: Path, *, expected: str) -> list[Path]:
    if inputs.is_file():
        return [inputs]
    if not inputs.is_dir():
        raise InputImageError(f"{inputs} does not exist; expected a folder of {expected} or one such file")
    found = sorted(path for path in inputs.glob(f"*{ENDING}") if not path.name.startswith("."))
    if not found:
        raise InputImageError(f"{inputs} holds no *{ENDING}; expected images named {expected}")
    return found
