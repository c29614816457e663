"""Lung masks from files that something else made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.errors import LungMaskError, SettingsError
from nnunet_cascade.flags import Flag
from nnunet_cascade.geometry import Labels, Mask
from nnunet_cascade.images import ENDING, Volume, read_labels
from nnunet_cascade.postprocessing.lungs.placement import lung_placement
from nnunet_cascade.postprocessing.lungs.result import LEFT, RIGHT, SMALL_SIDE, UNKNOWN_SIDE, LungMask

_SIDES = ((RIGHT,), (LEFT,))
_LUNGMASK_LOBES = ((3, 4, 5), (1, 2))
_TOTALSEGMENTATOR = ((12, 13, 14), (10, 11))
_LOBES = ("upper_lobe_left", "lower_lobe_left", "upper_lobe_right", "middle_lobe_right", "lower_lobe_right")
_SETS = (tuple(f"lung_{lobe}" for lobe in _LOBES), ("lung_left", "lung_right"), ("lung",))


@dataclass(frozen=True, slots=True, kw_only=True)
class SideLabels:
    """Which values of a label map are lung.

    Attributes:
        right: Those of the patient's right lung.
        left: Those of the left. Where both are empty every value but 0 is lung; sides are then known for lungmask's and
            our own 1, 2 and 3 (of unknown side), lungmask's five lobes 1 to 5 and TotalSegmentator's lobes 10 to 14.

    Raises:
        SettingsError: A value is not positive, or on both sides.
    """

    right: tuple[int, ...] = ()
    left: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        values = (*self.right, *self.left)
        if any(type(value) is not int or value < 1 for value in values) or len(set(values)) < len(values):
            raise SettingsError(
                f"lung labels are {self.right} on the right and {self.left} on the left; "
                "expected whole numbers from 1 up, each once"
            )

    def sides(self, values: Labels) -> NDArray[np.uint8]:
        """Return 1 for right, 2 for left, 3 for lung of unknown side and 0 for the rest."""
        right, left = self._known(values)
        sides = np.zeros(values.shape, dtype=np.uint8)
        if not (self.right or self.left):
            sides[values != 0] = UNKNOWN_SIDE
        sides[np.isin(values, right)] = RIGHT
        sides[np.isin(values, left)] = LEFT
        return sides

    def _known(self, values: Labels) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if self.right or self.left:
            return self.right, self.left
        found = set(np.unique(values).tolist()) - {0}
        if found == set(range(1, 6)):
            return _LUNGMASK_LOBES
        for right, left in (_SIDES, _TOTALSEGMENTATOR):
            if found & set(right) and found & set(left) and found <= {*right, *left, UNKNOWN_SIDE}:
                return right, left
        return (), ()


def read_lungs(ct: Volume, folder: Path, *, case: str, labels: SideLabels | None = None) -> LungMask:
    """Read the lung mask of a case.

    Args:
        ct: On whose grid the mask must lie.
        folder: Holds `<case>.nii.gz`, or a folder `<case>` as TotalSegmentator writes it:
            the five lobes `lung_upper_lobe_left.nii.gz` and so on, or `lung_left` and
            `lung_right`, or `lung`; other files in it are not read.
        case: The case's name.
        labels: Which values of `<case>.nii.gz` are lung; None is any but 0.

    Returns:
        Flagged "lungs_misplaced" where it is not where the body has air, and
        "one_lung_small" also where the files do not tell the sides but the shape does.

    Raises:
        LungMaskError: There is no file, or one of several lobes is missing.
        GridMismatchError: A file lies on another grid.
        InputImageError: A file cannot be read.
    """
    path, parts = folder / f"{case}{ENDING}", folder / case
    if path.is_file():
        sides = (labels or SideLabels()).sides(read_labels(path, ct.grid, what="lung mask"))
    elif parts.is_dir():
        sides = _joined(ct, parts)
    else:
        raise LungMaskError(
            f"{path} does not exist, nor a folder {case} beside it; lung masks are looked for as <case>{ENDING} "
            "or as TotalSegmentator's lobes in a folder <case>: write them, or choose another source"
        )
    return lungs_of(ct, sides, source=f"folder {folder.name}")


def lungs_of(ct: Volume, sides: Labels, *, source: str) -> LungMask:
    """Measure lungs that something else found, labeled (Z, Y, X) as in `LungMask`, and flag them as `read_lungs` does.

    Raises:
        GridMismatchError: They are not of the CT's shape.
    """
    lungs = LungMask.of(sides, ct.grid, source=source)
    if not sides.any():
        return lungs
    seen = lung_placement(ct, lungs.mask)
    if seen.is_misplaced:
        return lungs.with_flag(Flag.LUNGS_MISPLACED)
    unknown = bool((lungs.labels == UNKNOWN_SIDE).any())
    return lungs.with_flag(Flag.ONE_LUNG_SMALL) if unknown and seen.smaller_side_share < SMALL_SIDE else lungs


def mask_files(folder: Path, case: str) -> list[Path]:
    """List the files that `read_lungs` reads of a case, or where there are none, those that it looks for.

    Raises:
        OSError: The folder cannot be looked into.
    """
    path, parts = folder / f"{case}{ENDING}", folder / case
    if path.is_file() or not parts.is_dir():
        return [path]
    return [parts / f"{name}{ENDING}" for name in _set_in(parts)]


def _joined(ct: Volume, folder: Path) -> NDArray[np.uint8]:
    """Join the masks of one case, each with the side its name says."""
    sides = np.zeros(ct.grid.shape, dtype=np.uint8)
    for name in _complete_set(folder):
        mask: Mask = read_labels(folder / f"{name}{ENDING}", ct.grid, what="lung mask") != 0
        sides[mask] = {"right": RIGHT, "left": LEFT}.get(name.rpartition("_")[2], UNKNOWN_SIDE)
    return sides


def _complete_set(folder: Path) -> tuple[str, ...]:
    """Return the names of the masks that make up the lungs; a lobe that is missing would be lung no more."""
    names = _set_in(folder)
    missing = [name for name in names if not (folder / f"{name}{ENDING}").is_file()]
    if not missing:
        return names
    if len(missing) < len(names):
        raise LungMaskError(
            f"{folder} holds {len(names) - len(missing)} of {len(names)} parts of the lungs; "
            f"{missing[0]}{ENDING} is missing: write it, empty where the patient has none"
        )
    raise LungMaskError(
        f"{folder} holds no lung mask; expected {_SETS[0][0]}{ENDING} and the other lobes, "
        f"{' and '.join(_SETS[1])}, or {_SETS[2][0]}"
    )


def _set_in(folder: Path) -> tuple[str, ...]:
    """Return the first set of names of which a mask is there; where there is none, the first set."""
    there = (names for names in _SETS if any((folder / f"{name}{ENDING}").is_file() for name in names))
    return next(there, _SETS[0])
