"""nnU-Net's sliding window over samples: moments of probabilities instead of logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nnunet_cascade.uncertainty.passes import StochasticPasses, passes_of, probabilities
from nnunet_cascade.uncertainty.sample_masks import (
    BlendedSampleMasks,
    Decision,
    PackedSampleMasks,
    SampleMaskAccumulator,
)
from nnunet_cascade.uncertainty.sampling import Moments, evaluating, stochastic
from nnunet_cascade.uncertainty.sliding_window import SlidingWindowPredictor, unpadded, window_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What to keep of samples besides the mean and the mean of squares.

    Attributes:
        entropy: Whether to keep the mean of their binary entropies.
        decision: When a sample calls a voxel tumor; None keeps no votes.
    """

    entropy: bool = False
    decision: Decision | None = None


@dataclass(frozen=True, slots=True)
class Samples:
    """What is kept of the samples of an image.

    Attributes:
        mean: (C, Z, Y, X), float32: mean probability of each channel.
        mean_square: (C, Z, Y, X), mean of its square.
        mean_entropy: (C, Z, Y, X), mean of its binary entropy in nats, where asked for.
        sample_masks: The samples' masks, where asked for.
    """

    mean: torch.Tensor
    mean_square: torch.Tensor
    mean_entropy: torch.Tensor | None
    sample_masks: PackedSampleMasks | None


class MonteCarloPredictor(SlidingWindowPredictor):
    """Predict the moments of the probabilities over dropout, mirrored images and folds.

    Where nnU-Net's predictor gives logits (C, Z, Y, X), this one gives (2C, Z, Y, X)
    in float32: the mean of each channel's probability, then the mean of its square;
    and (3C, Z, Y, X) with the mean of its entropy. Windows are blended with nnU-Net's
    Gaussian, so that where they overlap they are further samples. Folds are pooled as
    further samples. With mirroring on, the samples are shared out among the mirrored
    images, so that mirroring enters the variance. The result must never reach
    nnU-Net's exporter, which expects logits.

    Args:
        mc_samples: T, stochastic passes of each window and fold; 0 for passes without
            dropout, one of each mirrored image.
        device: Where to predict.
        step_size: Of the sliding window, as a share of the patch.
        mirroring: Whether to share the samples out among mirrored images.
        extras: What else to keep of the samples.
        batch_size: How many samples of a window run together. One by one they draw the
            masks they always drew; several together draw others.

    Source:
        docs/decisions/0012-sliding-window.md.
    """

    def __init__(  # noqa: PLR0913 - nnU-Net's own choices, and what is sampled
        self,
        *,
        mc_samples: int,
        device: torch.device,
        step_size: float = 0.5,
        mirroring: bool = False,
        extras: Extras | None = None,
        batch_size: int = 1,
    ) -> None:
        super().__init__(device=device, step_size=step_size, mirroring=mirroring)
        self.mc_samples, self.batch_size = mc_samples, batch_size
        self.extras = extras or Extras()
        self._random_state: torch.Tensor | None = None
        self._sample_masks: list[torch.Tensor] = []
        self._windows = 0

    def predict_samples(self, data: torch.Tensor) -> Samples:
        """Predict a preprocessed image (C, Z, Y, X) and give what is kept of the samples by name."""
        self._sample_masks = []
        moments: torch.Tensor = self.predict_logits_from_preprocessed_data(data)
        mean, square, *entropy = moments.split(self.label_manager.num_segmentation_heads)
        sample_masks = (
            PackedSampleMasks(torch.stack(self._sample_masks), self.samples_per_member, self._windows)
            if self._sample_masks
            else None
        )
        return Samples(mean, square, entropy[0] if entropy else None, sample_masks)

    @property
    def samples_per_member(self) -> int:
        """Number of samples of each window and fold."""
        return self.mc_samples or len(self.flips())

    def predict_sliding_window_return_logits(self, input_image: torch.Tensor) -> torch.Tensor:
        """Predict with one member; what lies next to its moments is cut like them."""
        moments: Any = super().predict_sliding_window_return_logits(input_image)
        if self.extras.decision is not None:
            self._sample_masks[-1] = unpadded(self._sample_masks[-1], input_image.shape[1:]).cpu()
        return moments

    def predict_windows(
        self, data: torch.Tensor, slicers: Sequence[tuple[slice, ...]], *, on_device: bool
    ) -> torch.Tensor:
        """Blend the moments of all windows; a second try begins from the start."""
        if on_device:
            self._random_state = _random_state(self.device)
        elif self._random_state is not None:
            _restore(self._random_state, self.device)  # the second try draws what the first one drew
            self._random_state = None
        results = self.device if on_device else torch.device("cpu")
        weights = window_weights(self.configuration_manager.patch_size, results)
        channels = (3 if self.extras.entropy else 2) * self.label_manager.num_segmentation_heads
        blended = torch.zeros((channels, *data.shape[1:]), dtype=torch.float32, device=results)
        total = torch.zeros(data.shape[1:], dtype=torch.float32, device=results)
        decision = self.extras.decision
        field = BlendedSampleMasks(self.samples_per_member, data.shape[1:], results) if decision else None
        passes = passes_of(self.network) if self.mc_samples else StochasticPasses(self.network)
        with (stochastic if self.mc_samples else evaluating)(self.network):
            for window in slicers:
                accumulator = SampleMaskAccumulator(decision) if decision else None
                moments = self._window_moments(data[window][None].to(self.device), passes, accumulator)
                blended[window] += moments.to(results) * weights
                total[window[1:]] += weights
                if field is not None and accumulator is not None:
                    field.take(accumulator.planes(), window[1:], weights)
        if field is not None:
            self._sample_masks.append(field.planes)
        self._windows = len(slicers)
        blended /= total
        return blended

    def _window_moments(
        self, image: torch.Tensor, passes: StochasticPasses, accumulator: SampleMaskAccumulator | None = None
    ) -> torch.Tensor:
        """Return the moments (2C or 3C, Z, Y, X) of one window (1, C, Z, Y, X); the ballot takes in the samples too."""
        moments, flips = Moments(with_entropy=self.extras.entropy), self.flips()
        for turn, axes in enumerate(flips[: self.samples_per_member]):
            features = passes.features(torch.flip(image, axes))
            for sample in self._samples(passes, features, len(range(turn, self.samples_per_member, len(flips)))):
                mirrored_back = torch.flip(sample, axes)
                moments.add(mirrored_back)
                if accumulator is not None:
                    accumulator.add(mirrored_back)
        return torch.cat([moment[0] for moment in moments.means()])

    def _samples(self, passes: StochasticPasses, features: Any, count: int) -> Iterator[torch.Tensor]:
        """Run that many passes, several together where the batch size says so; gives each sample (1, C, Z, Y, X)."""
        for start in range(0, count, self.batch_size):
            together = min(self.batch_size, count - start)
            outputs = passes.run(features if together == 1 else passes.repeated(features, together))
            (found,) = probabilities(outputs, regions=self.label_manager.has_regions)
            yield from found.split(1)


def _random_state(device: torch.device) -> torch.Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _restore(state: torch.Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
