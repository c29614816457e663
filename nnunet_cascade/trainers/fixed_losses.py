"""Stage 2 with losses that want no stochastic passes in training."""

from __future__ import annotations

from typing import Any

from nnunet_cascade.losses.boundary import BoundaryLoss
from nnunet_cascade.losses.dice_focal import L1DiceFocalLoss
from nnunet_cascade.losses.distance_weighted import DistanceWeightedLoss
from nnunet_cascade.losses.distances import SignedDistanceTransform
from nnunet_cascade.losses.targets import VoxelLoss
from nnunet_cascade.trainers.roi_trainer import ROITrainer


class DistanceTargetsTrainer(ROITrainer):
    """A loss that wants the distance to the true surface, made with the targets in the loader's own processes."""

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> Any:
        """Return the augmentation, then the signed distances to the true surfaces."""
        transforms = super().get_training_transforms(*args, **kwargs)
        background = 0 if self.label_manager.has_regions else 1
        channels = self.label_manager.num_segmentation_heads - background
        spacing = tuple(self.configuration_manager.spacing)
        transforms.transforms.append(SignedDistanceTransform(self.label_scheme, channels, spacing=spacing))
        return transforms


class DistanceTransformLossTrainer(DistanceTargetsTrainer):
    """Dice and the boundary loss."""

    def voxel_loss(self) -> VoxelLoss:
        """Return the loss of one resolution."""
        return BoundaryLoss(
            boundary_weight=self.settings.boundary_weight,
            entropy_without_tumor=self.settings.entropy_without_tumor,
            batch_dice=self.configuration_manager.batch_dice,
            labels=self.label_scheme,
        )


class DistanceWeightedCELossTrainer(DistanceTargetsTrainer):
    """Dice and cross-entropy that counts more near the true surface."""

    def voxel_loss(self) -> VoxelLoss:
        """Return the loss of one resolution."""
        return DistanceWeightedLoss(batch_dice=self.configuration_manager.batch_dice, labels=self.label_scheme)


class L1DiceFocalLossTrainer(ROITrainer):
    """The L1-weighted Dice-focal loss."""

    def voxel_loss(self) -> VoxelLoss:
        """Return the loss of one resolution."""
        return L1DiceFocalLoss(
            gamma=self.settings.focal_gamma,
            batch_dice=self.configuration_manager.batch_dice,
            labels=self.label_scheme,
        )
