"""The pages of two runs beside each other."""

from __future__ import annotations

from pathlib import Path

from nnunet_cascade.report.collect import CASES
from nnunet_cascade.report.comparison import SIDES, RunComparison
from nnunet_cascade.report.pages.writing import PAGE, TO_ROOT, copy_assets, page_of, with_neighbors, write_page


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
        cases=[(case, page_of(case)) for case in compared.cases],
        flags=sorted(flags),
    )
    for case, before, after in with_neighbors(compared.cases):
        write_page(
            folder / CASES / case.folder / PAGE,
            "comparison_case.html",
            root=TO_ROOT,
            compared=compared,
            case=case,
            before=before,
            after=after,
        )
