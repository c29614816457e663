"""The record next to a cohort of phantoms: what each was drawn from, to tell later whether to draw it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from nnunet_cascade.errors import DatasetError, SettingsError
from nnunet_cascade.files import write_json
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.versions import versions

RECORD = "phantoms.json"
DESCRIPTION = "Phantoms: synthetic thoraces drawn from seeds by nnunet-cascade. No patients, not for clinical claims."

Split = Literal["Tr", "Ts"]


@dataclass(frozen=True, slots=True)
class PlannedPhantom:
    """A phantom of a cohort.

    Attributes:
        seed: What it is drawn from.
        split: Tr to train on, Ts to test on.
    """

    seed: int
    split: Split

    @property
    def name(self) -> str:
        """Of the case, and of the patient in DICOM."""
        return phantom_name(self.seed)


@dataclass(frozen=True, slots=True)
class CohortRecord:
    """What `phantoms.json` says.

    Attributes:
        made_with: Settings and version.
        cases: Facts by name; each has at least its seed and split.
    """

    made_with: dict[str, Any] = field(default_factory=dict[str, Any])
    cases: dict[str, Any] = field(default_factory=dict[str, Any])


def phantom_name(seed: int) -> str:
    """Return the name of the phantom of a seed."""
    return f"phantom_{seed:04d}"


def planned_phantoms(train_seeds: Sequence[int], test_seeds: Sequence[int]) -> list[PlannedPhantom]:
    """Return the phantoms of a cohort.

    Raises:
        SettingsError: A seed is given twice.
    """
    seeds = [*train_seeds, *test_seeds]
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        raise SettingsError(f"seeds {twice} are given twice; each phantom belongs once to training or to testing")
    train: list[PlannedPhantom] = [PlannedPhantom(seed, "Tr") for seed in train_seeds]
    return train + [PlannedPhantom(seed, "Ts") for seed in test_seeds]


def made_with(settings: PhantomSettings, **more: Any) -> dict[str, Any]:
    """Return what phantoms are made with, as JSON has it."""
    content = {"package_version": versions()["nnunet-cascade"], "settings": asdict(settings), **more}
    return json.loads(json.dumps(content))


def read_record(folder: Path) -> CohortRecord:
    """Read the record of a folder; where there is none, it is empty.

    Raises:
        DatasetError: It cannot be read.
    """
    path = folder / RECORD
    if not path.is_file():
        return CohortRecord()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        # Names follow from seeds: folders of these names may be removed, and only ever our own.
        cases = {phantom_name(int(case["seed"])): case for case in content["cases"].values()}
        return CohortRecord(dict(content["made_with"]), cases)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{path} is not a record of phantoms ({error}); remove it and what lies beside it to draw all again"
        ) from error


def write_record(folder: Path, record: CohortRecord) -> None:
    """Write the record of a folder."""
    write_json(folder / RECORD, {"description": DESCRIPTION, "made_with": record.made_with, "cases": record.cases})
