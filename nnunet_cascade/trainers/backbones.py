"""Backbones: what a trainer builds, and what follows from it.

Alone they are stage 1, coarse networks of the whole scan, deterministic (P1); stage 2 joins them with a loss.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_cascade.networks.backbones import BACKBONES, BackboneName, BackboneRequest
from nnunet_cascade.networks.dropout import confine_dropout, with_dropout
from nnunet_cascade.networks.patch import legal_patch
from nnunet_cascade.settings.training import NetworkSize, Recipe, TrainingSettings
from nnunet_cascade.trainers.cascade_trainer import CascadeTrainer


class DropoutUNet(CascadeTrainer):
    """The plan's U-Net with dropout where the settings want it."""

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,  # noqa: FBT001, FBT002 - nnU-Net's signature
    ) -> nn.Module:
        """Build the plan's network with dropout."""
        settings = TrainingSettings.from_plans(plans_manager.plans)
        arch_kwargs = with_dropout(
            configuration_manager.network_arch_init_kwargs,
            probability=settings.dropout,
            dimensions=len(configuration_manager.patch_size),
        )
        network = get_network_from_plans(
            configuration_manager.network_arch_class_name,
            arch_kwargs,
            configuration_manager.network_arch_init_kwargs_req_import,
            num_input_channels,
            num_output_channels,
            allow_init=True,
            deep_supervision=enable_deep_supervision,
        )
        confine_dropout(network, settings.dropout_placement)
        return network


class MonaiBackbone(CascadeTrainer):
    """A network of MONAI's instead of the plan's, without deep supervision.

    A patch size that the network cannot take is enlarged to the next one it can, in the
    plans, so that inference gets it too; the log says so.
    """

    backbone: ClassVar[BackboneName]

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net reads this signature
    ) -> None:
        planned = tuple(PlansManager(plans).get_configuration(configuration).patch_size)
        super().__init__(self.legal_plans(plans, configuration), configuration, fold, dataset_json, device)
        self.enable_deep_supervision = False
        legal, kind = tuple(self.configuration_manager.patch_size), BACKBONES[self.backbone]
        if legal != planned:
            self.print_to_log_file(
                f"{type(self).__name__} needs patches divisible by {kind.patch_multiple} and of at least "
                f"{kind.patch_minimum} voxels: the planned {planned} become {legal}."
            )

    @classmethod
    def legal_plans(cls, plans: dict[str, Any], configuration: str) -> dict[str, Any]:
        """Return plans whose patch is one the network can take."""
        planned = PlansManager(plans).get_configuration(configuration).patch_size
        legal = {"patch_size": list(legal_patch(planned, BACKBONES[cls.backbone]))}
        changed = {**plans["configurations"][configuration], **legal}
        return {**plans, "configurations": {**plans["configurations"], configuration: changed}}

    @property
    def network_size(self) -> NetworkSize:
        """As the settings say."""
        return self.settings.network_size

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,  # noqa: FBT001, FBT002 - nnU-Net's signature
    ) -> nn.Module:
        """Build the network for the configuration's patch size; there is no deep supervision to be had."""
        del enable_deep_supervision
        settings = TrainingSettings.from_plans(plans_manager.plans)
        request = BackboneRequest(
            input_channels=num_input_channels,
            output_channels=num_output_channels,
            patch_size=tuple(configuration_manager.patch_size),
            size=settings.network_size,
            dropout=settings.dropout if cls.has_dropout else 0.0,
        )
        return BACKBONES[cls.backbone].build(request)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:  # noqa: FBT001 - nnU-Net's signature
        """Do nothing: there is no deep supervision to switch."""


class SwinUNETRTrainer(MonaiBackbone):
    """Train MONAI's Swin UNETR with nnU-Net's Dice and cross-entropy."""

    backbone = "swin_unetr"
    default_recipe: ClassVar[Recipe] = "transformer"


class UNETRTrainer(MonaiBackbone):
    """Train MONAI's UNETR with nnU-Net's Dice and cross-entropy."""

    backbone = "unetr"
    default_recipe: ClassVar[Recipe] = "transformer"


class SegResNetTrainer(MonaiBackbone):
    """Train MONAI's SegResNet with nnU-Net's Dice and cross-entropy."""

    backbone = "segresnet"


class AttentionUNetTrainer(MonaiBackbone):
    """Train MONAI's attention U-Net with nnU-Net's Dice and cross-entropy."""

    backbone = "attention_unet"
