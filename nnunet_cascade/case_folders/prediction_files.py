"""What nnU-Net leaves in a folder of predictions: label maps, `dataset.json`, and probabilities if asked for."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.case_folders.case_files import CHANNEL
from nnunet_cascade.dataset_labels import DatasetLabels
from nnunet_cascade.errors import InputImageError, SettingsError, one_line
from nnunet_cascade.geometry import Grid, Image, Labels, Mask
from nnunet_cascade.images import ENDING, read_volume
from nnunet_cascade.nnunet_folders import read_json

_LARGEST = 65535
_AGREEMENT = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class TumorLabel:
    """Which values of a prediction are tumor.

    Attributes:
        values: These.
        known: All values of `dataset.json`; None where there is none.
        channels: Of the probabilities, to be added up; none where no single region has these values.
        regions: Whether the channels are regions, each with a probability of its own.
        named: Whether somebody said so: `dataset.json` or the user.
    """

    values: tuple[int, ...] = (1,)
    known: frozenset[int] | None = None
    channels: tuple[int, ...] = (1,)
    regions: bool = False
    named: bool = False

    @classmethod
    def of(cls, predictions: Path, asked: Sequence[str] = ()) -> TumorLabel:
        """Read the `dataset.json` of predictions or true labels, where `dataset_file` finds it.

        Args:
            predictions: The folder of label maps, or one of them.
            asked: Names or values that are tumor. If empty, the only label of `dataset.json`,
                or 1 if there is no `dataset.json`.

        Raises:
            SettingsError: A name or a value is not in `dataset.json`, or it has several labels and none was asked for.
            DatasetError: `dataset.json` cannot be read.
        """
        path = dataset_file(predictions)
        if path is None:
            return cls() if not asked else cls._of_values(asked)
        labels = DatasetLabels.of(read_json(path), where=str(path))
        values = labels.values_of(asked)
        return cls(
            values=tuple(sorted(values)),
            known=labels.known,
            channels=labels.channels_of(values),
            regions=labels.is_region_based,
            named=True,
        )

    @classmethod
    def _of_values(cls, asked: Sequence[str]) -> TumorLabel:
        wrong = [text for text in asked if not text.isdecimal() or int(text) == 0]
        if wrong:
            raise SettingsError(
                f"tumor label {wrong[0]!r}; without a dataset.json next to the labels give a value from 1 up"
            )
        values = tuple(sorted({int(text) for text in asked}))
        return cls(values=values, channels=values, named=True)

    def mask(self, labels: Labels) -> Mask:
        """Mark the tumor in a label map (Z, Y, X)."""
        return np.isin(labels, self.values)


def dataset_file(predictions: Path) -> Path | None:
    """Find the `dataset.json` of label maps.

    It is next to predictions, above the `labelsTr` or `labelsTs` of a raw dataset, and in
    the model's folder for `fold_*/validation`.
    """
    folder = predictions if predictions.is_dir() else predictions.parent
    candidates = [folder / "dataset.json"]
    if folder.name.startswith("labels"):
        candidates.append(folder.parent / "dataset.json")
    if folder.name == "validation":
        candidates.append(folder.parent.parent / "dataset.json")
    return next((path for path in candidates if path.is_file()), None)


def find_ct(images: Path, case: str) -> Path:
    """Find the CT of a case: `<case>_0000.nii.gz`, `<case>.nii.gz`, or the one file that is given.

    Raises:
        InputImageError: There is none.
    """
    if images.is_file():
        return images
    for path in (images / f"{case}{CHANNEL}{ENDING}", images / f"{case}{ENDING}"):
        if path.is_file():
            return path
    raise InputImageError(f"{images} holds no CT of {case}; expected {case}{CHANNEL}{ENDING} or {case}{ENDING}")


def read_label_map(path: Path, grid: Grid, tumor: TumorLabel, *, what: str) -> Labels:
    """Read a label map that must lie on a CT's grid.

    Returns:
        (Z, Y, X), uint8, or uint16 where a value is above 255.

    Raises:
        InputImageError: As `read_volume`; a value is no label, or none is the tumor's though nobody said which is.
        GridMismatchError: The file lies on another grid; the message names `what`.
    """
    volume = read_volume(path)
    grid.require_same(volume.grid, what=f"{what} {path}")
    found = np.unique(volume.array)
    if found[0] < 0 or found[-1] > _LARGEST or (found != np.rint(found)).any():
        bad = next(value for value in found.tolist() if not (0 <= value <= _LARGEST and value == round(value)))
        raise InputImageError(f"{path} holds the value {bad:g}; expected labels, whole numbers from 0 to {_LARGEST}")
    values = {int(value) for value in found}
    unknown = sorted(values - (tumor.known or values))
    if unknown and tumor.known is not None:
        raise InputImageError(
            f"{path} holds the value {unknown[0]}; dataset.json knows {', '.join(map(str, sorted(tumor.known)))}"
        )
    if not tumor.named and values - {0} and values.isdisjoint(tumor.values):
        raise InputImageError(
            f"{path} holds the values {', '.join(map(str, sorted(values)))} and not 1; "
            "say which is tumor by --tumor_label"
        )
    return volume.array.astype(np.uint8 if found[-1] <= 255 else np.uint16)


def read_true_tumor(path: Path, case: str, grid: Grid, tumor: TumorLabel) -> Mask:
    """Read the true tumor (Z, Y, X) of a case.

    Raises:
        InputImageError, GridMismatchError: It is not there, or as `read_label_map`.
    """
    if not path.is_file():
        raise InputImageError(f"{path} does not exist; expected the true labels of {case}")
    return tumor.mask(read_label_map(path, grid, tumor, what="true label"))


def read_probability(path: Path, tumor: TumorLabel, mask: Mask) -> tuple[Image | None, str]:
    """Read the tumor probability that nnU-Net saved beside a prediction (`--save_probabilities`).

    Args:
        path: The `.npz`; it need not be there.
        tumor: Says which channels.
        mask: (Z, Y, X), the predicted tumor. Where a tenth of it or more is not what the
            probabilities say, they are of another prediction or another orientation.

    Returns:
        (Z, Y, X), or None; and why it cannot be used, "" where it can or is not there.
    """
    if not path.is_file():
        return None, ""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            found: NDArray[np.floating[Any]] = content["probabilities"]
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        return None, f"{path.name} cannot be read ({one_line(error)})"
    problem = _misfit(found, tumor, mask)
    if problem:
        return None, f"{path.name} {problem}"
    return found[list(tumor.channels)].sum(axis=0, dtype=np.float32), ""


def _misfit(found: NDArray[np.floating[Any]], tumor: TumorLabel, mask: Mask) -> str:
    """Say why probabilities (channels, Z, Y, X) cannot be those of a mask, "" where they can."""
    if found.ndim != 4 or found.shape[1:] != mask.shape:
        return f"has shape {found.shape}; expected channels and {mask.shape}"
    if not tumor.channels or max(tumor.channels) >= len(found):
        return f"has {len(found)} channels, and which is the tumor's cannot be told"
    if not np.isfinite(found).all():
        return "holds values that are NaN or infinite"
    agreeing = _agreement(found[:, mask], tumor)
    if agreeing < _AGREEMENT:
        return f"calls {agreeing:.0%} of the tumor tumor; it belongs to another mask or reader"
    return ""


def _agreement(values: NDArray[np.floating[Any]], tumor: TumorLabel) -> float:
    """Return the share of voxels (channels, n) that their probabilities call tumor; 1 where there is none."""
    if values.shape[1] == 0:
        return 1.0
    if tumor.regions:
        return float(np.mean(values[tumor.channels[0]] > 0.5))
    return float(np.mean(np.isin(values.argmax(axis=0), tumor.channels)))


def uncertainty_path(folder: Path, case: str) -> Path:
    """Find the uncertainty map of a case: `<case>_uncertainty.nii.gz`, as a cascade writes it, or `<case>.nii.gz`.

    Raises:
        InputImageError: There is none.
    """
    for path in (folder / f"{case}_uncertainty{ENDING}", folder / f"{case}{ENDING}"):
        if path.is_file():
            return path
    raise InputImageError(f"{folder} holds no uncertainty of {case}; expected {case}_uncertainty{ENDING}")


def read_uncertainty(folder: Path, case: str, grid: Grid) -> Image:
    """Read the uncertainty map (Z, Y, X) of a case, in its own measure.

    Raises:
        InputImageError, GridMismatchError: There is none, it cannot be read, or it lies on another grid.
    """
    path = uncertainty_path(folder, case)
    volume = read_volume(path)
    grid.require_same(volume.grid, what=f"uncertainty map {path}")
    return volume.array.astype(np.float32)
