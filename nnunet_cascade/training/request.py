"""What a cascade is to be trained on, and how."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nnunet_cascade.geometry import Spacing
from nnunet_cascade.machine import find_device
from nnunet_cascade.prediction.spec import CascadeSpec, Preset
from nnunet_cascade.settings.serialization import require
from nnunet_cascade.settings.training import PAPER_SPACING_MM, PAPER_TRAINING, PAPER_WINDOW_HU
from nnunet_cascade.training.planning import PlanRequest

DEFAULT_PATCH_MM = 112.0
"""Largest extent of stage 2's patch unless a plan says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTraining:
    """How one stage is planned and trained.

    Attributes:
        plan: What differs from nnU-Net's own plans.
        trainer: Name of an nnU-Net trainer.

    Example:
        >>> nnc.StageTraining(plan=nnc.PlanRequest(name="MyPlans"), trainer="UncertaintyROITrainer").trainer
        'UncertaintyROITrainer'
    """

    plan: PlanRequest
    trainer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """A cascade to be trained.

    Attributes:
        dataset: Number of the raw dataset with whole images.
        roi_dataset: Number of the stage-2 dataset to be made.
        bundle: Folder for the finished bundle.
        stage1: How stage 1 is trained.
        stage2: How stage 2 is trained.
        spec: Settings of prediction; its folds follow from `folds`.
        folds: Number of folds; all of them are trained, and predict together.
        oracle_boxes: Train stage 2 on boxes from the ground truth.
        jitter_mm: How far a face of a box may move in training.
        false_positives_per_scan: How many the score that judges candidates may let through, in the mean, on scans that
            its fit had not seen. Stage 1's threshold is chosen with it. None fits no score: the rules decide alone.
        context_mm: Extent along (Z, Y, X) that a crop has at least. None is what training cuts,
            for which stage 2 is planned before the crops are cut.
        edge_channel: Give stage 2 the CT's edge magnitude as a second channel.
        tumor_labels: Label values of the dataset that are tumor; several are one tumor. If empty, the only label.
        device: cpu, cuda or mps.
        processes: For preprocessing.
        notes: Lines that every result of the bundle repeats.
        trusted: Whether trainers of any origin may be loaded again for prediction.

    Example:
        >>> request = nnc.TrainingRequest.of_preset(501, "my_bundle", device="cpu")
        >>> request.roi_dataset, request.folds
        (601, 5)
    """

    dataset: int
    roi_dataset: int
    bundle: Path
    stage1: StageTraining
    stage2: StageTraining
    spec: CascadeSpec
    folds: int = 5
    oracle_boxes: bool = False
    jitter_mm: float = 8.0
    false_positives_per_scan: float | None = 0.25
    context_mm: Spacing | None = None
    edge_channel: bool = False
    tumor_labels: tuple[int, ...] = ()
    device: str = "cuda"
    processes: int = 2
    notes: tuple[str, ...] = ()
    trusted: bool = False

    @classmethod
    def of_preset(
        cls, dataset: int, bundle: str | Path, *, preset: Preset = "recommended", device: str = "auto"
    ) -> TrainingRequest:
        """Return what `nnc-train-cascade -d DATASET -o BUNDLE --preset PRESET` asks for.

        Raises:
            SettingsError: There is no such preset or no such device.
        """
        paper = preset == "paper"
        plan = partial(
            PlanRequest,
            spacing_mm=PAPER_SPACING_MM if paper else None,
            window_hu=PAPER_WINDOW_HU if paper else None,
            batch_dice=False if paper else None,
            training=PAPER_TRAINING if paper else {},
        )
        coarse = plan(name="nnUNetCascadeCoarsePlans", grid=None if paper else "coarse")
        fine = plan(name="nnUNetCascadeROIPlans", grid=None if paper else "fine", max_patch_mm=DEFAULT_PATCH_MM)
        return cls(
            dataset=dataset,
            roi_dataset=dataset + 100,
            bundle=Path(bundle),
            stage1=StageTraining(plan=coarse, trainer="CascadeTrainer"),
            stage2=StageTraining(plan=fine, trainer="UncertaintyROITrainer"),
            spec=CascadeSpec.of_preset(preset),
            oracle_boxes=paper,
            jitter_mm=0.0 if paper else 8.0,
            false_positives_per_scan=None if paper else 0.25,
            device=str(find_device(device)),
        )

    def __post_init__(self) -> None:
        require(
            self.dataset != self.roi_dataset, f"dataset and ROI dataset are both {self.dataset}; choose two numbers"
        )
        positive = self.context_mm is None or min(self.context_mm) > 0
        require(positive, f"context_mm must be positive; found {self.context_mm}")
        require(self.folds >= 2, f"out-of-fold predictions need at least 2 folds; found {self.folds}")
        allowed = self.false_positives_per_scan
        require(allowed is None or allowed > 0, f"false_positives_per_scan must be positive or None; found {allowed}")
