"""What the recommended rules keep and drop on real CTs, with lung masks by threshold.

    NNC_REAL_DATA=... python benchmarks/real_candidates.py [--cases LUNG1-001 LUNG1-002] [--only tumors|blobs|settings]

GTV-1 is handed in as stage 1's prediction, as drawn, eroded and dilated by 3 mm, in other layouts of the same patient.
Then balls of 5 to 12 mm radius at random places: far (more than 15 mm from the clinical lungs, in body and air), in
heart and great vessels (soft tissue between the lungs in the central zone, in front of and beside the spine, up to
15 mm from a lung, not the tumor), and in the parenchyma. The last table varies the central zone's rule. All candidates
are judged, none outranked (top_k "all").
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from lung_masks import RealCase, find, near, real_case
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_cascade.geometry import AxisTurn, Box, Grid, Mask, as_index
from nnunet_cascade.images import Volume
from nnunet_cascade.postprocessing.anatomy import AnatomySettings, filter_candidates
from nnunet_cascade.postprocessing.candidates import Candidate

CASES = ("LUNG1-001", "LUNG1-002")
SETTINGS = replace(AnatomySettings.recommended(), top_k="all")
BLOBS, RADII_MM, FAR_MM, CHANGE_MM = 200, (5.0, 12.0), 15.0, 3.0
SOFT_HU, SOFT_SHARE = (-150.0, 250.0), 0.95
SPINE_RADIUS_MM, SPINE_FRONT_MM = 28.0, 18.0
KEPT_AT_LEAST, FAR_DROPPED, HEART_DROPPED = 0.99, 0.99, 0.70
LAYOUTS = {
    "as stored": AxisTurn((0, 1, 2), (False, False, False)),
    "left and right flipped": AxisTurn((0, 1, 2), (False, False, True)),
    "all flipped": AxisTurn((0, 1, 2), (True, True, True)),
    "z last": AxisTurn((1, 2, 0), (False, False, False)),
    "x first, flipped": AxisTurn((2, 0, 1), (True, False, True)),
    "RAS": AxisTurn((0, 1, 2), (False, True, True)),
}


def turned_grid(grid: Grid, turn: AxisTurn) -> Grid:
    """Give the grid of a turned array: the same voxels at the same places."""
    corner = [0.0, 0.0, 0.0]
    for axis, flip in zip(turn.order, turn.flipped, strict=True):
        corner[axis] = grid.shape[axis] - 1.0 if flip else 0.0
    senses = [-1.0 if flip else 1.0 for flip in turn.flipped]
    z, y, x = (
        tuple(sense * value for value in grid.axes[axis]) for axis, sense in zip(turn.order, senses, strict=True)
    )
    return Grid(
        shape=as_index(grid.shape[axis] for axis in turn.order),
        spacing_mm=turn.spacing(grid.spacing_mm),
        origin_mm=grid.world_mm((corner[0], corner[1], corner[2])),
        axes=(z, y, x),  # type: ignore[arg-type]
    )


def numbers(candidates: Sequence[Candidate]) -> list[tuple[object, ...]]:
    """Give all that must not change with the layout."""
    return [
        (
            c.verdict, c.voxels, round(c.volume_mm3, 3), tuple(round(v, 3) for v in c.centroid_mm), c.lung_overlap,
            round(c.lung_distance_mm or 0.0, 6), c.near_surface_share, c.central, c.side, c.touches_border,
        )
        for c in candidates
    ]  # fmt: skip


def variants(tumor: Mask, grid: Grid) -> dict[str, Mask]:
    """Give the tumor as drawn, eroded and dilated."""
    eroded = tumor & ~near(~tumor, grid, CHANGE_MM)
    return {"as drawn": tumor, "eroded 3 mm": eroded, "dilated 3 mm": near(tumor, grid, CHANGE_MM)}


def tumor_rows(case: RealCase, lungs: Mask) -> Iterator[str]:
    """Judge GTV-1 in every variant and layout; one row a variant."""
    tumors = variants(case.others["GTV-1"], case.ct.grid)
    expected = {
        name: filter_candidates(mask, case.ct.grid, lungs, SETTINGS).candidates for name, mask in tumors.items()
    }
    differing: dict[str, list[str]] = {name: [] for name in tumors}
    for layout, turn in list(LAYOUTS.items())[1:]:
        grid = turned_grid(case.ct.grid, turn)
        found = find(Volume(np.ascontiguousarray(turn.apply(case.ct.array)), grid))
        for name, mask in tumors.items():
            judged = filter_candidates(np.ascontiguousarray(turn.apply(mask)), grid, found, SETTINGS).candidates
            if numbers(judged) != numbers(expected[name]):
                differing[name].append(layout)
    for name, candidates in expected.items():
        largest = candidates[0]
        cells = (
            case.name, name, f"{largest.volume_mm3 / 1000:.1f}", f"{100 * (largest.lung_overlap or 0):.0f} %",
            f"{largest.lung_distance_mm:.1f}", f"{100 * (largest.near_surface_share or 0):.0f} %",
            "central" if largest.central else str(largest.side), f"{sum(c.kept for c in candidates)}/{len(candidates)}",
            largest.verdict.rule if largest.kept else f"**{largest.verdict.rule}**",
            ", ".join(differing[name]) or f"same in {len(LAYOUTS)}",
        )  # fmt: skip
        yield "| " + " | ".join(cells) + " |"


@dataclass(frozen=True, kw_only=True)
class Field:
    """Where balls may lie.

    Attributes:
        name: In the table.
        room_mm: (Z, Y, X), the largest radius a ball may have about each voxel; 0 or less for none.
        share_of: (Z, Y, X), what a ball must lie in to `SOFT_SHARE`; None asks nothing.
        nearest_mm: (Z, Y, X), how small a ball may be about each voxel at least; None asks nothing.
    """

    name: str
    room_mm: NDArray[np.float32]
    share_of: Mask | None = None
    nearest_mm: NDArray[np.float32] | None = None


def distance_mm(mask: Mask, grid: Grid) -> NDArray[np.float32]:
    """Give the distance to the nearest voxel outside a mask, 0 outside."""
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=grid.spacing_mm), dtype=np.float32)


def between_lungs(lungs: Mask) -> Mask:
    """Mark what has lung on its right and on its left in the same row and lies in the central half."""
    right, left = np.maximum.accumulate(lungs, axis=2), np.maximum.accumulate(lungs[:, :, ::-1], axis=2)[:, :, ::-1]
    box = Box.around(lungs)
    quarter = round((box.stop[2] - box.start[2]) * SETTINGS.central_zone_share / 2)
    middle = (box.start[2] + box.stop[2]) // 2
    central = np.zeros(lungs.shape[2], dtype=np.bool_)
    central[middle - quarter : middle + quarter] = True
    return right & left & ~lungs & central


def spine(case: RealCase) -> Mask:
    """Mark the vertebrae: a cylinder in front of the spinal cord."""
    cord = next(mask for name, mask in case.others.items() if name.lower().replace("-", " ").startswith("spinal"))
    _, dy, dx = case.ct.grid.spacing_mm
    ys, xs = np.ogrid[: cord.shape[1], : cord.shape[2]]
    marked, at = np.zeros_like(cord), None
    for part, found in zip(cord, marked, strict=True):
        at = np.argwhere(part).mean(axis=0) if part.any() else at
        if at is not None:
            found[...] = ((ys - at[0]) * dy + SPINE_FRONT_MM) ** 2 + ((xs - at[1]) * dx) ** 2 <= SPINE_RADIUS_MM**2
    return marked


def fields(case: RealCase) -> Iterator[Field]:
    """Give the three kinds of places."""
    grid, soft = case.ct.grid, (case.ct.array > SOFT_HU[0]) & (case.ct.array < SOFT_HU[1])
    outside_mm = distance_mm(~case.lungs, grid)
    yield Field(name="farther than 15 mm", room_mm=outside_mm - FAR_MM)
    barred = near(case.others["GTV-1"], grid, 5.0) | spine(case)
    inside = between_lungs(case.lungs) & ~barred
    room_mm = np.where(inside, np.minimum(outside_mm, distance_mm(~barred, grid)), 0)
    yield Field(name="heart and great vessels", room_mm=room_mm, share_of=soft, nearest_mm=outside_mm - FAR_MM)
    yield Field(name="parenchyma", room_mm=distance_mm(case.lungs, grid))


def ball(center: Sequence[int], radius_mm: float, grid: Grid) -> tuple[Box, Mask] | None:
    """Draw a ball; None where it leaves the image."""
    steps = [int(radius_mm / size) + 1 for size in grid.spacing_mm]
    low, high = ([c + sign * s for c, s in zip(center, steps, strict=True)] for sign in (-1, 1))
    if min(low) < 0 or any(stop >= size for stop, size in zip(high, grid.shape, strict=True)):
        return None
    z, y, x = (np.arange(-s, s + 1) * size for s, size in zip(steps, grid.spacing_mm, strict=True))
    box = Box(as_index(low), as_index(stop + 1 for stop in high))
    return box, z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 <= radius_mm**2


def planted(field: Field, grid: Grid, seed: int) -> list[Mask]:
    """Plant balls at random, in as many masks as keep them from merging.

    A radius is drawn first, then a voxel among those with room for it: every radius is as frequent as any other.
    """
    rng = np.random.default_rng(seed)
    masks: list[Mask] = []
    taken: list[list[tuple[NDArray[np.float64], float]]] = []
    count = 0
    while count < BLOBS:
        radius = rng.uniform(*RADII_MM)
        free = field.room_mm >= radius
        if field.nearest_mm is not None:
            free &= field.nearest_mm <= radius
        places = np.flatnonzero(free)
        for place in rng.choice(places, size=min(50, len(places)), replace=False):
            center = np.unravel_index(place, free.shape)
            drawn = ball([int(c) for c in center], radius, grid)
            if drawn is None or (
                field.share_of is not None and field.share_of[drawn[0].slices][drawn[1]].mean() < SOFT_SHARE
            ):
                continue
            at = np.array(center) * grid.spacing_mm
            gap = 2 * SETTINGS.merge_radius_mm + 3 * max(grid.spacing_mm)
            fits = (
                i for i, others in enumerate(taken) if all(np.linalg.norm(at - o) > radius + r + gap for o, r in others)
            )
            index = next(fits, len(masks))
            if index == len(masks):
                masks.append(np.zeros(grid.shape, dtype=np.bool_))
                taken.append([])
            masks[index][drawn[0].slices] |= drawn[1]
            taken[index].append((at, radius))
            count += 1
            break
    return masks


def judged(masks: Sequence[Mask], grid: Grid, lungs: Mask, settings: AnatomySettings) -> list[Candidate]:
    """Judge what lies in several masks."""
    return [c for mask in masks for c in filter_candidates(mask, grid, lungs, settings).candidates]


def blob_row(case: RealCase, name: str, candidates: Sequence[Candidate]) -> str:
    """Tell what became of one kind of balls."""
    dropped = sum(not c.kept for c in candidates)
    share = dropped / len(candidates)
    target, text, is_met = {
        "farther than 15 mm": (FAR_DROPPED, "≥ 99 % dropped", share >= FAR_DROPPED),
        "heart and great vessels": (HEART_DROPPED, "≥ 70 % dropped", share >= HEART_DROPPED),
        "parenchyma": (KEPT_AT_LEAST, "≥ 99 % kept", 1 - share >= KEPT_AT_LEAST),
    }[name]
    del target
    rules = {rule: sum(c.verdict.rule == rule for c in candidates) for rule in {c.verdict.rule for c in candidates}}
    told = ", ".join(f"{rule} {count}" for rule, count in sorted(rules.items()))
    central = sum(c.central for c in candidates)
    cells = (case.name, name, str(len(candidates)), str(central), str(len(candidates) - dropped), str(dropped))
    return f"| {' | '.join(cells)} | {text} | {'yes' if is_met else '**no**'} | {told} |"


def settings_tables(cases: Sequence[RealCase], lungs: dict[str, Mask], hearts: dict[str, list[Mask]]) -> Iterator[str]:
    """Vary distance, share of the surface and central zone; what of the hearts goes, which tumors stay."""
    yield (
        "\n| central zone | distance, mm | share of the surface | "
        + " | ".join(f"{case.name}: dropped; tumors kept" for case in cases)
        + " |"
    )
    yield "|---|---:|---:|" + "---|" * len(cases)
    for zone, distance in product((0.5, 0.6, 0.7), (3.0, 5.0)):
        wider = replace(
            SETTINGS, central_zone_share=zone, rescue_distance_mm=distance, rescue_near_surface_share_central=0.0
        )
        measured = {
            case.name: (
                judged(hearts[case.name], case.ct.grid, lungs[case.name], wider),
                [
                    filter_candidates(mask, case.ct.grid, lungs[case.name], wider).candidates[0]
                    for mask in variants(case.others["GTV-1"], case.ct.grid).values()
                ],
            )
            for case in cases
        }
        for share in (0.0, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8):
            cells: list[str] = []
            for balls, tumors in measured.values():
                drops = [not would_keep(c, share) for c in balls]
                cells.append(f"{100 * np.mean(drops):.0f} %; {sum(would_keep(c, share) for c in tumors)}/{len(tumors)}")
            yield f"| {zone} | {distance:g} | {share} | {' | '.join(cells)} |"


def would_keep(candidate: Candidate, share: float) -> bool:
    """Tell whether a candidate stays where the central zone asks for a share of the surface."""
    if not candidate.kept or candidate.verdict.rule != "rescue" or not candidate.central:
        return candidate.kept
    return (candidate.near_surface_share or 0.0) >= share


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--only", choices=("tumors", "blobs", "settings"))
    args = parser.parse_args()
    cases = [real_case(name) for name in args.cases]
    lungs = {case.name: find(case.ct) for case in cases}
    if args.only in {None, "tumors"}:
        columns = (
            "CT",
            "GTV-1",
            "ml",
            "in the lungs",
            "mm from a lung",
            "surface near one",
            "side",
            "kept",
            "rule",
            "layouts",
        )
        print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
        for case in cases:
            for row in tumor_rows(case, lungs[case.name]):
                print(row, flush=True)
    hearts: dict[str, list[Mask]] = {}
    if args.only != "tumors":
        print("\n| CT | balls | n | central | kept | dropped | target | met | rules |\n|" + "---|" * 9)
        for case in cases:
            for seed, field in enumerate(fields(case)):
                masks = planted(field, case.ct.grid, seed)
                candidates = judged(masks, case.ct.grid, lungs[case.name], SETTINGS)
                print(blob_row(case, field.name, candidates), flush=True)
                if field.nearest_mm is not None:
                    hearts[case.name] = masks
    if args.only in {None, "settings"}:
        for row in settings_tables(cases, lungs, hearts):
            print(row, flush=True)


if __name__ == "__main__":
    main()
