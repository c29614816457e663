"""`nnc-export-dicom`: results of a cascade as DICOM SEG, Parametric Map, RTSTRUCT and SR beside their CT."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_cascade.cli.common import DONE, FAILED, new_parser, run_command

if TYPE_CHECKING:
    from nnunet_cascade.dicom_export.export import ExportOutcome, ExportRequest
    from nnunet_cascade.dicom_export.matching import KnownSeries
    from nnunet_cascade.scans.scans import Scan

_KINDS = ("seg", "probability", "uncertainty", "rtstruct", "report")


def build_parser() -> argparse.ArgumentParser:
    """Describe the command."""
    parser = new_parser("nnc-export-dicom", "Write results of nnc-cascade-predict as DICOM that belongs to their CT.")
    parser.add_argument("-i", type=Path, required=True, metavar="RESULTS", help="folder that nnc-cascade-predict wrote")
    parser.add_argument(
        "--series",
        type=Path,
        metavar="DIR",
        help="folder with the CTs' DICOM series in any layout; default: where each case's record says its CT lay",
    )
    parser.add_argument(
        "-o", type=Path, metavar="OUT", help="gets a folder for each case; default: the folder dicom in the results"
    )
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=_KINDS,
        default=list(_KINDS),
        help="what to write; with the report goes the SEG it refers to",
    )
    parser.add_argument(
        "--every_slice",
        action="store_true",
        help="give the uncertainty a frame for every slice of the CT, which OHIF needs: four bytes a voxel",
    )
    parser.add_argument("--cases", nargs="+", metavar="CASE", help="default: all in the folder")
    parser.add_argument("-np", type=int, default=1, metavar="N", help="cases at a time")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="write cases anew whose DICOM is there")
    existing.add_argument(
        "--continue", dest="skip", action="store_true", help="leave out cases whose DICOM is there, of the same results"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser(), _body, argv)


def _body(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from nnunet_cascade.case_folders.run import prepare_output
    from nnunet_cascade.dicom_export.export import export_folder, write_export_report

    request = _request(args)
    prepare_output(request.folder)
    scans, unmatched = _scans(args)
    failed = len(unmatched)
    for outcome in unmatched:
        _tell(outcome)
    if unmatched:
        write_export_report(request, unmatched)
    with closing(export_folder(request, scans)) as outcomes, tqdm(total=len(scans), desc="export", unit="case") as bar:
        for outcome in outcomes:
            failed += outcome.status == "failed"
            _tell(outcome)
            bar.update()
    count = len(scans) + len(unmatched)
    print(f"{count - failed} of {count} cases exported to {request.folder}; {request.report_path} tells of each")
    return FAILED if failed else DONE


def _request(args: argparse.Namespace) -> ExportRequest:
    from nnunet_cascade.dicom_export.export import ExportRequest
    from nnunet_cascade.errors import SettingsError

    if not args.i.is_dir():
        raise SettingsError(f"-i {args.i} is not a folder; give the folder that nnc-cascade-predict wrote")
    return ExportRequest(
        results=args.i,
        output=args.o,
        kinds=tuple(dict.fromkeys(args.kinds)),
        processes=args.np,
        every_slice=args.every_slice,
        existing="overwrite" if args.overwrite else "skip" if args.skip else "refuse",
    )


def _scans(args: argparse.Namespace) -> tuple[dict[str, Scan | None], list[ExportOutcome]]:
    """Return the series of each case, and the cases that have none."""
    from tqdm import tqdm

    from nnunet_cascade.dicom_export.export import ExportOutcome, find_cases
    from nnunet_cascade.dicom_export.matching import KnownSeries
    from nnunet_cascade.errors import SettingsError

    found = find_cases(args.i)
    strange = [case for case in args.cases or () if case not in found]
    if strange:
        raise SettingsError(f"{args.i} holds no case {strange[0]}; found {len(found)}, such as {found[0]}")
    cases = [case for case in found if args.cases is None or case in args.cases]
    if args.series is None:
        return dict.fromkeys(cases), []
    known = KnownSeries(args.series)
    matched = {case: _matched(known, args.i, case) for case in tqdm(cases, desc="series", unit="case")}
    scans: dict[str, Scan | None] = {case: scan for case, scan in matched.items() if not isinstance(scan, str)}
    return scans, [
        ExportOutcome(case=case, status="failed", error=scan) for case, scan in matched.items() if isinstance(scan, str)
    ]


def _matched(known: KnownSeries, results: Path, case: str) -> Scan | str:
    """Return the series of a case, or why it has none."""
    from nnunet_cascade.dicom_export.export import read_case_record
    from nnunet_cascade.errors import CascadeError

    try:
        return known.series_of(case, read_case_record(results, case))
    except CascadeError as error:
        return str(error)


def _tell(outcome: ExportOutcome) -> None:
    """Say why a case failed."""
    import logging

    if outcome.status == "failed":
        logging.getLogger("nnunet_cascade.export").error("%s: %s", outcome.case, outcome.error)


if __name__ == "__main__":
    raise SystemExit(main())
