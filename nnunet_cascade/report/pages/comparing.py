"""The pages of two runs beside each other."""

from __future__ import annotations

from pathlib import Path

from nnunet_cascade.report.collect import CASES
from nnunet_cascade.report.comparison import SIDES, ComparedCase, RunComparison
from nnunet_cascade.report.pages.writing import PAGE, TO_ROOT, Neighbor, copy_assets, quoted, write_page


def write_comparison_pages(compared: RunComparison, folder: Path) -> None:
    """Write all pages of a comparison and what they load.

    Args:
        compared: The runs.
        folder: Of the report; the cases' folders are there.
    """
    copy_assets(folder / "assets")
    flags = {flag for run in compared.runs.values() for entry in run.entries for flag in entry.row.flags}
    write_page(
        folder / PAGE,
        "comparison.html",
        root="",
        compared=compared,
        sides=SIDES,
        cases=[(case, f"{CASES}/{quoted(case.folder)}/{PAGE}") for case in compared.cases],
        flags=sorted(flags),
    )
    around = [None, *compared.cases, None]
    for before, case, after in zip(around, compared.cases, around[2:], strict=False):
        write_page(
            folder / CASES / case.folder / PAGE,
            "comparison_case.html",
            root=TO_ROOT,
            compared=compared,
            case=case,
            before=_neighbor(before),
            after=_neighbor(after),
        )


def _neighbor(case: ComparedCase | None) -> Neighbor | None:
    return None if case is None else Neighbor(case.case, f"../{quoted(case.folder)}/{PAGE}")
