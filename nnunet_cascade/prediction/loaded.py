"""Both models of a cascade in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnunet_cascade.prediction.spec import CascadeSpec

if TYPE_CHECKING:  # reading settings and checksums of a bundle needs no PyTorch
    from nnunet_cascade.prediction.stage_model import StageModel


@dataclass(frozen=True, slots=True)
class LoadedCascade:
    """Both models in memory and the settings to use them with.

    Attributes:
        spec: The settings.
        stage1: The coarse model, or None where its predictions are always given.
        stage2: The ROI model.
    """

    spec: CascadeSpec
    stage1: StageModel | None
    stage2: StageModel
