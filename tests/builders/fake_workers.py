"""Workers without models, for tests of who does what: a case's name says what becomes of it."""

import asyncio
import os
import signal
from pathlib import Path

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.case_folders.records import remove_recorded, write_record
from nnunet_cascade.cohort.jobs import CaseOutcome
from nnunet_cascade.errors import BundleError
from nnunet_cascade.files import write_text
from nnunet_cascade.scans.scans import Scan

FIGURES = {"tumor": {"volume_ml": 2.0}, "candidates": [], "rois": [], "lungs": None, "flags": [], "uncertainty": None}


class FakeWorker:
    def __init__(self, job, device):
        self.job, self.device, self.under_way = job, device, 0

    async def predict(self, files):
        self.under_way += 1
        await asyncio.sleep(0.02)
        if "poison" in files.case:
            os.kill(os.getpid(), signal.SIGKILL)
        if "slow" in files.case:
            write_text(self.job.output / f"{files.case}.started", str(os.getpid()))
            await asyncio.sleep(60)
        try:
            return self.written(files)
        except (BundleError, OSError) as error:
            return CaseOutcome(case=files.case, status="failed", error=str(error))
        finally:
            self.under_way -= 1

    def written(self, files):
        if "bad" in files.case:
            raise BundleError("it is bad")
        name = f"{files.case}.nii.gz"
        remove_recorded(self.job.output, files.case)
        write_text(self.job.output / name, f"made from {files.scan.path.read_text()}")
        content = {
            **FIGURES,
            "case": files.case,
            "files": {name: 0},
            "varying": {"pid": os.getpid(), "under_way": self.under_way},
        }
        content["varying"]["threads"] = os.environ["OMP_NUM_THREADS"]
        write_record(self.job.output, CaseRecord.from_json(content), self.job.made_from(files.checksums()))
        return CaseOutcome(case=files.case, status="done")

    def close(self):
        pass


def make(job, device):
    """Give a worker; the device says where it fails."""
    if device == "mps":
        raise BundleError("no models for this device")
    if device == "cuda:8":
        raise RuntimeError("CUDA error:\nout of memory")
    if device == "cuda:9":
        os.kill(os.getpid(), signal.SIGKILL)
    return FakeWorker(job, device)


def ct_folder(folder: Path, *cases):
    """Make files that stand for CTs."""
    folder.mkdir(exist_ok=True)
    for case in cases:
        (folder / f"{case}_0000.nii.gz").write_text(f"ct of {case}")
    return {case: Scan(case=case, path=folder / f"{case}_0000.nii.gz") for case in cases}
