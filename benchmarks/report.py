"""The report on 200 cases: how long it takes, how large its first page is, and how soon a browser shows it.

    python benchmarks/report.py [--cases 200] [--distinct 8] [--spacing_mm 1.5] [--no_viewer] [--niivue FILE]

A few phantoms are predicted, and stand for many: their results are linked under other names. Metrics are computed
against the phantoms' own labels. Start and imports are part of the time. Needs playwright and Chromium for the
opening; without them it is left out.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from phantom_cohort import FIRST_SEED, bundle, chosen, command, fresh, new_parser, phantoms, timed, verdict

from nnunet_cascade.images import ENDING, write_image
from nnunet_cascade.phantom.record import phantom_name
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.phantom.thorax import make_phantom

MOST_SECONDS, MOST_MIB, MOST_OPENING_SECONDS = 60.0, 1.0, 2.0
_OPENINGS = 5


def main() -> None:
    """Print time, size and opening time; exit 1 where one is above what is wanted."""
    parser = new_parser(__doc__, cases=200)
    parser.add_argument("--distinct", type=int, default=8, help="phantoms that are predicted; default %(default)s")
    parser.add_argument("-np", type=int, default=2, help="processes of the report; default %(default)s")
    parser.add_argument("--no_viewer", action="store_true", help="leave the viewer out")
    parser.add_argument("--niivue", type=Path, help="the viewer's library")
    args = parser.parse_args()
    wanted, args.cases = args.cases, min(args.distinct, args.cases)
    images = phantoms(args)
    work = args.folder / "report"
    results, labels = work / "results", work / "labels"
    fresh(work)
    timed(command(chosen(images, work / "images"), results, bundle(args), "--mc_samples", "8"), args.threads)
    write_labels(args.cases, args.spacing_mm, labels)
    multiply(results, labels, wanted)
    print(f"{wanted} cases, of which {args.cases} are distinct; {os.cpu_count()} cores, {args.np} processes")

    options = ["--no_viewer"] if args.no_viewer else ["--niivue", str(args.niivue)] if args.niivue else []
    program = str(Path(sys.executable).with_name("nnc-report"))
    arguments = [sys.executable, program, str(results), "-gt", str(labels), "-np", str(args.np), *options]
    seconds = timed(arguments, args.threads)
    index = results / "report" / "index.html"
    mib = index.stat().st_size / (1 << 20)
    rules = {
        f"{seconds:.1f} s for {wanted} cases, at most {MOST_SECONDS:.0f}": seconds <= MOST_SECONDS,
        f"index.html of {mib:.2f} MiB, at most {MOST_MIB:.0f}": mib <= MOST_MIB,
    }
    opening = opened(index)
    if opening is not None:
        rules[f"opened in {opening:.2f} s, at most {MOST_OPENING_SECONDS:.0f}"] = opening <= MOST_OPENING_SECONDS
    sys.exit(verdict(rules))


def write_labels(cases: int, spacing_mm: float, folder: Path) -> None:
    """Write the true labels of the phantoms."""
    folder.mkdir()
    settings = PhantomSettings(tumors=(1, 2), spacing_mm=(spacing_mm,) * 3)
    for seed in range(FIRST_SEED, FIRST_SEED + cases):
        phantom = make_phantom(seed, settings)
        write_image((phantom.tumors > 0).astype(np.uint8), phantom.grid, folder / f"{phantom_name(seed)}{ENDING}")


def multiply(results: Path, labels: Path, wanted: int) -> None:
    """Link the results and labels of few cases under other names, until there are as many as wanted."""
    story = json.loads((results / "run.json").read_text(encoding="utf-8"))
    distinct = sorted(story["cases"])
    for number in range(len(distinct), wanted):
        case = distinct[number % len(distinct)]
        name = f"{case}_again{number}"
        record = json.loads((results / f"{case}.json").read_text(encoding="utf-8"))
        record["files"] = {file.replace(case, name, 1): size for file, size in record["files"].items()}
        for file in (results / f"{case}{end}" for end in (ENDING, *ends_of(results, case))):
            os.link(file, results / file.name.replace(case, name, 1))
        os.link(labels / f"{case}{ENDING}", labels / f"{name}{ENDING}")
        (results / f"{name}.json").write_text(json.dumps({**record, "case": name}), encoding="utf-8")
        story["cases"][name] = story["cases"][case]
    (results / "run.json").write_text(json.dumps(story), encoding="utf-8")


def ends_of(results: Path, case: str) -> list[str]:
    """List how the files of a case's maps end."""
    record = json.loads((results / f"{case}.json").read_text(encoding="utf-8"))
    return [name.removeprefix(case) for name in record["files"] if name != f"{case}{ENDING}"]


def opened(index: Path) -> float | None:
    """Give the median seconds from asking for a page to its `load` event; None without a browser."""
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415 - need not be there
    except ImportError:
        print("no playwright: the opening is not timed")
        return None
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("no Chromium: the opening is not timed")
        return None
    seconds: list[float] = []
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(_OPENINGS):
            page = browser.new_page()
            begun = time.perf_counter()
            page.goto(index.as_uri(), wait_until="load")
            page.locator("form[data-filters-of] output").wait_for(state="visible")
            seconds.append(time.perf_counter() - begun)
            page.close()
        browser.close()
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
