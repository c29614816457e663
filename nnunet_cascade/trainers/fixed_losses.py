"""Stage 2 with losses that want no stochastic passes in training."""

from __future__ import annotations

from typing import Any

from nnunet_cascade.losses.boundary import BoundaryLoss
from nnunet_cascade.losses.dice_focal import L1DiceFocalLoss
from nnunet_cascade.losses.distances import SignedDistanceTransform
from nnunet_cascade.losses.targets import LabelScheme, VoxelLoss
from nnunet_cascade.trainers.cascade_trainer import CascadeTrainer
from nnunet_cascade.trainers.roi_trainer import ROITrainer


class DistanceTransformLossTrainer(ROITrainer):
    """Dice and the boundary loss; distances are made with the targets, in the loader's own processes."""

    def voxel_loss(self) -> VoxelLoss:
        """Give the loss of one resolution."""
        return BoundaryLoss(
            boundary_weight=self.settings.boundary_weight,
            batch_dice=self.configuration_manager.batch_dice,
            labels=self.label_scheme,
        )

    @staticmethod
    def get_training_transforms(*args: Any, **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Give the augmentation, then the signed distances to the true surfaces."""
        transforms = CascadeTrainer.get_training_transforms(*args, **kwargs)
        regions, ignore = kwargs.get("regions"), kwargs.get("ignore_label")
        scheme = LabelScheme(regions=regions is not None, ignore_label=ignore)
        transforms.transforms.append(SignedDistanceTransform(scheme, tuple(kwargs["foreground_labels"])))
        return transforms


class L1DiceFocalLossTrainer(ROITrainer):
    """The L1-weighted Dice-focal loss."""

    def voxel_loss(self) -> VoxelLoss:
        """Give the loss of one resolution."""
        return L1DiceFocalLoss(
            gamma=self.settings.focal_gamma,
            batch_dice=self.configuration_manager.batch_dice,
            labels=self.label_scheme,
        )
