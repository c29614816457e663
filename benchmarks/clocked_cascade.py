"""The cascade's own runner on one folder, its networks and lung masks clocked, a mask put in place of stage 1's.

    python clocked_cascade.py IMAGES MASK BUNDLE OUTPUT   # prints a line of JSON: seconds by name

Reader, preprocessing, stage 1, lungs, rules, stage 2 and writer are what `nnc-cascade-predict` runs, in a worker of the
local engine; stage 1 runs to its end before MASK takes the place of what it found.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_cascade.bundles.bundle import read_spec
from nnunet_cascade.cohort.cohort import CohortRequest, Workers, predict_cohort
from nnunet_cascade.cohort.jobs import CaseFiles, CaseOutcome, CohortJob
from nnunet_cascade.cohort.local_engine import LocalEngine, Worker, case_worker
from nnunet_cascade.scans.search import find_scans

if TYPE_CHECKING:
    from network_clock import Clock


@dataclass(frozen=True, slots=True)
class HandedIn:
    """Makes workers in whose cases a mask takes the place of what stage 1 found; crosses to their processes."""

    mask: Path

    def __call__(self, job: CohortJob, device: str) -> Worker:
        """Load the models, then put clock and mask in."""
        worker = case_worker(job, device)
        from network_clock import Clock  # noqa: PLC0415 - PyTorch belongs to the worker's process alone

        from nnunet_cascade.prediction import case as steps  # noqa: PLC0415

        clock = Clock()
        clock.around_networks()
        steps.find_lungs_or_reason = clock.around("lungs", steps.find_lungs_or_reason)
        steps.predict_stage1 = _replaced(steps.predict_stage1, self.mask)
        return _Clocked(worker, clock)


@dataclass(frozen=True, slots=True)
class _Clocked:
    """A worker whose outcomes tell how long networks and lung masks took."""

    worker: Worker
    clock: Clock

    async def predict(self, files: CaseFiles) -> CaseOutcome:
        outcome = await self.worker.predict(files)
        told = {"networks": self.clock.seconds("networks"), "counted": self.clock.seconds("networks", "lungs")}
        return replace(outcome, seconds={**outcome.seconds, **told})

    def close(self) -> None:
        self.worker.close()


def _replaced(predict: Callable[..., Any], path: Path) -> Callable[..., Any]:
    from nnunet_cascade.images import read_labels  # noqa: PLC0415 - as above

    def run(prepared: Any, grid: Any, *others: Any) -> Any:
        found = predict(prepared, grid, *others)
        return replace(found, mask=read_labels(path, grid, what="mask") > 0)

    return run


def main() -> None:
    """Predict every case of the folder; exit with the reason where one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("images", "mask", "bundle", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--precision", default="float32")
    args = parser.parse_args()
    job = CohortJob(bundle=args.bundle, spec=read_spec(args.bundle), output=args.output, precision=args.precision)

    def make(job: CohortJob, workers: Workers) -> LocalEngine:
        return LocalEngine(job, workers.devices, workers.count, make=HandedIn(args.mask))

    for outcome in predict_cohort(CohortRequest(cases=find_scans(args.images), job=job, workers=Workers(make=make))):
        if outcome.status != "done":
            raise SystemExit(f"{outcome.case}: {outcome.error}")
        print(json.dumps(dict(outcome.seconds)))


if __name__ == "__main__":
    main()
