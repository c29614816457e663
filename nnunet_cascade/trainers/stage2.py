"""Stage 2: every loss with every backbone, each a name that nnU-Net finds.

A backbone and a loss stand in one place each; here they are only joined. All
networks have dropout, so that each gives a map of uncertainty.
"""

from __future__ import annotations

from nnunet_cascade.trainers.backbones import DropoutUNet, SwinUNETRTrainer, UNETRTrainer
from nnunet_cascade.trainers.fixed_losses import (
    DistanceTransformLossTrainer,
    DistanceWeightedCELossTrainer,
    L1DiceFocalLossTrainer,
)
from nnunet_cascade.trainers.roi_trainer import ROITrainer
from nnunet_cascade.trainers.uncertainty_roi import AdaptiveLossTrainer, UncertaintyLovaszLossTrainer


class UncertaintyROITrainer(DropoutUNet, AdaptiveLossTrainer):
    """The plan's U-Net with the adaptive loss."""


class UncertaintyROISwinUNETRTrainer(SwinUNETRTrainer, AdaptiveLossTrainer):
    """Swin UNETR with the adaptive loss."""


class UncertaintyROIUNETRTrainer(UNETRTrainer, AdaptiveLossTrainer):
    """UNETR with the adaptive loss."""


class DiceCEROITrainer(DropoutUNet, ROITrainer):
    """The plan's U-Net with nnU-Net's Dice and cross-entropy."""


class DiceCEROISwinUNETRTrainer(SwinUNETRTrainer, ROITrainer):
    """Swin UNETR with nnU-Net's Dice and cross-entropy."""


class DiceCEROIUNETRTrainer(UNETRTrainer, ROITrainer):
    """UNETR with nnU-Net's Dice and cross-entropy."""


class DistanceTransformROITrainer(DropoutUNet, DistanceTransformLossTrainer):
    """The plan's U-Net with Dice and the boundary loss."""


class DistanceTransformROISwinUNETRTrainer(SwinUNETRTrainer, DistanceTransformLossTrainer):
    """Swin UNETR with Dice and the boundary loss."""


class DistanceTransformROIUNETRTrainer(UNETRTrainer, DistanceTransformLossTrainer):
    """UNETR with Dice and the boundary loss."""


class DistanceWeightedCEROITrainer(DropoutUNet, DistanceWeightedCELossTrainer):
    """The plan's U-Net with Dice and cross-entropy weighted by the distance to the true surface."""


class DistanceWeightedCEROISwinUNETRTrainer(SwinUNETRTrainer, DistanceWeightedCELossTrainer):
    """Swin UNETR with Dice and cross-entropy weighted by the distance to the true surface."""


class DistanceWeightedCEROIUNETRTrainer(UNETRTrainer, DistanceWeightedCELossTrainer):
    """UNETR with Dice and cross-entropy weighted by the distance to the true surface."""


class UncertaintyLovaszROITrainer(DropoutUNet, UncertaintyLovaszLossTrainer):
    """The plan's U-Net with the uncertainty-weighted Lovász loss."""


class UncertaintyLovaszROISwinUNETRTrainer(SwinUNETRTrainer, UncertaintyLovaszLossTrainer):
    """Swin UNETR with the uncertainty-weighted Lovász loss."""


class UncertaintyLovaszROIUNETRTrainer(UNETRTrainer, UncertaintyLovaszLossTrainer):
    """UNETR with the uncertainty-weighted Lovász loss."""


class L1DiceFocalROITrainer(DropoutUNet, L1DiceFocalLossTrainer):
    """The plan's U-Net with the L1-weighted Dice-focal loss."""


class L1DiceFocalROISwinUNETRTrainer(SwinUNETRTrainer, L1DiceFocalLossTrainer):
    """Swin UNETR with the L1-weighted Dice-focal loss."""


class L1DiceFocalROIUNETRTrainer(UNETRTrainer, L1DiceFocalLossTrainer):
    """UNETR with the L1-weighted Dice-focal loss."""
