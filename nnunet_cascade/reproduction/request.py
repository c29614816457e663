"""What to reproduce, on what, and how large."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from nnunet_cascade.phantom.cohort import TEST_SEEDS, TRAIN_SEEDS
from nnunet_cascade.prediction.spec import CascadeSpec, Preset
from nnunet_cascade.reproduction.systems import STAGE1_TRAINERS, Backbone, RoiModel, stage2_trainer
from nnunet_cascade.reproduction.tables import Table, systems_of
from nnunet_cascade.reproduction.tiny_plans import BATCH, tiny_cascade, tiny_plain
from nnunet_cascade.settings.serialization import require
from nnunet_cascade.training.planning import PlanRequest, planned_batch
from nnunet_cascade.training.request import StageTraining, TrainingRequest

Size = Literal["full", "tiny"]

PHANTOMS = 501
_BACKBONES: tuple[Backbone, ...] = get_args(Backbone)
_MARGINS_MM = (0.0, 16.0)
_CROPS: tuple[tuple[Preset, Backbone], ...] = tuple(
    (preset, each) for each in _BACKBONES for preset in get_args(Preset)
)
_SHARES: dict[Backbone, float] = {"UNet": 1.0, "UNETR": 1 / 3, "SwinUNETR": 1 / 10}
"""Of the steps of a tiny run, by what a step of each costs on a CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReproductionRequest:
    """A reproduction of some tables.

    Attributes:
        folder: For everything it writes; run again, it goes on there.
        tables: Which.
        dataset: Number of a raw nnU-Net dataset, or None for phantoms of its own.
        test_dataset: Another cohort to test on: its `imagesTr` and `labelsTr`. None tests on
            the dataset's `imagesTs` and `labelsTs`, or, where it has none, each patient with the
            models that never saw the patient.
        size: "full" is nnU-Net's plans and lengths of training; "tiny" is for CPUs.
        preset: Of rules, boxes in training, samples and loss.
        folds: Of every stage.
        seed: Of every training.
        device: cpu, cuda or mps.
        effort: Multiplies the iterations of "tiny".
        reference_lungs: Folder of lung masks that came with the data, for Table IV.
        lung_weights: Weights file of lungmask, for Table IV; None lets lungmask download it.
        tumor_labels: Label values that are tumor.
        resamples: Of every bootstrap interval.
        phantoms: How many to train and to test on, where there is no dataset.

    Raises:
        SettingsError: A value is out of range.
    """

    folder: Path
    tables: tuple[Table, ...]
    dataset: int | None = None
    test_dataset: int | None = None
    size: Size = "full"
    preset: Preset = "paper"
    folds: int = 5
    seed: int = 0
    device: str = "cuda"
    effort: float = 1.0
    reference_lungs: Path | None = None
    lung_weights: Path | None = None
    tumor_labels: tuple[int, ...] = (1,)
    resamples: int = 9999
    phantoms: tuple[int, int] = (28, 24)

    def __post_init__(self) -> None:
        require(bool(self.tables), "no table was chosen; expected at least one")
        require(self.size in get_args(Size), f"size must be one of {get_args(Size)}; found {self.size!r}")
        require(self.folds >= 2, f"every patient is to be left out once, which needs 2 folds; found {self.folds}")
        require(self.effort > 0, f"effort must be positive; found {self.effort}")
        most = (len(TRAIN_SEEDS), len(TEST_SEEDS))
        fits = all(2 <= count <= limit for count, limit in zip(self.phantoms, most, strict=True))
        require(
            fits, f"phantoms to train and to test on must be 2 to {most[0]} and 2 to {most[1]}; found {self.phantoms}"
        )
        other = self.test_dataset
        require(other is None or self.dataset is not None, f"test dataset {other} needs a dataset to train on; give -d")
        require(other is None or other != self.dataset, f"dataset {other} is to be trained and tested on; give another")

    @property
    def number(self) -> int:
        """Of the raw dataset to train on."""
        return PHANTOMS if self.dataset is None else self.dataset

    @property
    def is_held_out(self) -> bool:
        """Whether cases are known to be held out; else out-of-fold predictions of every model are needed."""
        return self.dataset is None or self.test_dataset is not None

    @property
    def roi_models(self) -> tuple[RoiModel, ...]:
        """The stage-2 models that the tables need, each once."""
        systems = systems_of(self.tables)
        return tuple(dict.fromkeys(system.model for system in systems if system.kind == "cascade"))

    @property
    def backbones(self) -> tuple[Backbone, ...]:
        """The backbones that a stage 1 is needed of, each once."""
        systems = systems_of(self.tables)
        return tuple(dict.fromkeys(system.model.backbone for system in systems if system.kind != "baseline"))


def spec_of(request: ReproductionRequest, model: RoiModel) -> CascadeSpec:
    """Return the settings of prediction that a model is trained for."""
    return training_request(request, model).spec


def preset_of(request: ReproductionRequest, model: RoiModel) -> Preset:
    """Return the preset of a model: its own, or the run's."""
    return model.preset or request.preset


def training_request(request: ReproductionRequest, model: RoiModel) -> TrainingRequest:
    """Return the training of one stage-2 model and the stage 1 before it; chains share what they have in common.

    It is what `nnc-train-cascade` trains, but for backbone, loss and margin, and in a tiny run for sizes and lengths.
    """
    bundle = request.folder / "bundles" / model.name
    asked = TrainingRequest.of_preset(request.number, bundle, preset=preset_of(request, model), device="cpu")
    asked = replace(
        asked,
        roi_dataset=roi_dataset(request, model),
        stage1=_stage(request, model, asked.stage1.plan, stage=1),
        stage2=_stage(request, model, asked.stage2.plan, stage=2),
        spec=replace(asked.spec, roi=replace(asked.spec.roi, margin_mm=model.margin_mm)),
        folds=request.folds,
        tumor_labels=request.tumor_labels,
        device=request.device,
        notes=(f"Trained by nnc-reproduce-paper, size {request.size}, preset {request.preset}, seed {request.seed}.",),
    )
    if request.size == "full":
        return asked
    cubic = model.backbone != "UNet"
    network = {"network_size": "tiny"} if cubic else {}
    steps = share_of_steps(request, model.backbone) * request.effort
    # Patients that are not held out are scored by nnU-Net's own validation of stage 1.
    return tiny_cascade(asked, steps=steps, cubic=cubic, final_validation=not request.is_held_out, **network)


def stage1_of(request: ReproductionRequest, backbone: Backbone) -> StageTraining:
    """Return the training of a stage 1."""
    return training_request(request, RoiModel(backbone=backbone)).stage1


def baseline_of(request: ReproductionRequest) -> StageTraining:
    """Return the plain nnU-Net: the stock trainer, or in a tiny run nnU-Net's own loss and network by our trainer.

    Stock nnU-Net cannot be shortened to minutes on a CPU: 250 steps and a mirrored validation are an epoch.
    """
    if request.size == "full":
        plan = PlanRequest(name=f"PaperBaselinePlans{_variant(request)}", training={"seed": request.seed})
        return StageTraining(plan=plan, trainer="nnUNetTrainer")
    models = len(baseline_folds(request))
    whole = "Whole" if models == 1 else ""
    plan = PlanRequest(name=f"PaperBaseline{whole}{_variant(request)}", training={"seed": request.seed})
    plain = StageTraining(plan=plan, trainer="CascadeTrainer")
    chain = training_request(request, RoiModel())
    fine_batch = planned_batch(chain.roi_dataset, chain.stage2.plan.name) or BATCH
    return tiny_plain(plain, models=models, steps=request.effort, fine_batch=fine_batch, final_validation=models > 1)


def baseline_folds(request: ReproductionRequest) -> tuple[int | Literal["all"], ...]:
    """Return the folds of the plain nnU-Net: a tiny one makes more of its few steps as one model of all cases."""
    if request.size == "tiny" and request.is_held_out:
        return ("all",)
    return tuple(range(request.folds))


def roi_dataset(request: ReproductionRequest, model: RoiModel) -> int:
    """Return the number of the crops a stage 2 is trained on; larger patches need more around the boxes."""
    block = _CROPS.index((preset_of(request, model), model.backbone))
    return request.number + 100 + len(_MARGINS_MM) * block + _MARGINS_MM.index(model.margin_mm)


def share_of_steps(request: ReproductionRequest, backbone: Backbone) -> float:
    """Return the share of the steps that a run trains a backbone for: tiny ones train transformers for less."""
    return 1.0 if request.size == "full" else _SHARES[backbone]


def _variant(request: ReproductionRequest) -> str:
    """Tell runs of other seeds and efforts on the same data apart."""
    seed = "" if request.seed == 0 else f"Seed{request.seed}"
    effort = "" if request.effort == 1 or request.size == "full" else f"Effort{request.effort:g}".replace(".", "_")
    return seed + effort


def _stage(request: ReproductionRequest, model: RoiModel, plan: PlanRequest, *, stage: int) -> StageTraining:
    """Return a stage of the preset with a name of its own, the run's seed, and the model's trainer."""
    preset = preset_of(request, model)
    own = preset.capitalize() if stage == 2 else "" if preset == "paper" else preset.capitalize()
    name = f"Paper{request.size.capitalize()}Stage{stage}{model.backbone}{own}{_variant(request)}"
    trainer = STAGE1_TRAINERS[model.backbone] if stage == 1 else stage2_trainer(model.backbone, model.loss)
    return StageTraining(
        plan=replace(plan, name=name, training={**plan.training, "seed": request.seed}), trainer=trainer
    )
