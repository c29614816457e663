"""Make the pictures of the tutorial: a report of phantoms, opened in Chromium, and a figure.

    nnc-demo -o demo
    python docs/make_screenshots.py [--demo demo] [--output docs/pictures]

It needs Chromium, Playwright and, once, the network: the viewer's library is fetched. The cases are the
phantoms that the demonstration held out.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

BIN = Path(sys.executable).parent
WIDTH, HEIGHT = 1280, 800
MOST_BYTES = 150_000
# Without a graphics card, WebGL is drawn by the processor.
CHROMIUM = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox", "--disable-dev-shm-usage"]


def made_report(demo: Path, folder: Path) -> tuple[Path, Path]:
    """Predict the held-out phantoms of a demonstration.

    Returns:
        The folder of results and that of the true labels.
    """
    raw = demo / "nnUNet_raw" / "Dataset501_Phantoms"
    images, results = raw / "imagesTs", folder / "results"
    subprocess.run([BIN / "nnc-cascade-predict", "-i", images, "-o", results, "-m", demo / "bundle"], check=True)  # noqa: S603
    return results, raw / "labelsTs"


@contextmanager
def served(results: Path, truth: Path, report: Path) -> Generator[str]:
    """Make a report and serve it; gives its address."""
    command = [BIN / "nnc-report", results, "-o", report, "-gt", truth, "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            for line in process.stdout or ():
                if found := re.search(r"http://127\.0\.0\.1:\d+\S*", line):
                    yield found[0].rstrip("/.,;")
                    return
            raise SystemExit("nnc-report told no address")
        finally:
            process.terminate()


def smaller(path: Path) -> None:
    """Reduce a picture's colors, then its size, until it is small enough."""
    picture = Image.open(path).convert("RGB")
    for scale in (1.0, 0.85, 0.7, 0.55):
        size = (round(picture.width * scale), round(picture.height * scale))
        picture.resize(size, Image.Resampling.LANCZOS).quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2).save(
            path, optimize=True
        )
        if path.stat().st_size <= MOST_BYTES:
            return
    raise SystemExit(f"{path} has {path.stat().st_size} bytes; expected {MOST_BYTES} at most")


def telling_case(results: Path) -> str:
    """Choose the case with the largest dropped candidate among those of which something was kept."""
    dropped_ml = {}
    for path in sorted(results.glob("phantom_*.json")):
        candidates = json.loads(path.read_text())["candidates"]
        dropped = [found["volume_ml"] for found in candidates if not found["verdict"]["kept"]]
        if 0 < len(dropped) < len(candidates):
            dropped_ml[path.stem] = max(dropped)
    if not dropped_ml:
        raise SystemExit(f"{results} has no case with a kept and a dropped candidate; give another demonstration")
    return max(dropped_ml, key=lambda case: dropped_ml[case])


def draw(page: Page, address: str, case: str, output: Path) -> None:
    """Take pictures of the table, of a case's page and of its viewer."""
    page.goto(f"{address}/index.html")
    page.locator("section", has=page.get_by_role("heading", name="Cases")).screenshot(path=output / "report_index.png")
    page.goto(f"{address}/cases/{case}/index.html")
    page.screenshot(path=output / "report_case.png")
    page.locator("#viewer").scroll_into_view_if_needed()  # it begins when it is seen
    page.locator("#viewer-app[data-state=ready]").wait_for(timeout=120_000)
    page.locator("#viewer-app input[name=layer][value=uncertainty]").check()
    page.wait_for_timeout(3000)  # it draws in the next frames
    page.locator("#viewer").screenshot(path=output / "report_viewer.png")


def main() -> None:
    """Write all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="folder of nnc-demo")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "pictures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        folder = Path(scratch)
        results, truth = made_report(args.demo, folder)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        case = telling_case(results)
        with served(results, truth, folder / "report") as address:
            draw(browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}), address, case, args.output)
        browser.close()
        figures = folder / "figures"
        command = [BIN / "nnc-figure", "-i", results, "-o", figures, "-gt", truth, "--cases", case]
        subprocess.run(command, check=True)  # noqa: S603
        shutil.copy(min(figures.glob("*.png")), args.output / "figure.png")
    for name in ("report_index", "report_case", "report_viewer", "figure"):
        smaller(args.output / f"{name}.png")


if __name__ == "__main__":
    main()
