"""The pages of a report, from templates that show whatever they are given as text."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote

from jinja2 import Environment, PackageLoader

from nnunet_cascade.evaluation.metric_info import MetricInfo
from nnunet_cascade.evaluation.statistics.bootstrap import Resampling
from nnunet_cascade.evaluation.statistics.description import describe
from nnunet_cascade.flags import meaning_of
from nnunet_cascade.report.case_assets import FIGURE
from nnunet_cascade.report.collect import CASES
from nnunet_cascade.report.comparison import SIDES, ComparedCase, RunComparison
from nnunet_cascade.report.entries import CaseEntry, RunEntries
from nnunet_cascade.report.pages import wording
from nnunet_cascade.report.pages.histogram import histogram
from nnunet_cascade.report.reading.case_row import STATUSES
from nnunet_cascade.report.reading.scores import shown_metrics
from nnunet_cascade.report.review_priority import PRIORITY_DEFINITION
from nnunet_cascade.report.viewing.viewer import viewer_data
from nnunet_cascade.versions import NOTICE

PAGE = "index.html"
TO_ROOT = "../../"
"""From a case's page to the report's folder."""
_PACKAGE = "nnunet_cascade.report"
Case = TypeVar("Case", CaseEntry, ComparedCase)


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A page before or after another one."""

    case: str
    url: str


@cache
def environment() -> Environment:
    """Return the templates; every value is escaped, whatever it holds."""
    made = Environment(loader=PackageLoader(_PACKAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    filters: dict[str, Any] = {
        "number": wording.number,
        "metric": wording.of_metric,
        "ml": wording.ml,
        "percent": wording.percent,
        "filesize": wording.size,
        "estimate": wording.estimate,
        "p_value": wording.p_value,
        "key": wording.sort_key,
        "explained": meaning_of,
        "url": quoted,
    }
    everywhere: dict[str, Any] = {
        "notice": NOTICE,
        "statuses": STATUSES,
        "interval": wording.interval,
        "priority_definition": PRIORITY_DEFINITION,
        "figure": FIGURE,
    }
    cast(dict[str, Any], made.filters).update(filters)
    cast(dict[str, Any], made.globals).update(everywhere)
    return made


def quoted(name: str) -> str:
    """Return the name of a file or folder as a part of a URL, which leads nowhere else."""
    return quote(name, safe="")


def page_of(case: CaseEntry | ComparedCase) -> str:
    """Return the URL of a case's page from the report's folder."""
    return f"{CASES}/{quoted(case.folder)}/{PAGE}"


def write_report_pages(found: RunEntries, folder: Path, *, library: str, no_viewer: str) -> None:
    """Write all pages of a report and what they load.

    Args:
        found: The run.
        folder: Of the report; the cases' folders are there.
        library: Name of the viewer's library among the assets, or "".
        no_viewer: Why there is none, or "".
    """
    copy_assets(folder / "assets")
    write_page(folder / PAGE, "index.html", root="", **_index(found))
    for entry, before, after in with_neighbors(found.entries):
        volumes = {name: quoted(file) for name, file in entry.made.volumes.items()}
        record = found.run.records.get(entry.case)
        write_page(
            folder / CASES / entry.folder / PAGE,
            "case.html",
            root=TO_ROOT,
            entry=entry,
            before=before,
            after=after,
            infos=shown_metrics(),
            viewer=viewer_data(record, volumes, assets=f"{TO_ROOT}assets", library=library, problem=no_viewer),
        )


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


def copy_assets(assets: Path) -> None:
    """Copy what all pages load: styles and scripts of this package."""
    assets.mkdir(exist_ok=True)
    with as_file(files(_PACKAGE) / "assets") as ours:
        for path in sorted(ours.iterdir()):
            if path.is_file():
                shutil.copyfile(path, assets / path.name)


def write_page(path: Path, template: str, **values: Any) -> None:
    """Write a page of a template; what of a file's name is no text becomes a question mark."""
    page = environment().get_template(template).render(**values)
    path.write_bytes(page.encode("utf-8", "replace"))


def with_neighbors(cases: Sequence[Case]) -> Iterator[tuple[Case, Neighbor | None, Neighbor | None]]:
    """Return each case with the pages before and after it, in the order of the table."""
    pages = [None, *(Neighbor(case.case, f"../{quoted(case.folder)}/{PAGE}") for case in cases), None]
    return zip(cases, pages, pages[2:], strict=False)


def _index(found: RunEntries) -> dict[str, Any]:
    entries = found.entries
    rows = [entry.row for entry in entries]
    infos = tuple(info for info in shown_metrics() if any(info.name in entry.scores for entry in entries))
    volumes = histogram("volume of the tumor", [row.volume_ml for row in rows], unit="ml")
    spreads = histogram("mean uncertainty in the tumor", [row.uncertainty.mean_in_tumor for row in rows])
    return {
        "run": found.run,
        "problems": found.problems,
        "entries": [(entry, page_of(entry)) for entry in entries],
        "counts": {status: sum(row.status == status for row in rows) for status in STATUSES},
        "flags": sorted({flag for row in rows for flag in row.flags}),
        "troubled": [(entry, page_of(entry)) for entry in entries if entry.problems],
        "measures": sorted({row.uncertainty.measure for row in rows if row.uncertainty.measure}),
        "infos": infos,
        "described": _described(entries, infos),
        "histograms": [drawn for drawn in (volumes, spreads) if drawn is not None],
    }


def _described(entries: Sequence[CaseEntry], infos: Sequence[MetricInfo]) -> list[dict[str, Any]]:
    columns = {info: [e.scores[info.name] for e in entries if info.name in e.scores] for info in infos}
    return [{"info": info, "found": describe(column, Resampling())} for info, column in columns.items()]
