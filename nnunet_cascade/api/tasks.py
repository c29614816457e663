"""Single tasks of the front door: read a CT, find its lungs, compare two masks, write one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.api.inputs import CtSource, MaskSource, as_volume, find_scan
from nnunet_cascade.case_folders.prediction_files import TumorLabel, read_label_map
from nnunet_cascade.errors import GridMismatchError, SettingsError, WrongTypeError, require_type
from nnunet_cascade.evaluation.case import CaseScore, score_case
from nnunet_cascade.geometry import Grid, Mask, Spacing, as_index, as_mask
from nnunet_cascade.images import Volume, require_ct
from nnunet_cascade.images import write_image as write_file
from nnunet_cascade.postprocessing.lungs import source as lung_sources
from nnunet_cascade.postprocessing.lungs.result import LungMask
from nnunet_cascade.postprocessing.lungs.source import LungSource
from nnunet_cascade.prediction.result import CaseResult
from nnunet_cascade.workflows.evaluation_workers import read_grid

_EXPECTED_MASK = "a result, a path, or an array (Z, Y, X) of booleans or labels"


def read_ct(source: str | Path, *, series: str | None = None) -> Volume:
    """Read one CT in Hounsfield units.

    Args:
        source: An image file, or a folder with the DICOM slices of one CT in any layout.
        series: SeriesInstanceUID of the CT, if the folder holds several.

    Returns:
        Array (Z, Y, X) and grid; a series lies on the grid that its slices' positions give.

    Raises:
        WrongTypeError: `source` is no path.
        InputImageError, DicomError: There is no CT, there are several, it cannot be read, or its values are not those
            of a CT.

    Example:
        >>> ct = nnc.read_ct("ct.nii.gz")
        >>> ct.array.shape == ct.grid.shape
        True
    """
    require_type(source, (str, Path), "a path (str or Path)", what="source")
    return find_scan(source, series).read()


def find_lungs(ct: CtSource, source: LungSource | None = None, *, case: str = "case") -> LungMask:
    """Find the lungs of a CT.

    Args:
        ct: An image file, a folder with one CT, a `Volume` or a SimpleITK image, in HU and in any orientation.
        source: Where the mask comes from; None finds it by threshold, which needs no network and no file.
        case: Name of the case, by which a source of files finds its mask.

    Returns:
        The lungs on the CT's own grid. An implausible mask is flagged.

    Raises:
        WrongTypeError: An argument is of another type.
        InputImageError, DicomError: There is no CT, there are several, or it cannot be read.
        LungMaskError: The source has no mask for this CT.

    Example:
        >>> lungs = nnc.find_lungs("ct.nii.gz")
        >>> lungs.source, lungs.flags
        ('threshold', ())
        >>> path = nnc.write_image(lungs.mask, nnc.read_ct("ct.nii.gz").grid, "lungs_of_ct.nii.gz")
    """
    require_type(source, (LungSource, type(None)), "a LungSource or None", what="source")
    volume = read_ct(ct) if isinstance(ct, (str, Path)) else as_volume(ct)
    require_ct(volume.array, name=case)
    return lung_sources.find_lungs(volume, source or LungSource(), case=case)


def write_image(array: NDArray[Any], grid: Grid, path: str | Path) -> Path:
    """Write a mask, labels or a map as an image file, such as `.nii.gz`; it appears whole or not at all.

    Args:
        array: (Z, Y, X) numbers or booleans; these become 0 and 1.
        grid: Where its voxels lie, such as `result.grid` or `read_ct(…).grid`.
        path: In a folder that is there. An earlier file is replaced.

    Returns:
        The path.

    Raises:
        WrongTypeError: An argument is of another type.
        GridMismatchError: The array is not of the grid's shape.
        InputImageError: The file cannot be written.

    Example:
        >>> ct = nnc.read_ct("ct.nii.gz")
        >>> nnc.write_image(ct.array > 300, ct.grid, "bones.nii.gz").name
        'bones.nii.gz'
    """
    require_type(array, np.ndarray, "an array (Z, Y, X)", what="array")
    require_type(grid, Grid, "a Grid", what="grid")
    require_type(path, (str, Path), "a path (str or Path)", what="path")
    if array.shape != grid.shape:
        raise GridMismatchError(f"the array has the shape {array.shape}, its grid {grid.shape}; give the array's grid")
    write_file(array, grid, Path(path))
    return Path(path)


def evaluate(
    prediction: CaseResult | MaskSource,
    truth: MaskSource,
    *,
    spacing_mm: Spacing | None = None,
    tumor_labels: Sequence[str | int] = (),
    case: str = "case",
) -> CaseScore:
    """Compare a predicted tumor with the true one, by the measures of `nnc-evaluate`.

    Args:
        prediction: A result, a file of labels, or an array (Z, Y, X) of booleans or labels.
        truth: A file, or an array of the same shape.
        spacing_mm: Voxel size along (Z, Y, X); needed for two arrays, which do not tell it.
        tumor_labels: Values in files, or names in their `dataset.json`, that are tumor. Default: the only label of
            `dataset.json`, or 1. In arrays all but 0 is tumor.
        case: Name of the case in the score.

    Returns:
        Every measure. Both masks empty: Dice and distances are NaN. One empty: Dice 0, distances the image's diagonal.

    Raises:
        WrongTypeError: A mask is neither a result, a path nor an array of booleans or labels; or the voxel size is not
            three numbers.
        GridMismatchError: The masks lie on different grids.
        InputImageError: A file cannot be read, or holds no labels.
        SettingsError: There is no voxel size.

    Example:
        >>> truth = np.zeros((8, 8, 8), bool)
        >>> truth[2:6, 2:6, 2:6] = True
        >>> score = nnc.evaluate(np.roll(truth, 1, axis=0), truth, spacing_mm=(3, 1, 1))
        >>> score.dice, score.hd_mm, score.lesions_found
        (0.75, 3.0, 1)
    """
    for source, what in ((prediction, "prediction"), (truth, "truth")):
        if not isinstance(source, np.ndarray):  # `as_mask` looks at these
            require_type(source, (CaseResult, str, Path), _EXPECTED_MASK, what=what)
    grid = _grid_of(prediction, truth, spacing_mm)
    true = _mask(truth, grid, tumor_labels, what="truth")
    return score_case(case, true, _mask(prediction, grid, tumor_labels, what="prediction"), grid.spacing_mm)


def _grid_of(prediction: CaseResult | MaskSource, truth: MaskSource, spacing_mm: Spacing | None) -> Grid:
    for source in (truth, prediction):
        if isinstance(source, CaseResult):
            return source.grid
        if isinstance(source, (str, Path)):
            return read_grid(Path(source))
    if spacing_mm is None:
        raise SettingsError("spacing_mm: expected the voxel size along (Z, Y, X) for two arrays; found None")
    shape = as_index(as_mask(truth, what="truth").shape)
    try:
        z, y, x = (float(size) for size in spacing_mm)
    except (TypeError, ValueError) as error:
        raise WrongTypeError(f"spacing_mm: expected three numbers, along (Z, Y, X); found {spacing_mm!r}") from error
    return Grid(shape=shape, spacing_mm=(z, y, x))


def _mask(source: CaseResult | MaskSource, grid: Grid, tumor_labels: Sequence[str | int], *, what: str) -> Mask:
    if isinstance(source, CaseResult):
        grid.require_same(source.grid, what=what)
        return source.tumor
    if isinstance(source, (str, Path)):
        tumor = TumorLabel.of(Path(source), tuple(map(str, tumor_labels)))
        return tumor.mask(read_label_map(Path(source), grid, tumor, what=what))
    return as_mask(source, what=what)
