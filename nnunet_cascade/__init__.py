"""Coarse-to-fine, uncertainty-aware lung tumor segmentation as an nnU-Net v2 plug-in."""
