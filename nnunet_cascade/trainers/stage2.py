"""Stage 2: every loss with every backbone, each a name that nnU-Net finds.

A backbone and a loss stand in one place each; here they are only joined. All
networks have dropout, so that each gives a map of uncertainty.
"""

from __future__ import annotations

from nnunet_cascade.trainers.backbones import UNETR, DropoutUNet, SwinUNETR
from nnunet_cascade.trainers.fixed_losses import (
    DistanceTransformLossTrainer,
    DistanceWeightedCELossTrainer,
    L1DiceFocalLossTrainer,
)
from nnunet_cascade.trainers.roi_trainer import ROITrainer
from nnunet_cascade.trainers.uncertainty_roi import AdaptiveLossTrainer, UncertaintyLovaszLossTrainer


class _StochasticSwinUNETR(SwinUNETR):
    has_dropout = True


class _StochasticUNETR(UNETR):
    has_dropout = True


class UncertaintyROITrainer(DropoutUNet, AdaptiveLossTrainer):
    """The plan's U-Net with the adaptive loss."""


class UncertaintyROISwinUNETRTrainer(_StochasticSwinUNETR, AdaptiveLossTrainer):
    """Swin UNETR with the adaptive loss."""


class UncertaintyROIUNETRTrainer(_StochasticUNETR, AdaptiveLossTrainer):
    """UNETR with the adaptive loss."""


class DiceCEROITrainer(DropoutUNet, ROITrainer):
    """The plan's U-Net with nnU-Net's Dice and cross-entropy."""


class DiceCEROISwinUNETRTrainer(_StochasticSwinUNETR, ROITrainer):
    """Swin UNETR with nnU-Net's Dice and cross-entropy."""


class DiceCEROIUNETRTrainer(_StochasticUNETR, ROITrainer):
    """UNETR with nnU-Net's Dice and cross-entropy."""


class DistanceTransformROITrainer(DropoutUNet, DistanceTransformLossTrainer):
    """The plan's U-Net with Dice and the boundary loss."""


class DistanceTransformROISwinUNETRTrainer(_StochasticSwinUNETR, DistanceTransformLossTrainer):
    """Swin UNETR with Dice and the boundary loss."""


class DistanceTransformROIUNETRTrainer(_StochasticUNETR, DistanceTransformLossTrainer):
    """UNETR with Dice and the boundary loss."""


class DistanceWeightedCEROITrainer(DropoutUNet, DistanceWeightedCELossTrainer):
    """The plan's U-Net with Dice and cross-entropy weighted by the distance to the true surface."""


class DistanceWeightedCEROISwinUNETRTrainer(_StochasticSwinUNETR, DistanceWeightedCELossTrainer):
    """Swin UNETR with Dice and cross-entropy weighted by the distance to the true surface."""


class DistanceWeightedCEROIUNETRTrainer(_StochasticUNETR, DistanceWeightedCELossTrainer):
    """UNETR with Dice and cross-entropy weighted by the distance to the true surface."""


class UncertaintyLovaszROITrainer(DropoutUNet, UncertaintyLovaszLossTrainer):
    """The plan's U-Net with the uncertainty-weighted Lovász loss."""


class UncertaintyLovaszROISwinUNETRTrainer(_StochasticSwinUNETR, UncertaintyLovaszLossTrainer):
    """Swin UNETR with the uncertainty-weighted Lovász loss."""


class UncertaintyLovaszROIUNETRTrainer(_StochasticUNETR, UncertaintyLovaszLossTrainer):
    """UNETR with the uncertainty-weighted Lovász loss."""


class L1DiceFocalROITrainer(DropoutUNet, L1DiceFocalLossTrainer):
    """The plan's U-Net with the L1-weighted Dice-focal loss."""


class L1DiceFocalROISwinUNETRTrainer(_StochasticSwinUNETR, L1DiceFocalLossTrainer):
    """Swin UNETR with the L1-weighted Dice-focal loss."""


class L1DiceFocalROIUNETRTrainer(_StochasticUNETR, L1DiceFocalLossTrainer):
    """UNETR with the L1-weighted Dice-focal loss."""
