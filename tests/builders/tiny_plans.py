"""A plans file of a tiny U-Net and its dataset.json, as nnU-Net's planner would leave them, without any images."""

import json

PLAIN = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 3,
        "features_per_stage": [4, 8, 16],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
RESIDUAL = {
    **PLAIN,
    "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
    "arch_kwargs": {
        **{name: value for name, value in PLAIN["arch_kwargs"].items() if name != "n_conv_per_stage"},
        "n_blocks_per_stage": [1, 2, 1],
    },
}


def write_plans(
    folder, *, labels=("tumor",), channels=("CT",), patch_size=(20, 40, 48), architecture=PLAIN, block=None
):
    """Write nnUNetPlans.json and dataset.json into a folder, made where it is missing; gives the plans file."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "batch_dice": False,
        "patch_size": list(patch_size),
        "spacing": [1.0, 1.0, 1.0],
        "architecture": architecture,
    }
    plans = {
        "dataset_name": "Dataset501_Phantoms",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "configurations": {"3d_fullres": configuration},
    }
    if block is not None:
        plans["nnunet_cascade"] = block
    dataset = {
        "channel_names": dict(zip(map(str, range(len(channels))), channels, strict=True)),
        "labels": {"background": 0, **{name: number for number, name in enumerate(labels, start=1)}},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder / "nnUNetPlans.json"
