"""What may be sampled and what is made of the samples, in words that settings and records share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nnunet_cascade.uncertainty_measures import Measure

Source = Literal["mc_dropout", "tta", "ensemble"]
"""Monte-Carlo dropout, mirrored images, several folds or checkpoints."""
CoarseSource = Literal["tta", "ensemble"]
"""The same without dropout: stage 1 is deterministic (P1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingPlan:
    """What to sample of a model.

    Attributes:
        sources: What must differ from sample to sample. Folds and mirroring that a
            stage predicts with anyway differ as well.
        mc_samples: T, Monte-Carlo passes of each member; 0 without dropout, which gives one
            pass of each mirrored image.
        measure: What to make of the samples.
        deterministic: Whether the prediction stays nnU-Net's own; the samples only measure its spread.
        batch_size: How many samples of a window run together.
    """

    sources: tuple[Source, ...]
    mc_samples: int = 0
    measure: Measure = "variance"
    deterministic: bool = False
    batch_size: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSummary:
    """What was sampled in fact.

    Attributes:
        sources: What differed from sample to sample.
        members: Folds times checkpoints.
        mirrors: Mirrored images, the unmirrored one included.
        mc_samples: T, Monte-Carlo passes of each member, shared out among its mirrored images; 0 without dropout.
        measure: What was made of the samples.

    Example:
        >>> facts = {"sources": ("mc_dropout",), "measure": "variance", "mirrors": 1}
        >>> nnc.SamplingSummary(members=5, mc_samples=20, **facts).total_samples
        100
    """

    sources: tuple[Source, ...]
    members: int
    mirrors: int
    mc_samples: int
    measure: Measure

    @property
    def samples_per_member(self) -> int:
        """Samples that each member gives."""
        return self.mc_samples or self.mirrors

    @property
    def total_samples(self) -> int:
        """Samples of all members together."""
        return self.members * self.samples_per_member
