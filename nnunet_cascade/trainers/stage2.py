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


class _RandomSwinUNETR(SwinUNETR):
    has_dropout = True


class _RandomUNETR(UNETR):
    has_dropout = True


class UncertaintyROITrainer(DropoutUNet, AdaptiveLossTrainer):
    """The plan's U-Net with the adaptive loss."""


class UncertaintyROISwinUNETRTrainer(_RandomSwinUNETR, AdaptiveLossTrainer):
    """Swin UNETR with the adaptive loss."""


class UncertaintyROIUNETRTrainer(_RandomUNETR, AdaptiveLossTrainer):
    """UNETR with the adaptive loss."""


class DiceCEROITrainer(DropoutUNet, ROITrainer):
    """The plan's U-Net with nnU-Net's Dice and cross-entropy."""


class DiceCEROISwinUNETRTrainer(_RandomSwinUNETR, ROITrainer):
    """Swin UNETR with nnU-Net's Dice and cross-entropy."""


class DiceCEROIUNETRTrainer(_RandomUNETR, ROITrainer):
    """UNETR with nnU-Net's Dice and cross-entropy."""


class DistanceTransformROITrainer(DropoutUNet, DistanceTransformLossTrainer):
    """The plan's U-Net with Dice and the boundary loss."""


class DistanceTransformROISwinUNETRTrainer(_RandomSwinUNETR, DistanceTransformLossTrainer):
    """Swin UNETR with Dice and the boundary loss."""


class DistanceTransformROIUNETRTrainer(_RandomUNETR, DistanceTransformLossTrainer):
    """UNETR with Dice and the boundary loss."""


class DistanceWeightedCEROITrainer(DropoutUNet, DistanceWeightedCELossTrainer):
    """The plan's U-Net with Dice and cross-entropy weighted by the distance to the true surface."""


class DistanceWeightedCEROISwinUNETRTrainer(_RandomSwinUNETR, DistanceWeightedCELossTrainer):
    """Swin UNETR with Dice and cross-entropy weighted by the distance to the true surface."""


class DistanceWeightedCEROIUNETRTrainer(_RandomUNETR, DistanceWeightedCELossTrainer):
    """UNETR with Dice and cross-entropy weighted by the distance to the true surface."""


class UncertaintyLovaszROITrainer(DropoutUNet, UncertaintyLovaszLossTrainer):
    """The plan's U-Net with the uncertainty-weighted Lovász loss."""


class UncertaintyLovaszROISwinUNETRTrainer(_RandomSwinUNETR, UncertaintyLovaszLossTrainer):
    """Swin UNETR with the uncertainty-weighted Lovász loss."""


class UncertaintyLovaszROIUNETRTrainer(_RandomUNETR, UncertaintyLovaszLossTrainer):
    """UNETR with the uncertainty-weighted Lovász loss."""


class L1DiceFocalROITrainer(DropoutUNet, L1DiceFocalLossTrainer):
    """The plan's U-Net with the L1-weighted Dice-focal loss."""


class L1DiceFocalROISwinUNETRTrainer(_RandomSwinUNETR, L1DiceFocalLossTrainer):
    """Swin UNETR with the L1-weighted Dice-focal loss."""


class L1DiceFocalROIUNETRTrainer(_RandomUNETR, L1DiceFocalLossTrainer):
    """UNETR with the L1-weighted Dice-focal loss."""
