"""What a run hands to its workers and what they hand back: plain values that cross processes and machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from nnunet_cascade.cascade.spec import CascadeSpec
from nnunet_cascade.settings.block import require

Status = Literal["done", "failed"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFiles:
    """The files of one case.

    Attributes:
        case: Its name.
        image: The CT.
        stage1_mask: A mask to take instead of stage 1, or None.
    """

    case: str
    image: Path
    stage1_mask: Path | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseOutcome:
    """What became of a case.

    Attributes:
        case: Its name.
        status: Whether its record and all its files are there.
        error: Why it failed, or "".
        seconds: Time each step took.
    """

    case: str
    status: Status
    error: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
