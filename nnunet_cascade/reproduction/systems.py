"""What the paper compares: whole systems, each with the models it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nnunet_cascade.prediction.spec import Preset

Backbone = Literal["UNet", "UNETR", "SwinUNETR"]
Loss = Literal["dice_ce", "uncertainty", "distance_transform", "uncertainty_lovasz"]
Kind = Literal["baseline", "stage1", "cascade"]
LungMasks = Literal["threshold", "lungmask", "reference"]
Boxes = Literal["predicted", "truth"]

STAGE1_TRAINERS: dict[Backbone, str] = {
    "UNet": "CascadeTrainer",
    "UNETR": "UNETRTrainer",
    "SwinUNETR": "SwinUNETRTrainer",
}
_STAGE2_PREFIXES: dict[Loss, str] = {
    "dice_ce": "DiceCEROI",
    "uncertainty": "UncertaintyROI",
    "distance_transform": "DistanceTransformROI",
    "uncertainty_lovasz": "UncertaintyLovaszROI",
}


def stage2_trainer(backbone: Backbone, loss: Loss) -> str:
    """Name the trainer of stage 2."""
    return f"{_STAGE2_PREFIXES[loss]}{'' if backbone == 'UNet' else backbone}Trainer"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiModel:
    """A stage-2 model that must be trained, with the stage 1 in front of it.

    Attributes:
        backbone: Of both stages.
        loss: Of stage 2.
        margin_mm: About its boxes, in training and prediction.
        preset: Of rules, training boxes, samples and loss; None is the run's.
    """

    backbone: Backbone = "UNet"
    loss: Loss = "dice_ce"
    margin_mm: float = 0.0
    preset: Preset | None = None

    @property
    def name(self) -> str:
        """Start of its files and folders."""
        preset = "" if self.preset is None else f"_{self.preset}"
        return f"{self.backbone.lower()}_{self.loss}_margin{self.margin_mm:g}{preset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One row of a table: what is run on every test case.

    Attributes:
        kind: The plain nnU-Net, a stage 1 alone on the whole CT, or a cascade.
        model: Stage 2 of a cascade; of a stage 1 its backbone alone counts.
        top_k: Candidates that go on to stage 2.
        lungs: Where lung masks come from: "reference" are those that came with the data.
        boxes: What stage 2 is cropped at: candidates of stage 1, or the true tumors.
    """

    kind: Kind = "cascade"
    model: RoiModel = RoiModel()
    top_k: int | Literal["all"] = 1
    lungs: LungMasks = "threshold"
    boxes: Boxes = "predicted"

    @property
    def key(self) -> str:
        """Its name on disk."""
        if self.kind == "baseline":
            return "nnunet"
        if self.kind == "stage1":
            return f"stage1_{self.model.backbone.lower()}"
        if self.boxes == "truth":
            return f"{self.model.name}_true_boxes"
        return f"{self.model.name}_top{self.top_k}_{self.lungs}"


BASELINE = System(kind="baseline")


def full_ct(backbone: Backbone = "UNet") -> System:
    """Return a stage 1 alone on the whole CT."""
    return System(kind="stage1", model=RoiModel(backbone=backbone))
