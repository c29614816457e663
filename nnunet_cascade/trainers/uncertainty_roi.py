"""Stage 2: a network with active dropout whose loss adapts to its own uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from nnunetv2.paths import nnUNet_raw
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_cascade.losses.adaptive import AdaptiveLoss, DeepSupervisedLoss, LabelScheme
from nnunet_cascade.networks.dropout import confine_dropout, with_dropout
from nnunet_cascade.settings.training import TrainingSettings
from nnunet_cascade.trainers.cascade_trainer import CascadeTrainer
from nnunet_cascade.trainers.roi_manifest import MANIFEST_NAME, StoredRoi, read_manifest
from nnunet_cascade.trainers.roi_sampling import RoiDataset
from nnunet_cascade.uncertainty.sampling import Moments, stochastic

_GRADIENT_CLIP = 12.0  # nnU-Net's own


class UncertaintyROITrainer(CascadeTrainer):
    """Train the plan's U-Net with dropout and the adaptive loss on ROI crops.

    On a dataset made by `nnc-roi-dataset` the patches come from jittered boxes;
    on any other it trains on whole images as nnU-Net does, and says so once. The
    ignore label and regions work. Training on several GPUs is refused.

    Raises:
        NotImplementedError: Distributed training, a 2d configuration, or nnU-Net's own cascade.

    Source:
        docs/design.md, "The adaptive loss" and "The stage-2 training set".
    """

    @staticmethod
    def build_network_architecture(  # pyright: ignore[reportIncompatibleMethodOverride] - nnU-Net accepts this signature
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,  # noqa: FBT001, FBT002 - nnU-Net's signature
    ) -> nn.Module:
        """Build the plan's network with dropout where the settings want it."""
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

    def initialize(self) -> None:
        """Refuse what the trainer cannot do, then build network, optimizer and loss."""
        if self.is_ddp:
            raise NotImplementedError(
                "UncertaintyROITrainer trains on one GPU: its batch statistics are not gathered across processes; "
                "start nnUNetv2_train without -num_gpus"
            )
        if len(self.configuration_manager.patch_size) != 3:
            raise NotImplementedError("UncertaintyROITrainer draws boxes in three dimensions; use a 3d configuration")
        if self.is_cascaded:
            raise NotImplementedError("UncertaintyROITrainer is no stage of nnU-Net's own cascade; use 3d_fullres")
        super().initialize()

    @cached_property
    def roi_manifest(self) -> dict[str, StoredRoi] | None:
        """The ROI manifest of the dataset, or None where it has none."""
        name = self.plans_manager.dataset_name
        folders = [Path(str(self.preprocessed_dataset_folder_base))]
        if nnUNet_raw.is_set():
            folders.append(Path(str(nnUNet_raw)) / name)
        for folder in folders:
            if (folder / MANIFEST_NAME).is_file():
                return read_manifest(folder / MANIFEST_NAME)
        self.print_to_log_file(
            f"{name} has no {MANIFEST_NAME}: UncertaintyROITrainer expected ROI crops (nnc-roi-dataset makes them) "
            "and trains on whole images instead."
        )
        return None

    def get_tr_and_val_datasets(self) -> Any:
        """Give the training and validation sets, drawn by patient and box where there is an ROI manifest."""
        manifest = self.roi_manifest
        if manifest is None:
            return super().get_tr_and_val_datasets()
        train, validation = (cast(list[str], list(cases)) for cases in self.do_split())
        return self._roi_dataset(train, manifest, jitter=True), self._roi_dataset(validation, manifest, jitter=False)

    def _roi_dataset(self, cases: Sequence[str], manifest: dict[str, StoredRoi], *, jitter: bool) -> RoiDataset:
        # Rotation and scaling cut a larger patch in training; it shall hold real context, not padding.
        initial = self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()[2]
        z, y, x = initial if jitter else self.configuration_manager.patch_size
        return RoiDataset(
            Path(str(self.preprocessed_dataset_folder)),
            cases,
            manifest=manifest,
            window_size=(int(z), int(y), int(x)),
            transpose=self.plans_manager.transpose_forward,
            jitter=jitter,
        )

    def _build_loss(self) -> Any:
        loss = AdaptiveLoss(
            variant=self.settings.loss,
            uncertainty_scale=self.settings.uncertainty_scale,
            batch_dice=self.configuration_manager.batch_dice,
            labels=LabelScheme(regions=self.label_manager.has_regions, ignore_label=self.label_manager.ignore_label),
        )
        return DeepSupervisedLoss(loss, self._resolution_weights())

    def _resolution_weights(self) -> list[float]:
        """Give nnU-Net's weights of the deep supervision outputs: halved at each scale, 0 at the coarsest."""
        count = len(self._get_deep_supervision_scales() or [1])
        if count == 1:
            return [1.0]
        raw = np.array([0.5**scale for scale in range(count - 1)] + [0.0])
        return [float(weight) for weight in raw / raw.sum()]

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take one step: T − 1 stochastic passes without gradient, one with, which counts as the T-th."""
        image = batch["data"].to(self.device, non_blocking=True)
        targets = [target.to(self.device, non_blocking=True) for target in _as_list(batch["target"])]
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            moments = self._sampled_moments(image)
        # A context of its own: older torch would reuse weights cast without gradient.
        with self._autocast():
            outputs = _as_list(self.network(image))
            for moment, output in zip(moments, outputs, strict=True):
                moment.add(self._probability(output))
            loss = self.loss(outputs, targets, [moment.variance() for moment in moments])
        self._descend(loss)
        return {"loss": loss.detach().cpu().numpy()}

    def _sampled_moments(self, image: torch.Tensor) -> list[Moments]:
        """Run T − 1 stochastic passes; the moments of the probabilities at each resolution."""
        moments = [Moments() for _ in self._resolution_weights()]
        with torch.no_grad(), stochastic(self.network):
            for _ in range(self.settings.mc_samples - 1):
                for moment, output in zip(moments, _as_list(self.network(image)), strict=True):
                    moment.add(self._probability(output))
        return moments

    def _probability(self, logits: torch.Tensor) -> torch.Tensor:
        logits = logits.detach().float()
        return torch.sigmoid(logits) if self.label_manager.has_regions else torch.softmax(logits, 1)

    def _autocast(self) -> Any:
        # As in nnU-Net: mixed precision pays on CUDA alone.
        return torch.autocast("cuda") if self.device.type == "cuda" else nullcontext()

    def _descend(self, loss: torch.Tensor) -> None:
        if self.grad_scaler is None:
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), _GRADIENT_CLIP)
            self.optimizer.step()
            return
        self.grad_scaler.scale(loss).backward()
        self.grad_scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), _GRADIENT_CLIP)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()


def _as_list(value: Any) -> list[torch.Tensor]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
