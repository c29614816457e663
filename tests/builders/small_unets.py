"""nnU-Net's two kinds of networks, as small as they can be."""

from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

UNET = {
    "n_stages": 3,
    "features_per_stage": [4, 8, 16],
    "conv_op": nn.Conv3d,
    "kernel_sizes": 3,
    "strides": [1, 2, 2],
    "n_conv_per_stage_decoder": [2, 2],
    "conv_bias": True,
    "norm_op": nn.InstanceNorm3d,
    "norm_op_kwargs": {"affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": nn.LeakyReLU,
}
SMALL_UNETS = {
    "plain": (PlainConvUNet, {"n_conv_per_stage": [2, 2, 2]}),
    "residual": (ResidualEncoderUNet, {"n_blocks_per_stage": [1, 2, 1]}),
}
