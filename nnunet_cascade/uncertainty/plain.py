"""nnU-Net's predictor as all predictors of this package are made."""

from __future__ import annotations

from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor


class PlainPredictor(nnUNetPredictor):
    """nnU-Net's sliding window without its progress bars; on a GPU everything stays there.

    Args:
        device: Where to predict.
        step_size: Of the sliding window, as a share of the patch.
        mirroring: Whether to mirror, which is nnU-Net's test-time augmentation.
    """

    # nnU-Net fills these in when it loads a model and declares them None until then.
    network: Any
    label_manager: Any
    configuration_manager: Any

    def __init__(self, *, device: torch.device, step_size: float, mirroring: bool) -> None:
        super().__init__(
            tile_step_size=step_size,
            use_mirroring=mirroring,
            perform_everything_on_device=device.type == "cuda",
            device=device,
            allow_tqdm=False,
        )
