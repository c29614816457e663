"""`nnc-export-dicom`: results of a cascade as DICOM SEG, Parametric Map, RTSTRUCT and SR that reference their CT."""

from __future__ import annotations

import argparse
import logging
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING

from nnunet_cascade.cli.common import DONE, FAILED, CommandParser, new_command
from nnunet_cascade.cli.options import DICOM_KINDS, add_cases, add_processes
from nnunet_cascade.errors import CascadeError, SettingsError

if TYPE_CHECKING:
    from nnunet_cascade.dicom_export.export import ExportOutcome, ExportRequest
    from nnunet_cascade.scans.scans import Scan

_log = logging.getLogger("nnunet_cascade.export")


def build_parser() -> CommandParser:
    """Describe the command."""
    parser = CommandParser(
        "nnc-export-dicom",
        "Write results of nnc-cascade-predict as DICOM objects that reference their CT.",
        "nnc-export-dicom -i RESULTS",
        "nnc-export-dicom -i RESULTS --series DICOM_FOLDER --kinds seg report -o OUT",
    )
    files = parser.options("input and output")
    files.path("-i", "RESULTS", "folder that nnc-cascade-predict wrote", required=True)
    meaning = "folder with the DICOM series of the CTs, in any layout; default: where each case's record says"
    files.path("--series", "DIR", meaning)
    files.path("-o", "OUT", "folder that gets a folder for each case; default: the folder dicom in the results")
    add_cases(files)
    objects = parser.options("objects")
    meaning = "objects to write; a report always comes with the SEG that it references"
    objects.add("--kinds", meaning, nargs="+", choices=DICOM_KINDS, default=list(DICOM_KINDS))
    meaning = "write an uncertainty frame for every slice of the CT, as OHIF needs it: four bytes per voxel"
    objects.switch("--every_slice", meaning)
    run = parser.options("speed and resume")
    add_processes(run, default=1)
    existing = run.one_of()
    existing.switch("--overwrite", "export cases again that have been exported")
    existing.resume("--c", meaning="resume: skip cases that have been exported from the same results")
    return parser


def _body(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from nnunet_cascade.case_folders.run import prepare_output
    from nnunet_cascade.dicom_export.export import export_folder, write_export_report

    request = _request(args)
    prepare_output(request.folder)
    scans, unmatched = _scans(args)
    if unmatched:
        write_export_report(request, unmatched)
    failed, count = 0, len(scans) + len(unmatched)
    with closing(export_folder(request, scans)) as outcomes, tqdm(total=count, desc="export", unit="case") as bar:
        for outcome in chain(unmatched, outcomes):
            if outcome.status == "failed":
                failed += 1
                _log.error("%s: %s", outcome.case, outcome.error)
            bar.update()
    print(f"{count - failed} of {count} cases exported to {request.folder}; details: {request.report_path}")
    return FAILED if failed else DONE


def _request(args: argparse.Namespace) -> ExportRequest:
    from nnunet_cascade.dicom_export.export import ExportRequest

    if not args.i.is_dir():
        raise SettingsError(f"-i {args.i} is not a folder; give the folder that nnc-cascade-predict wrote")
    return ExportRequest(
        results=args.i,
        output=args.o,
        kinds=tuple(dict.fromkeys(args.kinds)),
        processes=args.np,
        every_slice=args.every_slice,
        existing="overwrite" if args.overwrite else "skip" if args.resume else "refuse",
    )


def _scans(args: argparse.Namespace) -> tuple[dict[str, Scan | None], list[ExportOutcome]]:
    """Return the series of each case, and the cases without a series."""
    from tqdm import tqdm

    from nnunet_cascade.dicom_export.export import ExportOutcome, find_cases, read_case_record
    from nnunet_cascade.dicom_export.matching import KnownSeries

    found = find_cases(args.i)
    strange = [case for case in args.cases if case not in found]
    if strange:
        raise SettingsError(f"{args.i} holds no case {strange[0]}; found {len(found)}, such as {found[0]}")
    cases = [case for case in found if not args.cases or case in args.cases]
    if args.series is None:
        return dict.fromkeys(cases), []
    known = KnownSeries(args.series)
    scans: dict[str, Scan | None] = {}
    unmatched: list[ExportOutcome] = []
    for case in tqdm(cases, desc="series", unit="case"):
        try:
            scans[case] = known.series_of(case, read_case_record(args.i, case))
        except CascadeError as error:
            unmatched.append(ExportOutcome(case=case, status="failed", error=str(error)))
    return scans, unmatched


main = new_command(build_parser, _body, __name__)
