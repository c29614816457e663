"""Phantoms as an nnU-Net dataset, with two cohorts of seeds fixed for good."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nnunet_cascade.errors import DatasetError
from nnunet_cascade.files import write_json
from nnunet_cascade.images import ENDING, write_image
from nnunet_cascade.phantom.record import (
    DESCRIPTION,
    CohortRecord,
    PlannedPhantom,
    made_with,
    planned_phantoms,
    read_record,
    write_record,
)
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.phantom.thorax import Phantom, make_phantom

TRAIN_SEEDS = tuple(range(2000, 2040))
"""To train and to choose on."""
TEST_SEEDS = tuple(range(3000, 3040))
"""To report on; nothing is ever tuned on these."""
_log = logging.getLogger(__name__)


def write_cohort(
    raw_dataset_folder: Path, *, train_seeds: Sequence[int], test_seeds: Sequence[int], settings: PhantomSettings
) -> None:
    """Write phantoms as an nnU-Net v2 raw dataset, to be resumed where it was interrupted.

    Beside what nnU-Net reads (`imagesTr`, `labelsTr`, `imagesTs`, `dataset.json`) there
    are `labelsTs`, the lungs (`lungsTr`, `lungsTs`: 1 right, 2 left) and
    `phantoms.json`, the settings and facts. A phantom that `phantoms.json` lists is
    not drawn again while settings and package version agree; otherwise all are.

    Args:
        raw_dataset_folder: Such as `nnUNet_raw/Dataset900_Phantoms`; made where missing.
        train_seeds: One training case each; may be empty.
        test_seeds: One test case each; may be empty.
        settings: Of every phantom.

    Raises:
        SettingsError: A seed is given twice.
        DatasetError: The folder holds cases that were not asked for, or a
            `phantoms.json` that cannot be read.
        InputImageError: A file cannot be written.
    """
    planned = planned_phantoms(train_seeds, test_seeds)
    for kind, split in product(("images", "labels", "lungs"), ("Tr", "Ts")):
        (raw_dataset_folder / f"{kind}{split}").mkdir(parents=True, exist_ok=True)
    _require_no_others(raw_dataset_folder, planned)
    made = made_with(settings)
    cases = _earlier_cases(raw_dataset_folder, made)
    write_record(raw_dataset_folder, CohortRecord(made, cases))
    for plan in tqdm(planned, desc="phantoms", unit="phantom"):
        if plan.name not in cases or not all(path.is_file() for path in _files(raw_dataset_folder, plan)):
            phantom = make_phantom(plan.seed, settings)
            image, label, lungs = _files(raw_dataset_folder, plan)
            write_image(phantom.ct.astype(np.int16), phantom.grid, image)
            write_image((phantom.tumors > 0).astype(np.uint8), phantom.grid, label)
            write_image(phantom.lungs.astype(np.uint8), phantom.grid, lungs)
            cases[plan.name] = _facts(plan, phantom)
            write_record(raw_dataset_folder, CohortRecord(made, cases))
    write_json(raw_dataset_folder / "dataset.json", _dataset(raw_dataset_folder.name, len(train_seeds)))


def _files(folder: Path, plan: PlannedPhantom) -> tuple[Path, Path, Path]:
    """Return the paths of CT, tumors and lungs."""
    return (
        folder / f"images{plan.split}" / f"{plan.name}_0000{ENDING}",
        folder / f"labels{plan.split}" / f"{plan.name}{ENDING}",
        folder / f"lungs{plan.split}" / f"{plan.name}{ENDING}",
    )


def _require_no_others(folder: Path, planned: Sequence[PlannedPhantom]) -> None:
    wanted = {path for plan in planned for path in _files(folder, plan)}
    others = sorted(path for path in folder.glob("*T[rs]/*.nii.gz") if path not in wanted and path.name[0] != ".")
    if others:
        raise DatasetError(
            f"{folder} holds {len(others)} images that were not asked for, such as {others[0].name}; "
            "ask for their seeds too or choose an empty folder"
        )


def _earlier_cases(folder: Path, made: dict[str, Any]) -> dict[str, Any]:
    earlier = read_record(folder)
    if earlier.cases and earlier.made_with != made:
        _log.warning("%s was made with other settings or another version: all phantoms are drawn again", folder)
        return {}
    return earlier.cases


def _facts(plan: PlannedPhantom, phantom: Phantom) -> dict[str, Any]:
    return {
        "seed": phantom.seed,
        "split": plan.split,
        "tumors": [asdict(fact) for fact in phantom.tumor_facts],
        "distractors": [asdict(fact) for fact in phantom.distractor_facts],
    }


def _dataset(name: str, training_cases: int) -> dict[str, Any]:
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "tumor": 1},
        "numTraining": training_cases,
        "file_ending": ".nii.gz",
        "name": name,
        "description": DESCRIPTION,
        "overwrite_image_reader_writer": "SimpleITKIO",
    }
