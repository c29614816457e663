"""nnU-Net's predictor as all predictors of this package are made."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian

from nnunet_cascade.errors import DeviceError, one_line
from nnunet_cascade.uncertainty.passes import probabilities

_log = logging.getLogger(__name__)


class SlidingWindowPredictor(nnUNetPredictor):
    """nnU-Net's sliding window without its progress bars; on a GPU everything stays there.

    Where the GPU has no memory for that, nnU-Net begins again with the results in the
    computer's own memory; `moved_results` then says so.

    Args:
        device: Where to predict.
        step_size: Of the sliding window, as a share of the patch.
        mirroring: Whether to mirror, which is nnU-Net's test-time augmentation.
    """

    # nnU-Net fills these in when it loads a model and declares them None until then.
    network: Any
    label_manager: Any
    configuration_manager: Any

    def __init__(self, *, device: torch.device, step_size: float, mirroring: bool) -> None:
        super().__init__(
            tile_step_size=step_size,
            use_mirroring=mirroring,
            perform_everything_on_device=device.type == "cuda",
            device=device,
            allow_tqdm=False,
        )
        self.half_precision = False
        """Whether networks compute in bfloat16; for processors, which nnU-Net leaves at float32."""
        self.averages_probabilities = False
        """Whether members are averaged as probabilities, which the result then holds, and not as logits."""
        self.moved_results = False
        """Whether results did not fit on the device since this was last set to False."""

    def flips(self) -> list[tuple[int, ...]]:
        """Return the axes of a window (1, C, Z, Y, X) to mirror, image by image, the unmirrored one first.

        Sorted by their number of axes they are in nnU-Net's order.
        """
        axes = self.allowed_mirroring_axes if self.use_mirroring and self.allowed_mirroring_axes else ()
        flips: list[tuple[int, ...]] = [()]
        for axis in axes:
            flips += [(*flip, axis + 2) for flip in flips]
        return flips

    def predict_sliding_window_return_logits(self, input_image: torch.Tensor) -> torch.Tensor:
        """Predict with one member.

        Raises:
            DeviceError: The device lacks memory also with the results elsewhere.
        """
        precision: Any = torch.autocast("cpu", torch.bfloat16) if self.half_precision else nullcontext()
        try:
            with precision:
                logits: Any = super().predict_sliding_window_return_logits(input_image)
        except torch.cuda.OutOfMemoryError as error:
            reason = one_line(error, longest=200)
            raise DeviceError(
                f"{self.device} has too little memory for one window of the network ({reason}); "
                "end other programs on it, or use -device cpu"
            ) from error
        if not self.averages_probabilities:
            return logits
        (found,) = probabilities([logits[None]], regions=self.label_manager.has_regions)
        return found[0]

    @torch.inference_mode()
    def _internal_predict_sliding_window_return_logits(
        self,
        data: torch.Tensor,
        slicers: Sequence[tuple[slice, ...]],
        do_on_device: bool = True,  # noqa: FBT001, FBT002 - nnU-Net's signature
    ) -> torch.Tensor:
        """Predict all windows; nnU-Net calls it again from the start after a lack of memory on the device."""
        if self.perform_everything_on_device and not do_on_device:
            self.moved_results = True
            _log.warning("%s lacks memory for the results; they go to the computer's own, which is slower", self.device)
        try:
            return self.predict_windows(data, slicers, on_device=do_on_device)
        except RuntimeError as error:
            # What the frames of the first try hold would still lie on the device during the second one.
            traceback.clear_frames(error.__traceback__)
            raise

    def predict_windows(
        self, data: torch.Tensor, slicers: Sequence[tuple[slice, ...]], *, on_device: bool
    ) -> torch.Tensor:
        """Predict all windows of an image (C, Z, Y, X); results lie on the device or in the computer's own memory."""
        return super()._internal_predict_sliding_window_return_logits(data, slicers, on_device)


def window_weights(patch: Sequence[int], device: torch.device) -> torch.Tensor:
    """Return nnU-Net's Gaussian weights of a window, in float32."""
    size = tuple(int(length) for length in patch)
    weights: torch.Tensor = compute_gaussian(size, sigma_scale=1 / 8, value_scaling_factor=10, device=device)
    return weights.float()


def unpadded(padded: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Take back what nnU-Net pads images with that are smaller than the patch, the odd voxel at the end.

    Args:
        padded: (…, Z, Y, X).
        shape: Of the image, (Z, Y, X).
    """
    starts = [(there - here) // 2 for there, here in zip(padded.shape[-len(shape) :], shape, strict=True)]
    inside = (slice(start, start + here) for start, here in zip(starts, shape, strict=True))
    return padded[(..., *inside)]
