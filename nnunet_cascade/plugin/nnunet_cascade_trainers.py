"""The trainers nnU-Net may find by name (`-tr`).

nnU-Net imports this file as a top-level module, hence its long name, and forgets
it afterwards. The classes come from the installed package, so that the one found
is the one that is imported elsewhere, and can be pickled.
"""

from nnunet_cascade.trainers.backbones import AttentionUNetTrainer, SegResNetTrainer, SwinUNETRTrainer, UNETRTrainer
from nnunet_cascade.trainers.cascade_trainer import CascadeTrainer
from nnunet_cascade.trainers.stage2 import (
    DiceCEROISwinUNETRTrainer,
    DiceCEROITrainer,
    DiceCEROIUNETRTrainer,
    DistanceTransformROISwinUNETRTrainer,
    DistanceTransformROITrainer,
    DistanceTransformROIUNETRTrainer,
    DistanceWeightedCEROISwinUNETRTrainer,
    DistanceWeightedCEROITrainer,
    DistanceWeightedCEROIUNETRTrainer,
    L1DiceFocalROISwinUNETRTrainer,
    L1DiceFocalROITrainer,
    L1DiceFocalROIUNETRTrainer,
    UncertaintyLovaszROISwinUNETRTrainer,
    UncertaintyLovaszROITrainer,
    UncertaintyLovaszROIUNETRTrainer,
    UncertaintyROISwinUNETRTrainer,
    UncertaintyROITrainer,
    UncertaintyROIUNETRTrainer,
)

__all__ = [
    "AttentionUNetTrainer",
    "CascadeTrainer",
    "DiceCEROISwinUNETRTrainer",
    "DiceCEROITrainer",
    "DiceCEROIUNETRTrainer",
    "DistanceTransformROISwinUNETRTrainer",
    "DistanceTransformROITrainer",
    "DistanceTransformROIUNETRTrainer",
    "DistanceWeightedCEROISwinUNETRTrainer",
    "DistanceWeightedCEROITrainer",
    "DistanceWeightedCEROIUNETRTrainer",
    "L1DiceFocalROISwinUNETRTrainer",
    "L1DiceFocalROITrainer",
    "L1DiceFocalROIUNETRTrainer",
    "SegResNetTrainer",
    "SwinUNETRTrainer",
    "UNETRTrainer",
    "UncertaintyLovaszROISwinUNETRTrainer",
    "UncertaintyLovaszROITrainer",
    "UncertaintyLovaszROIUNETRTrainer",
    "UncertaintyROISwinUNETRTrainer",
    "UncertaintyROITrainer",
    "UncertaintyROIUNETRTrainer",
]
