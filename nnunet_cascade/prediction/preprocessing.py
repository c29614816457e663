"""nnU-Net's preprocessing of one image, in less time and memory.

nnU-Net fills the holes of the whole image only to find a bounding box that filling does not change, resamples a
segmentation that there is none of, and carries every channel about in double precision. Its spline is linear and
does one axis after the other, so that a matrix per axis gives the same, slice by slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from nnunetv2.preprocessing.normalization.default_normalization_schemes import CTNormalization, NoNormalization
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling.default_resampling import (
    compute_new_shape,
    determine_do_sep_z_and_axis,
    resample_data_or_seg_to_shape,
)
from numpy.typing import NDArray
from skimage.transform import resize

from nnunet_cascade.geometry import Box, Index, Spacing, Stored, as_index

_MASKLESS = {scheme.__name__: scheme for scheme in (CTNormalization, NoNormalization)}
_SPLINES = frozenset({"is_seg", "order", "order_z", "force_separate_z", "separate_z_anisotropy_threshold"})


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image as a network takes it, and where it came from.

    Attributes:
        data: (C, Z, Y, X), float32, in the network's order of axes and at its spacing.
        whole: Shape of the image in that order of axes.
        box: The part of it that `data` covers; nnU-Net cuts away what is 0 all around.
    """

    data: NDArray[np.float32]
    whole: Index
    box: Box


def preprocess(channels: Stored, spacing_mm: Spacing, predictor: Any) -> Prepared:
    """Preprocess an image as nnU-Net's preprocessor of a model does.

    Args:
        channels: (C, Z, Y, X). Left unchanged.
        spacing_mm: Voxel size along (Z, Y, X).
        predictor: nnU-Net's, with a model loaded.

    Returns:
        The same as `run_case_npy` of the model's own preprocessor, which does the
        work itself where it is not nnU-Net's default, or where the normalization asks for the
        mask of what is not 0. Where all axes are resampled by one spline the last bit may
        differ, for its sums are taken in another order; else all bits are the same.
    """
    box = _nonzero_box(channels, predictor.plans_manager.transpose_forward)
    if box is None or not _is_known(predictor.configuration_manager):
        return _by_nnunet(channels, spacing_mm, predictor)
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    forward = plans.transpose_forward
    turned = channels.transpose((0, *(axis + 1 for axis in forward)))
    spacing = [spacing_mm[axis] for axis in forward]
    shape = compute_new_shape(box.shape, spacing, configuration.spacing)
    properties = plans.foreground_intensity_properties_per_channel
    data = np.empty((len(turned), *shape), dtype=np.float32)
    for number, channel in enumerate(turned):
        scheme: Any = _MASKLESS[configuration.normalization_schemes[number]](
            use_mask_for_norm=configuration.use_mask_for_norm[number], intensityproperties=properties[str(number)]
        )
        data[number] = _resampled(channel[box.slices], scheme, as_index(shape), spacing, configuration)
    return Prepared(data, as_index(turned.shape[1:]), box)


def _resampled(
    image: Stored, scheme: Any, shape: Index, spacing: list[float], configuration: Any
) -> NDArray[np.float32]:
    """Normalize one channel (Z, Y, X) and resample it as the plans say."""
    function: Any = configuration.resampling_fn_data
    if image.shape != shape and _is_one_spline(function, spacing, configuration.spacing):
        return _splined(image, scheme, shape, function.keywords.get("order", 3))
    normalized = scheme.run(image.astype(np.float32, order="C"), None)
    if image.shape == shape:
        return normalized
    return function(normalized[None], np.array(shape), spacing, configuration.spacing)[0]


def _splined(image: Stored, scheme: Any, shape: Index, order: int) -> NDArray[np.float32]:
    """Normalize and resample by a spline, slice by slice, in double precision, within the range of what comes in."""
    depth, rows, columns = (_spline(old, new, order) for old, new in zip(image.shape, shape, strict=True))
    slices = np.empty((len(image), *shape[1:]))
    low, high = np.inf, -np.inf
    for place, part in enumerate(image):
        normalized: NDArray[np.float32] = scheme.run(part.astype(np.float32, order="C"), None)
        low, high = min(low, float(normalized.min())), max(high, float(normalized.max()))
        slices[place] = rows @ normalized.astype(np.float64) @ columns.T
    found = depth @ slices.reshape(len(image), -1)
    return np.clip(found, low, high, out=found).reshape(shape).astype(np.float32)


def _spline(old: int, new: int, order: int) -> NDArray[np.float64]:
    """Return what scikit-image makes of an axis, as a matrix (new, old): a column for each unit vector."""
    units = (resize(unit, (new,), order, mode="edge", anti_aliasing=False, clip=False) for unit in np.eye(old))
    return np.stack([np.asarray(unit) for unit in units], axis=1)


def _is_one_spline(function: Any, spacing: list[float], target: list[float]) -> bool:
    """Tell whether nnU-Net would resample all three axes at once, and by its default function."""
    if not isinstance(function, partial) or function.func is not resample_data_or_seg_to_shape:
        return False
    known = function.keywords
    asked = {name: known[name] for name in ("force_separate_z", "separate_z_anisotropy_threshold") if name in known}
    separate, _ = determine_do_sep_z_and_axis(
        asked.pop("force_separate_z", False), current_spacing=spacing, new_spacing=target, **asked
    )
    return not separate and not known.get("is_seg", False) and known.keys() <= _SPLINES


def _is_known(configuration: Any) -> bool:
    """Tell whether the preprocessor is nnU-Net's default and no channel's normalization looks at a mask."""
    plain = configuration.preprocessor_class is DefaultPreprocessor
    return plain and all(scheme in _MASKLESS for scheme in configuration.normalization_schemes)


def _nonzero_box(channels: Stored, forward: list[int]) -> Box | None:
    """Return the smallest box, in the network's order of axes, of what is not 0; None where all is."""
    starts: list[int] = []
    stops: list[int] = []
    for axis in (place + 1 for place in forward):
        along = np.moveaxis(channels, axis, 0)
        first = next((place for place, part in enumerate(along) if part.any()), None)
        if first is None:
            return None
        last = next(place for place in reversed(range(len(along))) if along[place].any())
        starts.append(first)
        stops.append(last + 1)
    return Box(as_index(starts), as_index(stops))


def _by_nnunet(channels: Stored, spacing_mm: Spacing, predictor: Any) -> Prepared:
    configuration = predictor.configuration_manager
    data, _, properties = configuration.preprocessor_class(verbose=False).run_case_npy(
        channels, None, {"spacing": list(spacing_mm)}, predictor.plans_manager, configuration, predictor.dataset_json
    )
    bounds = properties["bbox_used_for_cropping"]
    box = Box(as_index(low for low, _ in bounds), as_index(high for _, high in bounds))
    return Prepared(data, as_index(properties["shape_before_cropping"]), box)
