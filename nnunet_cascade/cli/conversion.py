"""What the two conversion commands share."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_cascade.cli.common import DONE, FAILED, CommandParser, Options
from nnunet_cascade.cli.options import require_highdicom, unassigned_files
from nnunet_cascade.errors import SettingsError

if TYPE_CHECKING:
    from nnunet_cascade.dataset_conversion.cohort import ConversionResult
    from nnunet_cascade.dataset_conversion.settings import ConversionSettings

_MOST_LINES = 10


def add_conversion(parser: CommandParser) -> Options:
    """Add the options of both commands; return the group of input and output."""
    files = parser.options("input and output")
    files.path("-i", "DOWNLOAD", "folder of DICOM files in any layout", required=True)
    files.whole("-d", "ID", "number of the dataset to make, such as 501", required=True)
    patients = parser.options("patients and series")
    patients.words("--patients", "ID", "Patient IDs to convert; default: all")
    patients.path("--test_patients", "FILE", "Patient IDs, one per line, that go to imagesTs and labelsTs")
    meaning = "source of the labels; if a patient has the other one too, both are compared"
    patients.add("--label_source", meaning, choices=("rtstruct", "seg"), default="rtstruct")
    meaning = "series with missing, extra or tilted slices: resample them, or exclude the patient"
    patients.add("--irregular", meaning, choices=("resample", "exclude"), default="resample")
    meaning = "write splits_final.json with K patient-level folds, stratified by the first label's volume; 0: no file"
    patients.whole("--folds", "K", meaning, default=0)
    return files


def run_conversion(args: argparse.Namespace, settings: ConversionSettings, *, name: str) -> int:
    """Convert what the options ask for and print a summary."""
    from nnunet_cascade.dataset_conversion import WORKER_MODULE
    from nnunet_cascade.processes import start_early

    if args.np > 1:
        start_early(WORKER_MODULE)
    from nnunet_cascade.dataset_conversion.cohort import ConversionRequest, convert_download

    request = ConversionRequest(
        source=args.i,
        dataset=_dataset_folder(args.d, name),
        settings=settings,
        patients=frozenset(args.patients),
        test_patients=_listed(args.test_patients),
        processes=args.np,
        folds=args.folds,
    )
    if settings.source == "seg":
        require_highdicom()
    result = convert_download(request)
    print(_summary(result, args.d))
    return FAILED if result.left_out or result.stray or result.folds_problem else DONE


def _dataset_folder(number: int, name: str) -> Path:
    """Return the folder of a dataset; in nnU-Net a number belongs to one dataset only."""
    from nnunet_cascade.dataset_conversion.settings import require_dataset_name
    from nnunet_cascade.nnunet_folders import NNUNET_FOLDERS, nnunet_folder

    require_dataset_name(name)
    if not 1 <= number <= 999:
        raise SettingsError(f"-d {number}; expected a number from 1 to 999")
    folder = nnunet_folder("nnUNet_raw") / f"Dataset{number:03d}_{name}"
    set_here = [Path(os.environ[variable]) for variable in NNUNET_FOLDERS if os.environ.get(variable)]
    others = {path.name for parent in set_here for path in parent.glob(f"Dataset{number:03d}_*")} - {folder.name}
    if others:
        raise SettingsError(f"-d {number}: {min(others)} has this number in nnU-Net's folders; choose another")
    return folder


def _summary(result: ConversionResult, number: int) -> str:
    """Summarize a run."""
    splits = Counter(record["split"] for record in result.converted)
    flags = Counter(flag for record in result.converted for flag in record["flags"])
    flagged = sum(bool(record["flags"]) for record in result.converted)
    lines = [f"{splits['Tr']} case(s) for training and {splits['Ts']} for testing in {result.manifest.parent}"]
    if flags:
        counts = ", ".join(f"{flag} {count}" for flag, count in flags.most_common(_MOST_LINES))
        lines.append(f"{flagged} of them should be checked ({counts})")
    if result.left_out:
        lines.append(f"{len(result.left_out)} patient(s) left out:")
        lines += [f"  {record['case']}: {record['reason']}" for record in result.left_out[:_MOST_LINES]]
        more = len(result.left_out) - _MOST_LINES
        lines += [f"  and {more} more"] if more > 0 else []
    if result.stray:
        lines.append(unassigned_files(result.stray))
    if result.folds_problem:
        lines.append(f"no folds written: {result.folds_problem}")
    lines.append(f"details of each case: {result.manifest}")
    if splits["Tr"]:
        lines.append(f"next: nnUNetv2_plan_and_preprocess -d {number} --verify_dataset_integrity")
    return "\n".join(lines)


def _listed(path: Path | None) -> frozenset[str]:
    if path is None:
        return frozenset()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read ({error}); expected Patient IDs, one per line") from error
    found = frozenset(line.strip() for line in lines if line.strip())
    if not found:
        raise SettingsError(f"{path} is empty; expected Patient IDs, one per line")
    return found
