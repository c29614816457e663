"""Draw a phantom's CT on its way through the pipeline, from what `nnc-demo` predicted.

    nnc-demo -o demo
    python docs/make_pipeline_picture.py [--demo demo] [--output docs/pictures/pipeline.png]

Everything in it is read from the files of the results. It is an example that went well: the slice that shows
most of a true tumor, kept and found again by stage 2, and most of a dropped candidate.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

KEPT, DROPPED, LUNGS = "#4da3ff", "#ff9d2e", "#cfcfcf"
RAW = Path("nnUNet_raw") / "Dataset501_Phantoms"
MARGIN = 3
"""Voxels around the region in the last panel."""


@dataclass(frozen=True)
class Slice:
    """One axial slice of a case: every map (Y, X), and the candidates' ids that were kept."""

    ct: NDArray[np.generic]
    maps: dict[str, NDArray[np.generic]]
    kept: frozenset[int]
    aspect: float

    @property
    def candidates(self) -> NDArray[np.generic]:
        """Label map of the candidates."""
        return self.maps["candidates"]

    def shows(self) -> int:
        """Return how many voxels there are at least of a tumor that was found and of what was dropped."""
        kept = np.isin(self.candidates, list(self.kept))
        found = kept & (self.maps["truth"] > 0) & (self.maps["tumor"] > 0)
        return min(int(found.sum()), int(((self.candidates > 0) & ~kept).sum()))


def slices_of(demo: Path) -> list[Slice]:
    """Return all slices of all predicted phantoms."""
    return [each for record in sorted((demo / "predictions").glob("phantom_*.json")) for each in _slices(demo, record)]


def _slices(demo: Path, record: Path) -> list[Slice]:
    from nnunet_cascade.images import read_volume  # noqa: PLC0415 - slow to import, and -h needs it not

    names = ("candidates", "lungs", "roi", "uncertainty")
    paths = {name: record.with_name(f"{record.stem}_{name}.nii.gz") for name in names}
    volumes = {name: read_volume(path).array for name, path in paths.items()}
    volumes["tumor"] = read_volume(record.with_suffix(".nii.gz")).array
    volumes["truth"] = read_volume(demo / RAW / "labelsTs" / f"{record.stem}.nii.gz").array
    ct = read_volume(demo / RAW / "imagesTs" / f"{record.stem}_0000.nii.gz")
    candidates = json.loads(record.read_text(encoding="utf-8"))["candidates"]
    kept = frozenset(each["id"] for each in candidates if each["verdict"]["kept"])
    _, dy, dx = ct.grid.spacing_mm
    return [
        Slice(ct.array[z], {name: array[z] for name, array in volumes.items()}, kept, dy / dx)
        for z in range(ct.array.shape[0])
    ]


def show_ct(axes: plt.Axes, shown: Slice, title: str, caption: str) -> None:
    """Draw the CT with a title above and a sentence below."""
    axes.imshow(shown.ct, cmap="gray", vmin=-1000, vmax=400, aspect=shown.aspect)
    axes.set_title(title, fontsize=15, fontweight="bold")
    axes.text(0.5, -0.04, caption, ha="center", va="top", fontsize=12.5, transform=axes.transAxes, linespacing=1.4)
    axes.set_axis_off()


def outline(axes: plt.Axes, mask: NDArray[np.generic], color: str, style: str = "solid") -> None:
    """Draw the outline of a mask, if there is one."""
    if mask.any():
        axes.contour(mask, [0.5], colors=color, linewidths=1.8, linestyles=style)


def show_candidates(axes: plt.Axes, shown: Slice, *, judged: bool) -> None:
    """Draw each candidate with its number; judged ones in the color of their verdict."""
    for number in np.unique(shown.candidates[shown.candidates > 0]):
        mask = shown.candidates == number
        kept = not judged or int(number) in shown.kept
        color = "#ffffff" if not judged else KEPT if kept else DROPPED
        outline(axes, mask, color, "solid" if kept else "dashed")
        y, x = np.argwhere(mask).mean(0)
        axes.text(x, y, str(int(number)), color=color, ha="center", va="center", fontsize=9, fontweight="bold")


def box_of(mask: NDArray[np.generic]) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of a mask."""
    places = np.argwhere(mask)
    (top, left), (bottom, right) = places.min(0), places.max(0) + 1
    return int(top), int(left), int(bottom), int(right)


def regions_of(shown: Slice) -> list[NDArray[np.generic]]:
    """Return the mask of each region, the one with most of a found tumor first."""
    labels, found = shown.maps["roi"], (shown.maps["truth"] > 0) & (shown.maps["tumor"] > 0)
    masks = [labels == number for number in np.unique(labels[labels > 0])]
    return sorted(masks, key=lambda mask: -int((mask & found).sum()))


def show_boxes(axes: plt.Axes, shown: Slice) -> None:
    """Draw the regions."""
    for mask in regions_of(shown):
        top, left, bottom, right = box_of(mask)
        place = (left - 0.5, top - 0.5)
        axes.add_patch(Rectangle(place, right - left, bottom - top, fill=False, color="white", linestyle="-.", lw=1.5))


def show_result(axes: plt.Axes, shown: Slice) -> None:
    """Draw mask and uncertainty, near the first region."""
    region = regions_of(shown)[0]
    share = np.where(region, shown.maps["uncertainty"], 0) / max(float(shown.maps["uncertainty"][region].max()), 1e-9)
    axes.imshow(share, cmap="inferno", vmin=0, vmax=1, alpha=np.sqrt(share), aspect=shown.aspect)
    outline(axes, shown.maps["tumor"], KEPT)
    top, left, bottom, right = box_of(region)
    height, width = shown.ct.shape
    zoom = max((bottom - top + 2 * MARGIN) / height, (right - left + 2 * MARGIN) / width)
    x, y = (left + right) / 2, (top + bottom) / 2
    axes.set_xlim(x - zoom * width / 2, x + zoom * width / 2)
    axes.set_ylim(y + zoom * height / 2, y - zoom * height / 2)


def draw(shown: Slice) -> plt.Figure:
    """Draw the five steps from left to right."""
    figure, axes = plt.subplots(1, 5, figsize=(15, 3.05), dpi=90)
    show_ct(axes[0], shown, "CT", "a phantom,\nnot a patient")
    show_ct(axes[1], shown, "Stage 1", "finds candidates\nin the whole CT")
    show_candidates(axes[1], shown, judged=False)
    show_ct(axes[2], shown, "Anatomy rules", "keep the blue, drop the dashed\norange; dots are the lungs")
    axes[2].contour(shown.maps["lungs"] > 0, [0.5], colors=LUNGS, linewidths=0.8, linestyles="dotted")
    show_candidates(axes[2], shown, judged=True)
    show_ct(axes[3], shown, "Regions", "a box around\neach kept candidate")
    show_boxes(axes[3], shown)
    show_ct(axes[4], shown, "Stage 2", "draws tumor and uncertainty\n(brighter is less sure)")
    show_result(axes[4], shown)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.9, bottom=0.2, wspace=0.14)
    for left, right in pairwise(axes):
        x = (left.get_position().x1 + right.get_position().x0) / 2
        figure.text(x, 0.55, "→", ha="center", va="center", fontsize=20)
    return figure


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("demo"))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "pictures" / "pipeline.png")
    args = parser.parse_args()
    mpl.use("Agg")
    shown = max(slices_of(args.demo), key=Slice.shows, default=None)
    if shown is None or not shown.shows():
        raise SystemExit(f"{args.demo}/predictions shows no slice with a kept and a dropped candidate; run nnc-demo")
    draw(shown).savefig(args.output, metadata={"Software": None})


if __name__ == "__main__":
    main()
