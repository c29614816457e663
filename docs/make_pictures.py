"""Draw the pictures of docs/anatomy.md on a phantom: what the rules keep and drop, with their own words.

    python docs/make_pictures.py [--output docs/pictures]

Balls are handed in as stage 1's prediction; verdicts and reasons are those of the package.
"""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from nnunet_cascade.geometry import Mask
from nnunet_cascade.images import Volume
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.phantom.thorax import make_phantom
from nnunet_cascade.postprocessing.anatomy import AnatomySettings, FilteredCandidates, filter_candidates
from nnunet_cascade.postprocessing.lungs.result import LEFT, RIGHT, LungMask
from nnunet_cascade.postprocessing.lungs.threshold import threshold_lungs

SEED = 7
# Blue and orange stay apart in grey and for the color-blind; what is dropped is dashed, too.
KEPT, DROPPED, LUNGS = "#4da3ff", "#ff9d2e", "#cfcfcf"


@dataclass(frozen=True)
class Ball:
    """A false or true finding: its center (Z, Y, X) in voxels, its radius in mm."""

    center: tuple[float, float, float]
    radius_mm: float


def balls_in(lungs: LungMask, body: Mask) -> list[Ball]:
    """Place balls in the lung, at the hilum, in the heart, at the pleura, below the patient, and a speck."""
    right, left = (np.argwhere(lungs.labels == side) for side in (RIGHT, LEFT))
    z = float(np.median(right[:, 0]))
    level = [places[np.abs(places[:, 0] - z) < 1] for places in (right, left)]
    (_, y, x_right), (_, _, x_left) = (places.mean(0) for places in level)
    edge = level[1][np.abs(level[1][:, 1] - y) < 1][:, 2].min()
    wall = level[0][np.abs(level[0][:, 1] - y) < 1][:, 2].min()
    heart_y = y - 16
    heart_edge = level[1][np.abs(level[1][:, 1] - heart_y) < 1][:, 2].min()
    middle = (level[0][:, 2].max() + level[1][:, 2].min()) / 2
    back = float(np.argwhere(body[round(z)]).max(0)[0])
    return [
        Ball((z, y, x_right), 12),
        Ball((z, y - 8, x_left + 6), 2.5),
        Ball((z, y, edge - 2), 11),
        Ball((z, y + 2, middle), 8),
        Ball((z, heart_y, heart_edge - 7), 10),
        Ball((z, y, wall - 2), 8),
        Ball((z, back - 4, middle), 7),
    ]


def drawn(balls: list[Ball], volume: Volume) -> Mask:
    """Give the balls as one mask (Z, Y, X)."""
    mask = np.zeros(volume.grid.shape, dtype=np.bool_)
    places = np.stack(np.meshgrid(*[np.arange(size) for size in mask.shape], indexing="ij"), -1)
    for ball in balls:
        offsets_mm = (places - np.array(ball.center)) * volume.grid.spacing_mm
        mask |= np.linalg.norm(offsets_mm, axis=-1) <= ball.radius_mm
    return mask


def draw(axes: plt.Axes, volume: Volume, lungs: LungMask, found: FilteredCandidates, height: int) -> None:
    """Draw the slice with the lungs' outline and each candidate's number in the color of its verdict."""
    _, dy, dx = volume.grid.spacing_mm
    axes.imshow(volume.array[height], cmap="gray", vmin=-1000, vmax=400, aspect=dy / dx)
    axes.contour(lungs.mask[height], [0.5], colors=LUNGS, linewidths=0.8, linestyles="dotted")
    for candidate in found.candidates:
        color = KEPT if candidate.kept else DROPPED
        inside = found.labels[height] == candidate.id
        if not inside.any():
            continue
        axes.contour(inside, [0.5], colors=color, linewidths=1.8, linestyles="solid" if candidate.kept else "dashed")
        y, x = np.argwhere(inside).mean(0)
        axes.text(x, y, str(candidate.id), color=color, ha="center", va="center", fontsize=11, fontweight="bold")
    for place, letter in ((0.015, "R"), (0.985, "L")):
        axes.text(place, 0.5, letter, color="white", ha="center", va="center", transform=axes.transAxes)
    axes.set_axis_off()


def in_words(found: FilteredCandidates) -> str:
    """Give each verdict in a line."""
    lines = []
    for candidate in found.candidates:
        verdict = candidate.verdict
        said = f"{candidate.id}  {'kept' if verdict.kept else 'dropped'}: {verdict.reason}"
        lines += textwrap.wrap(said, 112, subsequent_indent="   ")
    return "\n".join(lines)


def main() -> None:
    """Write one picture for each preset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "pictures")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    mpl.use("Agg")
    phantom = make_phantom(SEED, PhantomSettings(spacing_mm=(3.0, 2.0, 2.0), tumors=(1, 1), tumor_radius_mm=(4.0, 5.0)))
    volume = Volume(phantom.ct, phantom.grid)
    lungs = threshold_lungs(volume)
    balls = balls_in(lungs, volume.array > -300)
    tumor = drawn(balls, volume)
    for name, settings in {"recommended": AnatomySettings.recommended(), "paper": AnatomySettings.paper()}.items():
        found = filter_candidates(tumor, volume.grid, lungs, replace(settings, top_k="all"))
        figure, axes = plt.subplots(figsize=(8, 7.2), dpi=110)
        draw(axes, volume, lungs, found, round(balls[0].center[0]))
        axes.set_title(f"preset {name}, a phantom: solid blue is kept, dashed orange dropped", fontsize=10)
        figure.text(0.03, 0.02, in_words(found), fontsize=7.5, va="bottom", family="monospace")
        figure.subplots_adjust(left=0.02, right=0.98, top=0.94, bottom=0.22)
        figure.savefig(folder / f"anatomy_{name}.png", metadata={"Software": None})
        plt.close(figure)
        print(in_words(found))


if __name__ == "__main__":
    main()
