"""Draw the map of docs/architecture.md: the folders in layers, and where a case comes past.

python docs/make_architecture_picture.py [--output docs/pictures/architecture.svg]
"""

from __future__ import annotations

import argparse
from html import escape
from pathlib import Path

LAYERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("what you call", ("cli", "api")),
    ("what you look at", ("report", "reproduction")),
    ("work on a folder", ("workflows", "training", "cohort")),
    ("work on a case", ("bundles", "prediction", "dicom_export", "scans")),
    ("train, convert, test", ("plugin", "trainers", "dataset_conversion", "evaluation", "phantom")),
    ("the method", ("postprocessing", "uncertainty")),
    ("parts and formats", ("losses", "networks", "settings", "dicom", "case_folders")),
    ("the ground", ("images", "geometry", "machine", "nnunet_folders", "files", "processes", "versions", "errors")),
)
"""From the top down. A folder imports from the layers below it, and from neighbors on its right."""

STOPS = {
    "cli": "1",
    "scans": "2",
    "cohort": "3",
    "bundles": "4",
    "prediction": "5",
    "postprocessing": "6",
    "uncertainty": "7",
    "case_folders": "8",
    "dicom_export": "9",
    "report": "10",
}
"""Where a case comes past, by the numbers of the page."""

WIDTH, HEIGHT, GAP, MARGIN, LEFT = 980, 38, 12, 16, 190
VISITED, OTHER, INK, QUIET = "#d6e8fb", "#f1f1ee", "#1d2733", "#5b6670"


def box(name: str, x: float, y: float, width: float) -> str:
    """Draw a folder, with its number if a case comes past."""
    stop = STOPS.get(name)
    color = VISITED if stop else OTHER
    drawn = f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{HEIGHT}" rx="6" fill="{color}" stroke="{QUIET}"/>'
    drawn += f'<text x="{x + width / 2:.1f}" y="{y + 24}" text-anchor="middle">{escape(name)}</text>'
    if stop:
        drawn += f'<circle cx="{x + 4:.1f}" cy="{y + 4}" r="10" fill="{INK}"/>'
        drawn += f'<text x="{x + 4:.1f}" y="{y + 8}" text-anchor="middle" fill="white" class="small">{stop}</text>'
    return drawn


def layer(title: str, names: tuple[str, ...], y: float) -> str:
    """Draw a layer: its title and its folders side by side."""
    room = WIDTH - LEFT - MARGIN - GAP * (len(names) - 1)
    total = sum(len(name) + 4 for name in names)
    x, drawn = float(LEFT), f'<text x="{MARGIN}" y="{y + 24}" fill="{QUIET}">{escape(title)}</text>'
    for name in names:
        width = room * (len(name) + 4) / total
        drawn += box(name, x, y, width)
        x += width + GAP
    return drawn


def picture() -> str:
    """Draw all layers and the arrow of the imports."""
    step = HEIGHT + 2 * GAP
    height = MARGIN * 2 + step * len(LAYERS) - GAP
    rows = "\n".join(layer(*row, y=MARGIN + step * number) for number, row in enumerate(LAYERS))
    arrow = LEFT - 22
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">
<title>The folders of nnunet_cascade in layers; imports run downward</title>
<style>text {{ font: 14px sans-serif; fill: {INK} }} .small {{ font-size: 11px; fill: white }}</style>
<rect width="{WIDTH}" height="{height}" fill="white"/>
<path d="M {arrow} {MARGIN} V {height - MARGIN - 8}" stroke="{QUIET}" stroke-width="2"/>
<path d="M {arrow - 6} {height - MARGIN - 12} l 6 12 l 6 -12 z" fill="{QUIET}"/>
{rows}
</svg>
"""


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "pictures" / "architecture.svg")
    parser.parse_args().output.write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    main()
