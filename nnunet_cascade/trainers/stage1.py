"""Stage 1: coarse networks of the whole scan, deterministic (P1)."""

from __future__ import annotations

from nnunet_cascade.trainers.backbones import UNETR, AttentionUNet, SegResNet, SwinUNETR


class SwinUNETRTrainer(SwinUNETR):
    """Train MONAI's Swin UNETR with nnU-Net's Dice and cross-entropy."""


class UNETRTrainer(UNETR):
    """Train MONAI's UNETR with nnU-Net's Dice and cross-entropy."""


class SegResNetTrainer(SegResNet):
    """Train MONAI's SegResNet with nnU-Net's Dice and cross-entropy."""


class AttentionUNetTrainer(AttentionUNet):
    """Train MONAI's attention U-Net with nnU-Net's Dice and cross-entropy."""
