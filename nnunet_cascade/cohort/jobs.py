"""What a run hands to its workers and what they hand back: plain values that cross processes and machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from nnunet_cascade.case_folders.records import CaseFingerprint
from nnunet_cascade.files import InputChecksums, input_checksums
from nnunet_cascade.postprocessing.lungs.inputs import IGNORED_SETTINGS
from nnunet_cascade.prediction.spec import CascadeSpec
from nnunet_cascade.scans.scans import Scan
from nnunet_cascade.settings.serialization import require

Status = Literal["done", "failed"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFiles:
    """The files of one case.

    Attributes:
        stage1_mask: A mask to take instead of stage 1, or None.
        lungs: A ready lung mask, or those of its lobes; none where lungs are found in the CT.
    """

    scan: Scan
    stage1_mask: Path | None = None
    lungs: tuple[Path, ...] = ()

    @property
    def case(self) -> str:
        """Its name."""
        return self.scan.case

    def checksums(self) -> InputChecksums:
        """Return name and SHA-256 of all that the case is made from, as its record holds them.

        Raises:
            InputImageError, DicomError: A file cannot be read.
        """
        masks = (*([] if self.stage1_mask is None else [self.stage1_mask]), *self.lungs)
        return [self.scan.fingerprint(), *input_checksums(masks)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortJob:
    """What every worker of a run needs to know.

    Attributes:
        bundle: Folder of the models.
        spec: The settings, the bundle's own with what the command changed.
        output: Folder for the results; it is there.
        with_stage1: False leaves stage 1 out, where its masks are given.
        notes: Lines for every record.
        model: Checksum of each stage's files, for every record.
        trusted: Whether checkpoints and plans may run code of their own choice.
        precision: Of the networks; "bfloat16" on CPUs that have it.
        threads: Of each worker, or None for what the machine has.
        read_ahead: Cases read while another is predicted.
        write_behind: Cases written while another is predicted.
        worker_lock: File that a worker holds a lock on as long as it lives (`run_lock.hold_as_worker`), or None.
    """

    bundle: Path
    spec: CascadeSpec
    output: Path
    with_stage1: bool = True
    notes: tuple[str, ...] = ()
    model: Mapping[str, str] = field(default_factory=dict[str, str])
    trusted: bool = False
    precision: Precision = "float32"
    threads: int | None = None
    read_ahead: int = 1
    write_behind: int = 1
    worker_lock: Path | None = None

    def __post_init__(self) -> None:
        known = get_args(Precision)
        require(self.precision in known, f"precision must be one of {known}; found {self.precision!r}")
        require(self.threads is None or self.threads >= 1, f"threads must be at least 1; found {self.threads}")
        for name in ("read_ahead", "write_behind"):
            require(getattr(self, name) >= 0, f"{name} must not be negative; found {getattr(self, name)}")

    @property
    def capacity(self) -> int:
        """Number of cases that one worker holds at a time."""
        return self.read_ahead + 1 + self.write_behind

    def made_from(self, inputs: InputChecksums | None) -> CaseFingerprint:
        """Return what decides the files of a case, for its record and for the question whether it is done."""
        return CaseFingerprint(
            settings=self.spec.to_json(),
            inputs=inputs,
            model=dict(self.model),
            precision=self.precision,
            ignored_settings=IGNORED_SETTINGS,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseOutcome:
    """What became of a case.

    Attributes:
        status: "done" if its record and all its files are there.
        seconds: Time each step took.
        earlier: Whether an earlier run did it.
        tried: Whether a worker had it; else its outcome is known without.
    """

    case: str
    status: Status
    error: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    earlier: bool = False
    tried: bool = True
