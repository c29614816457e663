"""Training boxes drawn from stored crops: patients equally often, boxes jittered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from numpy.typing import NDArray

from nnunet_cascade.errors import DatasetError
from nnunet_cascade.geometry import Box, Index, as_index
from nnunet_cascade.trainers.roi_manifest import StoredRoi

_Case = tuple[Any, Any, None, dict[str, Any]]


class RoiDataset(nnUNetDatasetBlosc2):
    """Preprocessed ROI crops, offered to nnU-Net's loader by patient.

    Asked for a patient, it draws one of the patient's crops, draws a box in it,
    and gives the part of the crop that stage 2 would see for that box: the box,
    grown with real context to what the loader cuts, as far as the crop reaches.
    Class locations, about which the loader centres patches, are moved just so far
    that a patch stays inside that part. Draws come from NumPy's global generator,
    which nnU-Net's loaders use and we seed.

    Args:
        folder: Of one preprocessed configuration.
        cases: Names of the crops to draw from.
        manifest: What each of them is.
        window_size: What the loader cuts, along the preprocessed axes: the patch, or
            the larger patch that rotation and scaling need in training.
        transpose: nnU-Net's `transpose_forward` of the plans.
        jitter: True in training; False gives every box where it was found.

    Raises:
        DatasetError: A crop is missing in the manifest.
    """

    def __init__(  # noqa: PLR0913 - nnU-Net's dataset and the five things that make it ours
        self,
        folder: Path,
        cases: Sequence[str],
        *,
        manifest: Mapping[str, StoredRoi],
        window_size: Index,
        transpose: Sequence[int],
        jitter: bool,
    ) -> None:
        unknown = sorted(set(cases) - set(manifest))
        if unknown:
            raise DatasetError(
                f"{len(unknown)} crops are not in the ROI manifest, such as {unknown[0]}; make the set again"
            )
        by_patient: defaultdict[str, list[str]] = defaultdict(list)
        for case in sorted(cases):
            by_patient[manifest[case].patient].append(case)
        super().__init__(str(folder), sorted(by_patient))
        self.cases_of = dict(by_patient)
        self.manifest = dict(manifest)
        self.window_size = window_size
        self.transpose = tuple(transpose)
        self.jitter = jitter

    def load_case(self, identifier: str) -> _Case:  # pyright: ignore[reportIncompatibleMethodOverride] - blosc2's types
        """Draw a crop of a patient and a box in it.

        Returns:
            Image (C, Z, Y, X) and labels (1, Z, Y, X) of the box, None for a
            previous stage, and the properties with class locations in the box.
        """
        cases = self.cases_of[identifier]
        case = cases[np.random.randint(len(cases))]  # noqa: NPY002 - see the class
        image, labels, _, properties = cast(_Case, super().load_case(case))
        box = self._draw(self.manifest[case], properties, as_index(image.shape[1:]))
        window = (slice(None), *box.slices)
        found = properties["class_locations"]
        inside = {label: _centres(np.asarray(places), box, self.window_size) for label, places in found.items()}
        return image[window], labels[window], None, {**properties, "class_locations": inside}

    def shortest_edges(self, most: int = 50) -> Index:
        """Return the shortest edge along each axis, voxels, among the first crops, at most that many."""
        cases = [case for cases in self.cases_of.values() for case in cases][:most]
        shapes = [cast(_Case, super(RoiDataset, self).load_case(case))[0].shape[1:] for case in cases]
        return as_index(np.min(shapes, axis=0))

    def _draw(self, roi: StoredRoi, properties: Mapping[str, Any], shape: Index) -> Box:
        box = jittered(roi.box, roi.jitter_voxels) if self.jitter else roi.box
        preprocessed = to_preprocessed(box, properties, shape, transpose=self.transpose)
        return fitted(preprocessed.at_least(self.window_size), shape)


def jittered(box: Box, jitter_voxels: Index) -> Box:
    """Move each face of a box by a uniform draw of up to `jitter_voxels`, keeping at least one voxel."""
    reach = np.array(jitter_voxels)
    moves = np.random.randint(-reach, reach + 1, size=(2, 3))  # noqa: NPY002 - what nnU-Net's loaders draw from
    start = np.array(box.start) + moves[0]
    stop = np.maximum(np.array(box.stop) + moves[1], start + 1)
    return Box(as_index(start), as_index(stop))


def to_preprocessed(box: Box, properties: Mapping[str, Any], shape: Index, *, transpose: Sequence[int]) -> Box:
    """Carry a box of a stored crop into the array that nnU-Net's preprocessing made of the crop.

    Args:
        box: In voxels of the crop, (Z, Y, X).
        properties: nnU-Net's, with what it cropped away.
        shape: Of the preprocessed array.
        transpose: nnU-Net's `transpose_forward`.

    Returns:
        The smallest box of preprocessed voxels that holds it, at least one voxel,
        inside the array.
    """
    kept = np.array(properties["bbox_used_for_cropping"])
    before = np.array(properties["shape_after_cropping_and_before_resampling"])
    scale = np.array(shape) / before
    order = list(transpose)
    start = np.floor((np.array(box.start)[order] - kept[:, 0]) * scale + 1e-6).astype(int)
    stop = np.ceil((np.array(box.stop)[order] - kept[:, 0]) * scale - 1e-6).astype(int)
    start = np.clip(start, 0, np.array(shape) - 1)
    stop = np.clip(stop, start + 1, shape)
    return Box(as_index(start), as_index(stop))


def fitted(box: Box, shape: Index) -> Box:
    """Shift a box into an array of `shape`, cutting it only where it is the larger of the two."""
    start = [max(0, min(low, size - (high - low))) for low, high, size in zip(box.start, box.stop, shape, strict=True)]
    stop = [min(size, at + high - low) for at, low, high, size in zip(start, box.start, box.stop, shape, strict=True)]
    return Box(as_index(np.array(start)), as_index(np.array(stop)))


def _centres(places: NDArray[np.integer], box: Box, window_size: Index) -> NDArray[np.integer]:
    """Return patch centres for the class locations (N, 4) inside a box, counted from its start.

    nnU-Net's loader would let a patch about a location near the end of the box reach
    beyond it. The first column is the channel.
    """
    if places.size == 0:
        return places
    within = ((places[:, 1:] >= box.start) & (places[:, 1:] < box.stop)).all(1)
    shifted = places[within].copy()
    window, shape = np.array(window_size), np.array(box.shape)
    first = np.minimum(window // 2, shape // 2)
    last = np.maximum(shape - (window - window // 2), first)
    shifted[:, 1:] = np.clip(shifted[:, 1:] - np.array(box.start), first, last)
    return shifted
