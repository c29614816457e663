"""nnU-Net's own prediction, with the spread of its mirrored images and folds on the side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from nnunet_cascade.uncertainty.passes import as_outputs, joint_probability, probabilities
from nnunet_cascade.uncertainty.sampling import Moments
from nnunet_cascade.uncertainty.sliding_window import SlidingWindowPredictor, unpadded, window_weights


class DeterministicUncertaintyPredictor(SlidingWindowPredictor):
    """Predict nnU-Net's logits, bit for bit, and the moments of the tumor's probability.

    Each mirrored image of each fold is a sample. Windows are blended with nnU-Net's
    Gaussian, so that where they overlap they are further samples. Nothing is predicted
    twice.

    Args:
        device: Where to predict.
        step_size: Of the sliding window, as a share of the patch.
        mirroring: Whether to mirror, which is nnU-Net's test-time augmentation.
        entropy: Whether to keep the mean of the samples' entropies too.
    """

    def __init__(
        self, *, device: torch.device, step_size: float = 0.5, mirroring: bool = True, entropy: bool = False
    ) -> None:
        super().__init__(device=device, step_size=step_size, mirroring=mirroring)
        self._entropy = entropy
        self._channels: tuple[int, ...] = ()
        self._places: Iterator[tuple[slice, ...]] = iter(())
        self._weights = self._blended = self._total = torch.empty(0)
        self._members: list[torch.Tensor] = []

    def predict_with_uncertainty(
        self, data: torch.Tensor, *, channels: tuple[int, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict a preprocessed image.

        Args:
            data: (C, Z, Y, X).
            channels: Of the network's output, whose probabilities add up to that of the tumor.

        Returns:
            nnU-Net's logits; and (2, Z, Y, X) or, with entropies, (3, Z, Y, X): the mean of the
            tumor's probability over the samples, of its square, of its binary entropy in nats.
        """
        self._members, self._channels = [], channels
        logits: torch.Tensor = self.predict_logits_from_preprocessed_data(data)
        return logits, torch.stack(self._members).mean(0)

    def predict_sliding_window_return_logits(self, input_image: torch.Tensor) -> torch.Tensor:
        """Predict with one member; what lies next to its logits is cut like them."""
        logits: Any = super().predict_sliding_window_return_logits(input_image)
        self._members.append(unpadded(self._blended / self._total, input_image.shape[1:]).cpu())
        return logits

    def predict_windows(
        self, data: torch.Tensor, slicers: Sequence[tuple[slice, ...]], *, on_device: bool
    ) -> torch.Tensor:
        """Begin with empty sums, also at a second try."""
        results = self.device if on_device else torch.device("cpu")
        shape, moments = tuple(data.shape[1:]), 3 if self._entropy else 2
        self._places = iter([window[1:] for window in slicers])
        self._weights = window_weights(self.configuration_manager.patch_size, results)
        self._blended = torch.zeros((moments, *shape), dtype=torch.float32, device=results)
        self._total = torch.zeros(shape, dtype=torch.float32, device=results)
        return super().predict_windows(data, slicers, on_device=on_device)

    @torch.inference_mode()
    def _internal_maybe_mirror_and_predict(self, x: torch.Tensor) -> torch.Tensor:
        """Predict a window as nnU-Net does, in its order of mirrored images, and take note of each."""
        moments, flips = Moments(with_entropy=self._entropy), sorted(self.flips(), key=len)
        (prediction,) = as_outputs(self.network(x))
        self._note(prediction, moments)
        for axes in flips[1:]:
            mirrored = torch.flip(self.network(torch.flip(x, axes)), axes)
            self._note(mirrored, moments)
            prediction += mirrored
        if len(flips) > 1:
            prediction /= len(flips)
        place = next(self._places)
        means = torch.stack(moments.means()).to(self._blended.device)
        self._blended[(slice(None), *place)] += means * self._weights
        self._total[place] += self._weights
        return prediction

    def _note(self, logits: torch.Tensor, moments: Moments) -> None:
        (probability,) = probabilities([logits], regions=self.label_manager.has_regions)
        moments.add(joint_probability(probability[0], self._channels))
