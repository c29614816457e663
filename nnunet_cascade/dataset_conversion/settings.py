"""How a download is converted."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

from nnunet_cascade.dataset_conversion.labels import Label, require_distinct
from nnunet_cascade.errors import SettingsError

Source = Literal["rtstruct", "seg"]
Irregular = Literal["resample", "exclude"]
CaseNames = Literal["uid", "patient-id"]

_WORDS = ("licence", "description")
_DATASET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionSettings:
    """How a download is converted, the same for every patient.

    Attributes:
        labels: Labels in the order of their values 1, 2, …; where regions overlap, the first label
            keeps the voxel.
        source: What the labels are drawn from.
        cross_check: If a patient has the other kind of label, too, read it and report the Dice of
            both.
        seg_description: Series Description of the SEG to use; None takes the one that was not made
            by a machine alone.
        irregular: Series with missing, uneven or tilted slices: resample them to their most common
            distance, or exclude the patient.
        case_names: Name cases by a hash of the study's UID, which identifies nobody, or by the
            Patient ID, if that is a pseudonym.
        by_study: Make one case of each study of a patient.
        licence: License of the data; it is written into dataset.json.
        description: Description of the data; it is written into dataset.json.

    Raises:
        SettingsError: Labels are missing or bear the same name.
    """

    labels: tuple[Label, ...]
    source: Source = "rtstruct"
    cross_check: bool = True
    seg_description: str | None = None
    irregular: Irregular = "resample"
    case_names: CaseNames = "uid"
    by_study: bool = False
    licence: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        require_distinct(self.labels)
        for name, value, allowed in (
            ("source", self.source, ("rtstruct", "seg")),
            ("irregular", self.irregular, ("resample", "exclude")),
            ("case_names", self.case_names, ("uid", "patient-id")),
        ):
            if value not in allowed:
                raise SettingsError(f"{name} {value!r}; expected one of {', '.join(allowed)}")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON has them."""
        return {**asdict(self), "labels": [{**asdict(label), "regions": list(label.regions)} for label in self.labels]}

    def decisive(self) -> dict[str, Any]:
        """Give, as JSON has them, the settings that decide on voxels and records: all but words about the data."""
        return {name: value for name, value in self.to_json().items() if name not in _WORDS}


def require_dataset_name(name: str) -> None:
    """Raise a SettingsError unless a name may stand in nnU-Net's Dataset501_NAME."""
    if not _DATASET_NAME.fullmatch(name):
        raise SettingsError(f"dataset name {name!r}; expected letters, digits, - and _ alone")
