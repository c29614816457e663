"""nnU-Net's sliding window over stochastic passes: moments of probabilities instead of logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian

from nnunet_cascade.uncertainty.passes import StochasticPasses, passes_of, probabilities
from nnunet_cascade.uncertainty.sampling import Moments, stochastic


class MonteCarloPredictor(nnUNetPredictor):
    """Predict the first two moments of the probabilities over Monte-Carlo dropout.

    Where nnU-Net's predictor gives logits (C, Z, Y, X), this one gives (2C, Z, Y, X)
    in float32: the mean of each channel's probability, then the mean of its square.
    Windows are blended with nnU-Net's Gaussian, folds are pooled as further samples,
    and with mirroring on, the samples are shared out among the mirrored images, so
    that mirroring enters the variance. The result must never reach nnU-Net's
    exporter, which expects logits.

    Args:
        samples: T, stochastic passes of each window and fold.
        device: Where to predict.
        step_size: Of the sliding window, as a share of the patch.
        mirroring: Whether to share the samples out among mirrored images.

    Source:
        docs/design.md, "Monte-Carlo dropout in the sliding window".
    """

    # nnU-Net fills these in when it loads a model and declares them None until then.
    network: Any
    label_manager: Any
    configuration_manager: Any

    def __init__(self, *, samples: int, device: torch.device, step_size: float = 0.5, mirroring: bool = False) -> None:
        super().__init__(
            tile_step_size=step_size,
            use_mirroring=mirroring,
            perform_everything_on_device=device.type == "cuda",
            device=device,
            allow_tqdm=False,
        )
        self.samples = samples
        self._random_state: torch.Tensor | None = None

    @torch.inference_mode()
    def _internal_predict_sliding_window_return_logits(
        self,
        data: torch.Tensor,
        slicers: Sequence[tuple[slice, ...]],
        do_on_device: bool = True,  # noqa: FBT001, FBT002 - nnU-Net's signature
    ) -> torch.Tensor:
        """Blend the moments of all windows; called again from the start after a lack of memory on CUDA."""
        if do_on_device:
            self._random_state = _random_state(self.device)
        elif self._random_state is not None:
            _restore(self._random_state, self.device)  # the second try draws what the first one drew
            self._random_state = None
        results = self.device if do_on_device else torch.device("cpu")
        patch = tuple(int(size) for size in self.configuration_manager.patch_size)
        weights: torch.Tensor = compute_gaussian(
            patch, sigma_scale=1 / 8, value_scaling_factor=10, device=results
        ).float()
        channels = 2 * self.label_manager.num_segmentation_heads
        blended = torch.zeros((channels, *data.shape[1:]), dtype=torch.float32, device=results)
        total = torch.zeros(data.shape[1:], dtype=torch.float32, device=results)
        passes = passes_of(self.network)
        with stochastic(self.network):
            for window in slicers:
                moments = self._window_moments(data[window][None].to(self.device), passes)
                blended[window] += moments.to(results) * weights
                total[window[1:]] += weights
        return blended / total

    def _window_moments(self, image: torch.Tensor, passes: StochasticPasses) -> torch.Tensor:
        """Give the moments (2C, Z, Y, X) of one window (1, C, Z, Y, X)."""
        moments, flips = Moments(), self._flips(image.ndim)
        for turn, axes in enumerate(flips[: self.samples]):
            features = passes.features(torch.flip(image, axes))
            for _ in range(turn, self.samples, len(flips)):
                (probability,) = probabilities(passes.run(features), regions=self.label_manager.has_regions)
                moments.add(torch.flip(probability, axes))
        return torch.cat((moments.mean()[0], moments.mean_square()[0]))

    def _flips(self, dimensions: int) -> list[tuple[int, ...]]:
        """Give the axes to mirror, sample by sample, the unmirrored image first."""
        axes = self.allowed_mirroring_axes if self.use_mirroring and self.allowed_mirroring_axes else ()
        flips: list[tuple[int, ...]] = [()]
        for axis in axes:
            flips += [(*flip, axis + 2) for flip in flips]
        return [flip for flip in flips if max(flip, default=0) < dimensions]


def _random_state(device: torch.device) -> torch.Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _restore(state: torch.Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
