"""One worker: both models in memory, and several cases under way at a time."""

from __future__ import annotations

from nnunet_cascade.cascade.runs.jobs import CaseFiles, CaseOutcome, CohortJob


class CaseWorker:
    """Predicts cases and writes their results.

    Args:
        job: What to do.
        device: Where the networks run, such as "cpu", "cuda:1" or "mps".

    Raises:
        BundleError, DropoutError, SettingsError: The bundle cannot be loaded.
    """

    def __init__(self, job: CohortJob, device: str) -> None:
        raise NotImplementedError

    async def predict(self, files: CaseFiles) -> CaseOutcome:
        """Predict a case and write its results; an error of the case is its outcome."""
        raise NotImplementedError

    def close(self) -> None:
        """End the worker's threads."""
        raise NotImplementedError
