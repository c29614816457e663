"""Weights of another network as a checkpoint that stock nnU-Net's -pretrained_weights loads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cascade.cascade.nnunet_folders import read_json
from nnunet_cascade.errors import WeightsError
from nnunet_cascade.networks.backbones import BACKBONES
from nnunet_cascade.networks.pretrained import Fitted, fit_weights, read_weights
from nnunet_cascade.plugin import nnunet_cascade_trainers
from nnunet_cascade.settings.training import TrainingSettings


def import_weights(source: Path, *, plans: Path, configuration: str, trainer: str, output: Path) -> Fitted:
    """Fit the weights of a file into the network a trainer builds, and write them as nnU-Net's checkpoint.

    What the file has not stays as the seed of the plans initializes it.

    Args:
        source: A MONAI file of a self-supervised encoder, or an nnU-Net checkpoint.
        plans: Plans file; dataset.json lies beside it.
        configuration: Of the plans.
        trainer: Name of a trainer of this package.
        output: Written beside, then renamed.

    Raises:
        WeightsError: The file is broken, nothing fits, or the trainer is unknown.
        DatasetError: Plans or dataset.json cannot be read.
    """
    kind: Any = getattr(nnunet_cascade_trainers, trainer, None)
    if kind is None:
        raise WeightsError(f"no trainer {trainer}; expected one of {', '.join(nnunet_cascade_trainers.__all__)}")
    manager, dataset = PlansManager(read_json(plans)), read_json(plans.parent / "dataset.json")
    chosen = manager.get_configuration(configuration)
    torch.manual_seed(TrainingSettings.from_plans(manager.plans).seed)
    network = kind.build_network_architecture(
        manager,
        chosen,
        determine_num_input_channels(manager, chosen, dataset),
        manager.get_label_manager(dataset).num_segmentation_heads,
        True,
    )
    prefix = BACKBONES[kind.backbone].encoder_prefix if hasattr(kind, "backbone") else ""
    fitted = fit_weights(read_weights(source), network, encoder_prefix=prefix)
    beside = output.with_name(f".{os.getpid()}.{output.name}")
    try:
        torch.save({"network_weights": fitted.weights}, beside)
        beside.replace(output)
    finally:
        beside.unlink(missing_ok=True)
    return fitted
