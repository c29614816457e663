"""Stage 2: a network with dropout, trained on ROI crops."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from nnunetv2.paths import nnUNet_raw

from nnunet_cascade.geometry import as_index
from nnunet_cascade.losses.targets import DeepSupervisedLoss, LabelScheme, VoxelLoss
from nnunet_cascade.trainers.cascade_trainer import CascadeTrainer
from nnunet_cascade.trainers.roi_manifest import MANIFEST_NAME, StoredRoi, read_manifest
from nnunet_cascade.trainers.roi_sampling import RoiDataset


class ROITrainer(CascadeTrainer):
    """Train on ROI crops with nnU-Net's own loss.

    On a dataset made by `nnc-roi-dataset` the patches come from jittered boxes;
    on any other it trains on whole images as nnU-Net does, and says so once. The
    ignore label and regions work. Training on several GPUs is refused.

    Raises:
        NotImplementedError: Distributed training, a 2d configuration, or nnU-Net's own cascade.

    Source:
        docs/decisions/0016-stage-2-training-set.md.
    """

    has_dropout = True

    def initialize(self) -> None:
        """Refuse what the trainer cannot do, then build network, optimizer and loss."""
        name = type(self).__name__
        if self.is_ddp:
            raise NotImplementedError(
                f"{name} trains on one GPU: its batch statistics are not gathered across processes; "
                "start nnUNetv2_train without -num_gpus"
            )
        if len(self.configuration_manager.patch_size) != 3:
            raise NotImplementedError(f"{name} draws boxes in three dimensions; use a 3d configuration")
        if self.is_cascaded:
            raise NotImplementedError(f"{name} is no stage of nnU-Net's own cascade; use 3d_fullres")
        super().initialize()

    @cached_property
    def roi_manifest(self) -> dict[str, StoredRoi] | None:
        """The ROI manifest of the dataset, or None if it has none."""
        name = self.plans_manager.dataset_name
        folders = [Path(str(self.preprocessed_dataset_folder_base))]
        if nnUNet_raw.is_set():
            folders.append(Path(str(nnUNet_raw)) / name)
        for folder in folders:
            if (folder / MANIFEST_NAME).is_file():
                return read_manifest(folder / MANIFEST_NAME)
        self.print_to_log_file(
            f"{name} has no {MANIFEST_NAME}: {type(self).__name__} expected ROI crops (nnc-roi-dataset makes them) "
            "and trains on whole images instead."
        )
        return None

    def get_tr_and_val_datasets(self) -> Any:
        """Return the training and validation sets, drawn by patient and box where there is an ROI manifest."""
        manifest = self.roi_manifest
        if manifest is None:
            return super().get_tr_and_val_datasets()
        train, validation = (cast(list[str], list(cases)) for cases in self.do_split())
        training = self._roi_dataset(train, manifest, jitter=True)
        self._report_short_crops(training)
        self._report_single_dice(train, manifest)
        return training, self._roi_dataset(validation, manifest, jitter=False)

    def _report_short_crops(self, dataset: RoiDataset) -> None:
        """Say so where crops hold less than the loader cuts: nnU-Net fills up with the tumor's mean, as background."""
        shortest, window = dataset.shortest_edges(), dataset.window_size
        if any(edge < wanted for edge, wanted in zip(shortest, window, strict=True)):
            spacing = self.configuration_manager.spacing
            wanted_mm = max(edge * size for edge, size in zip(window, spacing, strict=True))
            self.print_to_log_file(
                f"Some stored crops have edges of {shortest} voxels, but training cuts {window} for rotation and "
                f"scaling: the rest is padding. Make the set again with nnc-roi-dataset --plans, or --context_mm at "
                f"least {wanted_mm:.0f} each."
            )

    def _report_single_dice(self, cases: Sequence[str], manifest: dict[str, StoredRoi]) -> None:
        """Say so where the Dice of crops without tumor teaches nothing, for it is not summed with that of others."""
        count = sum(manifest[case].kind == "false_positive" for case in cases)
        alone = "the batch size is 1" if self.batch_size == 1 else "the plans' batch_dice is false"
        if count and (self.batch_size == 1 or not self.configuration_manager.batch_dice):
            self.print_to_log_file(
                f"{count} of {len(cases)} crops have no tumor, and {alone}: their Dice has next to no gradient, so "
                "they teach by cross-entropy alone. Plan with --batch_dice true and a batch size of at least 2."
            )

    def _roi_dataset(self, cases: Sequence[str], manifest: dict[str, StoredRoi], *, jitter: bool) -> RoiDataset:
        # Rotation and scaling cut a larger patch in training; it shall hold real context, not padding.
        initial = self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()[2]
        return RoiDataset(
            Path(str(self.preprocessed_dataset_folder)),
            cases,
            manifest=manifest,
            window_size=as_index(initial if jitter else self.configuration_manager.patch_size),
            transpose=self.plans_manager.transpose_forward,
            jitter=jitter,
        )

    @property
    def label_scheme(self) -> LabelScheme:
        """How the targets are written."""
        return LabelScheme(regions=self.label_manager.has_regions, ignore_label=self.label_manager.ignore_label)

    def voxel_loss(self) -> VoxelLoss | None:
        """Return the loss of one resolution, or None for nnU-Net's own Dice and cross-entropy."""
        return None

    def _build_loss(self) -> Any:
        loss = self.voxel_loss()
        return super()._build_loss() if loss is None else DeepSupervisedLoss(loss, self.resolution_weights())

    def resolution_weights(self) -> list[float]:
        """Return nnU-Net's weights of the deep supervision outputs: halved at each scale, 0 at the coarsest."""
        count = len(self._get_deep_supervision_scales() or [1])
        if count == 1:
            return [1.0]
        raw = np.array([0.5**scale for scale in range(count - 1)] + [0.0])
        return [float(weight) for weight in raw / raw.sum()]
