"""nnU-Net's preprocessing of one image, bit for bit, in less time and memory.

nnU-Net fills the holes of the whole image only to find a bounding box that filling does not change, resamples a
segmentation that there is none of, and carries every channel about in double precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, cast

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

from nnunet_cascade.geometry import Box, Index, Spacing, as_index

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


def preprocess(channels: NDArray[np.float32], spacing_mm: Spacing, predictor: Any) -> Prepared:
    """Preprocess an image as nnU-Net's preprocessor of a model does.

    Args:
        channels: (C, Z, Y, X). Left unchanged.
        spacing_mm: Voxel size along (Z, Y, X).
        predictor: nnU-Net's, with a model loaded.

    Returns:
        The same bits as `run_case_npy` of the model's own preprocessor, which does the
        work itself where it is not nnU-Net's default, or where the normalization asks for the
        mask of what is not 0.
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
        normalized = channel[box.slices].astype(np.float32, order="C")
        scheme = _MASKLESS[configuration.normalization_schemes[number]]
        normalized = scheme(
            use_mask_for_norm=configuration.use_mask_for_norm[number], intensityproperties=properties[str(number)]
        ).run(normalized, cast(Any, None))
        data[number] = _resampled(normalized, shape, spacing, configuration)
    return Prepared(data, as_index(turned.shape[1:]), box)


def _resampled(
    image: NDArray[np.float32], shape: NDArray[np.int64], spacing: list[float], configuration: Any
) -> NDArray[np.float32]:
    """Resample one channel as the plans say.

    Scikit-image computes in double precision whatever it is given: the same sums, without two copies in it.
    """
    function: Any = configuration.resampling_fn_data
    if tuple(image.shape) == tuple(shape):
        return image
    if not _is_one_spline(function, spacing, configuration.spacing):
        return function(image[None], shape, spacing, configuration.spacing)[0]
    order: int = function.keywords.get("order", 3)
    return np.asarray(resize(image, tuple(shape), order, mode="edge", anti_aliasing=False), dtype=np.float32)


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


def _nonzero_box(channels: NDArray[np.float32], forward: list[int]) -> Box | None:
    """Give the smallest box, in the network's order of axes, of what is not 0; None where all is."""
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


def _by_nnunet(channels: NDArray[np.float32], spacing_mm: Spacing, predictor: Any) -> Prepared:
    configuration = predictor.configuration_manager
    data, _, properties = configuration.preprocessor_class(verbose=False).run_case_npy(
        channels, None, {"spacing": list(spacing_mm)}, predictor.plans_manager, configuration, predictor.dataset_json
    )
    bounds = properties["bbox_used_for_cropping"]
    box = Box(as_index(low for low, _ in bounds), as_index(high for _, high in bounds))
    return Prepared(data, as_index(properties["shape_before_cropping"]), box)
