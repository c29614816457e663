"""What a place where workers live must offer, whether it is this machine or a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nnunet_cascade.cohort.jobs import CaseFiles, CaseOutcome
from nnunet_cascade.errors import CascadeError


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has loaded its models."""

    worker: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A worker cannot load its models: no other one could."""

    worker: int
    error: CascadeError


@dataclass(frozen=True, slots=True)
class Finished:
    """A worker is through with a case, whatever became of it."""

    worker: int
    outcome: CaseOutcome


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker is gone, with the cases it held."""

    worker: int
    reason: str


Event = Ready | Refused | Finished | Lost


class Engine(Protocol):
    """Starts workers, hands them cases and hears of them; who does what is decided in `dispatch`."""

    def start(self) -> int:
        """Start a worker and give its number; `Ready`, `Refused` or `Lost` follows."""
        ...

    def submit(self, worker: int, files: CaseFiles) -> None:
        """Hand a case to a worker; `Finished` or `Lost` follows. A worker that is gone already is no error."""

    def wait(self) -> Sequence[Event]:
        """Wait until something happens, and give it in the order it happened."""
        ...

    def close(self) -> None:
        """End all workers; none outlives the engine."""
