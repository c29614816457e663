"""The demonstration: a cascade trained and tested on phantoms in minutes, beside a plain nnU-Net of equal budget."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from nnunet_cascade.bundles.bundle import load_cascade, read_notes
from nnunet_cascade.cohort.cohort import case_name
from nnunet_cascade.dataset_conversion.cohort import ConversionRequest, convert_download
from nnunet_cascade.dataset_conversion.labels import Label
from nnunet_cascade.dataset_conversion.settings import ConversionSettings
from nnunet_cascade.errors import StepFailedError
from nnunet_cascade.evaluation.case import CaseScore, score_case
from nnunet_cascade.evaluation.summary import Summary, format_table, summarize, write_scores
from nnunet_cascade.images import ENDING, read_ct, read_labels
from nnunet_cascade.nnunet_folders import own_nnunet_folders, raw_folder
from nnunet_cascade.phantom.cohort import TEST_SEEDS, TRAIN_SEEDS
from nnunet_cascade.phantom.dicom import write_dicom_cohort
from nnunet_cascade.phantom.record import DESCRIPTION, phantom_name
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.prediction.case import PrecomputedInputs, predict_case
from nnunet_cascade.prediction.outputs import write_case
from nnunet_cascade.prediction.spec import CascadeSpec, StageSettings
from nnunet_cascade.prediction.stage_model import StageModel
from nnunet_cascade.reproduction.tiny_plans import TINY_BATCH, TINY_EPOCHS, tiny_plan
from nnunet_cascade.settings.training import BLOCK, TrainingSettings
from nnunet_cascade.training.cross_validation import METHODS, score_methods
from nnunet_cascade.training.pipeline import log_folder, model_of, train_cascade, train_stage
from nnunet_cascade.training.request import StageTraining, TrainingRequest

_log = logging.getLogger(__name__)

PHANTOM_NOTE = (
    "The models were trained for minutes on computer-drawn phantoms: they show that the software works, "
    "and will not find real tumors well."
)
BASELINE = "plain nnU-Net, same budget"
_DATASET, _ROI_DATASET = 501, 601


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRequest:
    """A demonstration.

    Attributes:
        folder: For everything it writes; run again, it goes on there.
        train: How many phantoms to train on.
        test: How many phantoms to test on.
        folds: Folds of the cross-validation.
        effort: Multiplies the training iterations; 1 takes about a quarter of an hour on 2 cores.
        device: cpu, cuda or mps.
    """

    folder: Path
    train: int = 28
    test: int = 20
    folds: int = 2
    effort: float = 1.0
    device: str = "cpu"


def run_demo(request: DemoRequest) -> str:
    """Make phantoms as DICOM, convert them, train cascade and baseline, predict held-out phantoms.

    Returns:
        The table and the budgets, as Markdown; also written to `demo.md`.

    Raises:
        CascadeError: As the steps raise.
    """
    with own_nnunet_folders(request.folder):
        make_demo_dataset(request)
        chain = demo_training(request)
        train_cascade(chain)
        baseline = demo_baseline(request)
        _log.info("[baseline] %s", BASELINE)
        train_stage(_DATASET, baseline, chain, log_folder(chain), folds=("all",))
        scores = _scores(request, chain, baseline)
    write_scores(scores, request.folder)
    report = demo_report([summarize(method, cases) for method, cases in scores.items()], chain, baseline)
    (request.folder / "demo.md").write_text(report)
    return report


def make_demo_dataset(request: DemoRequest) -> Path:
    """Draw phantoms as DICOM and convert them, as a user would with a download.

    Returns:
        The nnU-Net raw dataset folder: voxel for voxel what was drawn.
    """
    train, test = TRAIN_SEEDS[: request.train], TEST_SEEDS[: request.test]
    dicom = request.folder / "dicom"
    write_dicom_cohort(dicom, train_seeds=train, test_seeds=test, settings=PhantomSettings(tumors=(1, 2)))
    dataset = request.folder / "nnUNet_raw" / f"Dataset{_DATASET}_Phantoms"
    label = Label(name="tumor", regions=("GTV-1",))
    result = convert_download(
        ConversionRequest(
            source=dicom,
            dataset=dataset,
            settings=ConversionSettings(labels=(label,), case_names="patient-id", description=DESCRIPTION),
            test_patients=frozenset(phantom_name(seed) for seed in test),
        )
    )
    if result.left_out:
        raise StepFailedError(f"{len(result.left_out)} phantoms could not be converted; {result.manifest} tells why")
    return dataset


def demo_training(request: DemoRequest) -> TrainingRequest:
    """Return the cascade of the demonstration: tiny networks at 6 and 3 mm.

    Stage 1 is shown foreground in every patch: it shall miss little. What it finds too much the rules and
    stage 2 take back.
    """
    oversample = {"oversample_foreground": 1.0}
    coarse_plan = tiny_plan("DemoCoarsePlans", 6.0, (24, 32, 32), 130 * request.effort, oversample)
    # Some crops hold no tumor: only a Dice over the batch lets them teach anything.
    fine_plan = tiny_plan("DemoROIPlans", 3.0, (32, 32, 32), 60 * request.effort, {"mc_samples": 3})
    fine_plan = replace(fine_plan, batch_size=4, batch_dice=True)
    # Up to two tumors; for speed, no mirroring and 10 samples.
    spec = CascadeSpec.of_preset("recommended")
    stage1, anatomy = replace(spec.stage1, mirroring=False), replace(spec.anatomy, top_k="all")
    spec = replace(spec, stage1=stage1, anatomy=anatomy, sampling=replace(spec.sampling, mc_samples=10))
    return TrainingRequest(
        dataset=_DATASET,
        roi_dataset=_ROI_DATASET,
        bundle=request.folder / "bundle",
        stage1=StageTraining(plan=coarse_plan, trainer="CascadeTrainer"),
        stage2=StageTraining(plan=fine_plan, trainer="UncertaintyROITrainer"),
        spec=spec,
        folds=request.folds,
        device=request.device,
        notes=(PHANTOM_NOTE,),
    )


def demo_baseline(request: DemoRequest) -> StageTraining:
    """Return a plain nnU-Net at the phantoms' own 3 mm with the gradient voxels of all deployed cascade models."""
    chain = demo_training(request)
    wanted = _voxels_of_a_fold(chain) * request.folds
    patch = (48, 64, 64)
    iterations = wanted / (TINY_EPOCHS * TINY_BATCH * math.prod(patch))
    plan = tiny_plan("DemoBaselinePlans", 3.0, patch, iterations, {"final_validation": False})
    return StageTraining(plan=plan, trainer="CascadeTrainer")


def gradient_voxels(stage: StageTraining) -> int:
    """Return the voxels that pass with gradient through one model of a stage while it is trained."""
    settings = TrainingSettings.from_plans({BLOCK: stage.plan.training})
    patch, batch = stage.plan.patch_size or (1, 1, 1), stage.plan.batch_size or 1
    return settings.epochs * settings.iterations_per_epoch * batch * math.prod(patch)


def _voxels_of_a_fold(chain: TrainingRequest) -> int:
    return gradient_voxels(chain.stage1) + gradient_voxels(chain.stage2)


def demo_report(rows: Sequence[Summary], chain: TrainingRequest, baseline: StageTraining) -> str:
    """Return table and training budgets as Markdown; every fold of the cascade predicts, so all of them count."""
    one_fold, plain = _voxels_of_a_fold(chain), gradient_voxels(baseline)
    lines = [
        "# Held-out phantoms (computer-drawn, no patients; no clinical claim follows)",
        "",
        format_table(rows),
        "",
        "Training budget, voxels with gradient through the models that predict (of these for folds beyond one):",
        "",
        f"- cascade: {one_fold * chain.folds / 1e6:.1f} million ({one_fold * (chain.folds - 1) / 1e6:.1f} million)",
        f"- {BASELINE}: {plain / 1e6:.1f} million",
        "",
        PHANTOM_NOTE,
    ]
    return "\n".join(lines) + "\n"


def _scores(request: DemoRequest, chain: TrainingRequest, baseline: StageTraining) -> dict[str, list[CaseScore]]:
    """Predict the held-out phantoms with both methods and score them on the phantoms' own grid."""
    device = torch.device(request.device)
    cascade = load_cascade(chain.bundle, device=device)
    plain = StageModel(model_of(_DATASET, baseline), StageSettings(folds=("all",), mirroring=False), device=device)
    source, output = raw_folder(_DATASET), request.folder / "predictions"
    output.mkdir(parents=True, exist_ok=True)
    notes = read_notes(chain.bundle)
    scores: dict[str, list[CaseScore]] = {method: [] for method in (*METHODS, BASELINE)}
    for path in tqdm(sorted((source / "imagesTs").glob("*.nii.gz")), desc="held-out phantoms", unit="case"):
        case, image = case_name(path), read_ct(path)
        truth = read_labels(source / "labelsTs" / f"{case}{ENDING}", image.grid, what="label") > 0
        result = predict_case(image, cascade, PrecomputedInputs(case=case))
        write_case(result, output, case, spec=cascade.spec, notes=notes)
        for score, method in zip(score_methods(case, result, truth), METHODS, strict=True):
            scores[method].append(score)
        mask = plain.predict_coarse(plain.prepare_coarse(image.array, image.grid.spacing_mm)).mask
        scores[BASELINE].append(score_case(case, truth, mask, image.grid.spacing_mm))
    return scores
