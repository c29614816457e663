"""What objects share that highdicom makes of a CT's slices: whose they are, who made them, and that bytes repeat."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import generate_uid

from nnunet_cascade.dicom.codes import ARTIFICIAL_INTELLIGENCE
from nnunet_cascade.dicom.headers import UNREADABLE, lenient, reason_of
from nnunet_cascade.dicom.writing import require_text, require_uid, save, uid_from
from nnunet_cascade.errors import DicomError

MISSING_EXTRA = "found no highdicom, which DICOM SEG needs; install it: pip install 'nnunet-cascade[dicom]'"
MAKER = "nnunet-cascade"
# Type 2 in DICOM: always there, perhaps empty; anonymized files may lack them.
_PATIENT_AND_STUDY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "SliceThickness"),
)
_Shapes = Mapping[str, tuple[int, ...]]
_DATED = {
    "DA": re.compile(r"\d{8}|\d{4}\.\d\d\.\d\d"),
    "TM": re.compile(r"\d\d(\d\d(\d\d(\.\d{1,6})?)?)?"),
    "DT": re.compile(r"\d{4,14}(\.\d{1,6})?([+-]\d{4})?"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """What made an object, where no human did.

    Attributes:
        name: Such as the name of a program.
        version: Of it.
        parameters: What else decided the result by name, such as the checksums of models.

    Raises:
        DicomError: DICOM cannot hold name or version, or one is empty.
    """

    name: str
    version: str
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        require_name(self.name, what="an algorithm's name")
        require_name(self.version, what="an algorithm's version")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectIdentity:
    """What tells one object from another; given the same, the same content gives the same bytes.

    Attributes:
        series_uid: Series Instance UID; a fresh one unless given.
        sop_uid: SOP Instance UID; a fresh one unless given.
        series_number: Within the study; viewers list series by it.
        written_at: When it was made.

    Raises:
        DicomError: A UID is none.
    """

    series_uid: str = field(default_factory=generate_uid)
    sop_uid: str = field(default_factory=generate_uid)
    series_number: int = 300
    written_at: datetime = field(default_factory=datetime.now)

    def __post_init__(self) -> None:
        require_uid(self.series_uid, what="the series' uid")
        require_uid(self.sop_uid, what="the file's uid")

    def arguments(self, description: str) -> dict[str, Any]:
        """Return what every constructor of highdicom asks for."""
        return {
            "series_instance_uid": self.series_uid,
            "series_number": self.series_number,
            "sop_instance_uid": self.sop_uid,
            "instance_number": 1,
            "manufacturer": MAKER,
            "manufacturer_model_name": MAKER,
            "software_versions": version(MAKER),
            "device_serial_number": "none",
            "series_description": description,
            "specific_character_set": "ISO_IR 192",
            "content_date": self.written_at.date(),
            "content_time": self.written_at.time(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedObject:
    """An object to be written next to the CT it was made of.

    Attributes:
        source: The CT's slices in the order of the object's planes.
        path: Its folder is made where missing.
        description: Of the series and of the content.
        identity: UIDs, number and time.

    Raises:
        DicomError: DICOM cannot hold the description.
    """

    source: Sequence[Path]
    path: Path
    description: str
    identity: ObjectIdentity

    def __post_init__(self) -> None:
        require_text(self.description, what="the series' description")

    def write(
        self, what: str, build: Callable[[Sequence[Dataset], dict[str, Any]], Dataset], shapes: _Shapes | None = None
    ) -> None:
        """Have highdicom build it, and write it; a file of that name appears whole or not at all.

        Args:
            what: Its kind, for messages.
            build: Calls highdicom, given the slices and what every constructor asks for.
            shapes: Of arrays that must have a plane for each slice, by what a message calls them.

        Raises:
            DicomError: Arrays and slices do not fit, a slice cannot be read, the file cannot be
                written, or highdicom is not installed.
        """
        slices = [read_slice_header(path) for path in self.source]
        if shapes is not None:
            _require_fitting(shapes, slices)
        # highdicom and pydicom warn of what is odd in the slices' own headers, which is copied as it is.
        with lenient():
            with _building(what):
                dataset = build(slices, self.identity.arguments(self.description))
                _finish(dataset, self.identity)
            save(dataset, self.path)


def require_name(text: str, *, what: str) -> None:
    """Raise a DicomError naming `what` unless DICOM can hold a text in one piece and it is not empty."""
    require_text(text, what=what)
    if not text.strip():
        raise DicomError(f"{what} is empty; expected at least one character")


def read_slice_header(path: Path) -> Dataset:
    """Read all of a slice but its pixels, with what highdicom needs of patient and study.

    Raises:
        DicomError: It cannot be read.
    """
    try:
        with lenient():
            header = dcmread(path, stop_before_pixels=True)
            _blank_what_is_no_date(header)
    except UNREADABLE as error:
        raise DicomError(f"a slice cannot be read as DICOM ({reason_of(error)}); give the CT's slices") from error
    for keyword in _PATIENT_AND_STUDY:
        if keyword not in header:
            setattr(header, keyword, None)
    if isinstance(header.PatientName, MultiValue):  # a backslash is not part of a name
        header.PatientName = "".join(map(str, header.PatientName))
    if header.PatientSex not in ("M", "F", "O"):
        header.PatientSex = ""
    return header


def algorithm_sequence(algorithm: Algorithm) -> Any:
    """Return highdicom's description of an algorithm."""
    from highdicom import AlgorithmIdentificationSequence  # noqa: PLC0415 - an extra

    return AlgorithmIdentificationSequence(
        name=algorithm.name,
        family=ARTIFICIAL_INTELLIGENCE,
        version=algorithm.version,
        parameters=dict(algorithm.parameters) or None,
    )


def _require_fitting(shapes: _Shapes, slices: Sequence[Dataset]) -> None:
    """Raise a DicomError unless arrays have a plane for each slice, of its rows and columns."""
    if not shapes or not slices:
        raise DicomError(f"found {len(shapes)} segments and {len(slices)} slices to write; expected at least one")
    lacking = next((key for key in ("Rows", "Columns", "FrameOfReferenceUID") if key not in slices[0]), None)
    if lacking is not None:
        raise DicomError(f"found slices without {lacking}; give the CT's slices")
    expected = (len(slices), int(slices[0].Rows), int(slices[0].Columns))
    for name, shape in shapes.items():
        if shape != expected:
            raise DicomError(
                f"{name} has shape {shape}; expected {expected}: the number of slices, their rows and their columns"
            )


@contextmanager
def _building(what: str) -> Generator[None, None, None]:
    """Let highdicom build an object of slices whose headers are odd; what it refuses becomes a DicomError.

    Its log names patients whose names look wrong to it, and is silent meanwhile.
    """
    log = logging.getLogger("highdicom")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with lenient():
            yield
    except ImportError as error:
        raise DicomError(MISSING_EXTRA) from error
    except DicomError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DicomError(
            f"no {what} can be written for these slices ({reason_of(error)}); give the slices of one CT"
        ) from error
    finally:
        log.setLevel(before)


def _finish(dataset: Dataset, identity: ObjectIdentity) -> None:
    """Replace what highdicom draws anew each time, and fill in what it leaves out though DICOM asks for it."""
    if "ContentLabel" in dataset:
        dataset.ContentCreatorName = ""  # no person made it
    organization = uid_from(identity.sop_uid, "dimension organization")
    for item in (*dataset.get("DimensionOrganizationSequence", ()), *dataset.get("DimensionIndexSequence", ())):
        item.DimensionOrganizationUID = organization
    # highdicom adds itself last.
    dataset.ContributingEquipmentSequence[-1].ContributionDateTime = identity.written_at.strftime("%Y%m%d%H%M%S.%f")
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = dataset.ContentDate, dataset.ContentTime


def _blank_what_is_no_date(header: Dataset) -> None:
    """Blank dates and times that are none: highdicom takes them apart, and one would keep a CT from having results."""
    for element in header:
        if element.VR in _DATED and not _DATED[element.VR].fullmatch(str(element.value or "").strip()):
            element.value = None
