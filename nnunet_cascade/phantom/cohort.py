"""Phantoms as an nnU-Net dataset, with two cohorts of seeds fixed for good."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from nnunet_cascade.errors import DatasetError, SettingsError
from nnunet_cascade.files import write_json
from nnunet_cascade.images import write_image
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.phantom.thorax import Phantom, make_phantom

TRAIN_SEEDS = tuple(range(2000, 2040))
"""To train and to choose on."""
TEST_SEEDS = tuple(range(3000, 3020))
"""To report on; nothing is ever tuned on these."""
_RECORD = "phantoms.json"
_DESCRIPTION = "Phantoms: synthetic thoraces drawn from seeds by nnunet-cascade. No patients, not for clinical claims."
_log = logging.getLogger(__name__)

Split = Literal["Tr", "Ts"]


@dataclass(frozen=True, slots=True)
class _Job:
    seed: int
    split: Split

    @property
    def case(self) -> str:
        return f"phantom_{self.seed:04d}"

    def files(self, folder: Path) -> tuple[Path, Path, Path]:
        """Give the paths of CT, tumours and lungs."""
        return (
            folder / f"images{self.split}" / f"{self.case}_0000.nii.gz",
            folder / f"labels{self.split}" / f"{self.case}.nii.gz",
            folder / f"lungs{self.split}" / f"{self.case}.nii.gz",
        )


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
    jobs = [*(_Job(seed, "Tr") for seed in train_seeds), *(_Job(seed, "Ts") for seed in test_seeds)]
    _require_distinct(jobs)
    _make_folders(raw_dataset_folder)
    _require_no_others(raw_dataset_folder, jobs)
    cases = _earlier_cases(raw_dataset_folder, settings)
    _write_record(raw_dataset_folder, settings, cases)
    for job in tqdm(jobs, desc="phantoms", unit="phantom"):
        if job.case not in cases or not all(path.is_file() for path in job.files(raw_dataset_folder)):
            phantom = make_phantom(job.seed, settings)
            _write_phantom(raw_dataset_folder, job, phantom)
            cases[job.case] = _facts(job, phantom)
            _write_record(raw_dataset_folder, settings, cases)
    write_json(raw_dataset_folder / "dataset.json", _dataset(raw_dataset_folder.name, len(train_seeds)))


def _require_distinct(jobs: Sequence[_Job]) -> None:
    seeds = [job.seed for job in jobs]
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        raise SettingsError(f"seeds {twice} are given twice; each phantom belongs once to training or to testing")


def _make_folders(folder: Path) -> None:
    for kind in ("images", "labels", "lungs"):
        for split in ("Tr", "Ts"):
            (folder / f"{kind}{split}").mkdir(parents=True, exist_ok=True)


def _require_no_others(folder: Path, jobs: Sequence[_Job]) -> None:
    wanted = {path for job in jobs for path in job.files(folder)}
    others = sorted(path for path in folder.glob("*T[rs]/*.nii.gz") if path not in wanted and path.name[0] != ".")
    if others:
        raise DatasetError(
            f"{folder} holds {len(others)} images that were not asked for, such as {others[0].name}; "
            "ask for their seeds too or choose an empty folder"
        )


def _earlier_cases(folder: Path, settings: PhantomSettings) -> dict[str, Any]:
    path = folder / _RECORD
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        earlier, cases = record["made_with"], dict(record["cases"])
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is not a record of phantoms ({error}); delete it to draw all again") from error
    if earlier != _made_with(settings):
        _log.warning("%s was made with other settings or another version: all phantoms are drawn again", path)
        return {}
    return cases


def _made_with(settings: PhantomSettings) -> dict[str, Any]:
    return json.loads(json.dumps({"package_version": _version(), "settings": asdict(settings)}))


def _version() -> str:
    try:
        return metadata.version("nnunet-cascade")
    except metadata.PackageNotFoundError:
        return "not installed"


def _write_phantom(folder: Path, job: _Job, phantom: Phantom) -> None:
    image, label, lungs = job.files(folder)
    write_image(phantom.ct.astype(np.int16), phantom.grid, image)
    write_image((phantom.tumors > 0).astype(np.uint8), phantom.grid, label)
    write_image(phantom.lungs.astype(np.uint8), phantom.grid, lungs)


def _facts(job: _Job, phantom: Phantom) -> dict[str, Any]:
    return {
        "seed": phantom.seed,
        "split": job.split,
        "tumors": [asdict(fact) for fact in phantom.tumor_facts],
        "distractors": [asdict(fact) for fact in phantom.distractor_facts],
    }


def _write_record(folder: Path, settings: PhantomSettings, cases: dict[str, Any]) -> None:
    made_with = _made_with(settings)
    write_json(folder / _RECORD, {"description": _DESCRIPTION, "made_with": made_with, "cases": cases})


def _dataset(name: str, training_cases: int) -> dict[str, Any]:
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "tumor": 1},
        "numTraining": training_cases,
        "file_ending": ".nii.gz",
        "name": name,
        "description": _DESCRIPTION,
        "overwrite_image_reader_writer": "SimpleITKIO",
    }
