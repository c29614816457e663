"""The demonstration: a cascade trained and tested on phantoms in minutes, beside a plain nnU-Net of equal budget."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from nnunet_cascade.bundles.bundle import read_spec
from nnunet_cascade.case_folders.case_files import find_images
from nnunet_cascade.case_folders.case_record import read_record
from nnunet_cascade.case_folders.records import record_path
from nnunet_cascade.cohort.cohort import CohortRequest, Workers, predict_cohort
from nnunet_cascade.cohort.jobs import CohortJob
from nnunet_cascade.dataset_conversion.cohort import ConversionRequest, convert_download
from nnunet_cascade.dataset_conversion.labels import Label
from nnunet_cascade.dataset_conversion.settings import ConversionSettings
from nnunet_cascade.errors import StepFailedError
from nnunet_cascade.evaluation.case import CaseScore, score_case
from nnunet_cascade.evaluation.statistics.bootstrap import Resampling
from nnunet_cascade.evaluation.statistics.paired import compare_paired
from nnunet_cascade.evaluation.summary import format_table, summarize, write_scores
from nnunet_cascade.geometry import Mask
from nnunet_cascade.images import ENDING, RealVolume, read_ct, read_volume, write_image
from nnunet_cascade.nnunet_folders import own_nnunet_folders
from nnunet_cascade.phantom.cohort import TEST_SEEDS, TRAIN_SEEDS
from nnunet_cascade.phantom.dicom import write_dicom_cohort
from nnunet_cascade.phantom.record import DESCRIPTION, phantom_name
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.postprocessing.anatomy import filter_candidates
from nnunet_cascade.postprocessing.lungs.source import find_lungs
from nnunet_cascade.prediction.spec import StageSettings
from nnunet_cascade.prediction.stage_model import StageModel
from nnunet_cascade.reproduction.tiny_plans import BATCH, cascade_voxels, gradient_voxels, tiny_cascade, tiny_plain
from nnunet_cascade.scans.search import image_scans
from nnunet_cascade.training.cross_validation import METHODS
from nnunet_cascade.training.pipeline import (
    log_folder,
    make_crops,
    model_of,
    proposals_of,
    train_cascade,
    train_stage,
)
from nnunet_cascade.training.planning import PlanRequest, planned_batch
from nnunet_cascade.training.proposals import proposed_threshold, read_proposal
from nnunet_cascade.training.request import StageTraining, TrainingRequest

_log = logging.getLogger(__name__)

PHANTOM_NOTE = (
    "The models were trained for minutes on computer-drawn phantoms: they show that the software works, "
    "and will not find real tumors well."
)
BASELINE = "plain nnU-Net, same budget"
_DATASET = 501


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRequest:
    """A demonstration.

    Attributes:
        folder: For everything it writes; run again, it goes on there.
        train: How many phantoms to train on.
        test: How many phantoms to test on.
        folds: Folds of the cross-validation.
        effort: Multiplies the training iterations.
        device: cpu, cuda or mps.
    """

    folder: Path
    train: int = 28
    test: int = 20
    folds: int = 2
    effort: float = 1.0
    device: str = "cpu"

    @property
    def bundle(self) -> Path:
        """The cascade."""
        return self.folder / "bundle"

    @property
    def predictions(self) -> Path:
        """Of the held-out phantoms, as `nnc-cascade-predict` writes them."""
        return self.folder / "predictions"

    @property
    def first_look(self) -> Path:
        """Of a training phantom: what stage 1 proposed, before stage 2 is trained."""
        return self.folder / "first_look"

    @property
    def dataset(self) -> Path:
        """The raw dataset; `imagesTs` and `labelsTs` are the held-out phantoms."""
        return self.folder / "nnUNet_raw" / f"Dataset{_DATASET}_Phantoms"


def run_demo(
    request: DemoRequest,
    *,
    proposed: Callable[[str], None] = lambda _: None,
    predicted: Callable[[], None] = lambda: None,
) -> str:
    """Make phantoms as DICOM, convert them, train cascade and baseline, predict held-out phantoms.

    Args:
        request: How much of it, and where.
        proposed: Called with the name of a phantom when there is something to see of it in `first_look`.
        predicted: Called when the cascade's predictions are there, before the baseline is trained.

    Returns:
        The table and the budgets, as Markdown; also written to `demo.md`.

    Raises:
        CascadeError: As the steps raise.
    """
    with own_nnunet_folders(request.folder):
        make_demo_dataset(request)
        chain = demo_training(request)
        make_crops(chain)
        proposed(_take_first_look(request, chain))
        train_cascade(chain)
        scores = _cascade_scores(request)
        predicted()
        fine_batch = planned_batch(chain.roi_dataset, chain.stage2.plan.name) or BATCH
        baseline = demo_baseline(request, fine_batch)
        _log.info("[baseline] %s", BASELINE)
        train_stage(_DATASET, baseline, chain, log_folder(chain), folds=("all",))
        scores[BASELINE] = _baseline_scores(request, baseline)
    write_scores(scores, request.folder)
    budgets = (chain.folds * cascade_voxels(chain, fine_batch), gradient_voxels(baseline))
    report = demo_report(scores, budgets, chain.folds)
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
    label = Label(name="tumor", regions=("GTV-1",))
    result = convert_download(
        ConversionRequest(
            source=dicom,
            dataset=request.dataset,
            settings=ConversionSettings(labels=(label,), case_names="patient-id", description=DESCRIPTION),
            test_patients=frozenset(phantom_name(seed) for seed in test),
        )
    )
    if result.left_out:
        raise StepFailedError(f"{len(result.left_out)} phantoms could not be converted; {result.manifest} tells why")
    return request.dataset


def demo_training(request: DemoRequest) -> TrainingRequest:
    """Return the cascade of the demonstration: what `nnc-train-cascade` trains by default, in tiny networks."""
    asked = TrainingRequest.of_preset(_DATASET, request.bundle, device=request.device)
    asked = replace(asked, folds=request.folds, notes=(PHANTOM_NOTE,))
    return tiny_cascade(asked, steps=request.effort)


def demo_baseline(request: DemoRequest, fine_batch: int = BATCH) -> StageTraining:
    """Return a plain nnU-Net with the gradient voxels of all cascade models that predict, in one model."""
    plain = StageTraining(plan=PlanRequest(name="DemoBaselinePlans"), trainer="CascadeTrainer")
    return tiny_plain(plain, models=1, steps=request.effort * request.folds / 2, fine_batch=fine_batch)


def demo_report(scores: Mapping[str, Sequence[CaseScore]], budgets: tuple[int, int], folds: int) -> str:
    """Return table, conclusion and budgets as Markdown.

    Args:
        scores: Of the same phantoms, by method; the cascade's and the plain nnU-Net's are compared.
        budgets: Voxels with gradient through all models of the cascade, for every fold predicts, and of the plain
            nnU-Net.
        folds: Of the cascade.
    """
    cascade, plain = (voxels / 1e6 for voxels in budgets)
    rows = [summarize(method, cases) for method, cases in scores.items()]
    lines = [
        "# Held-out phantoms (computer-drawn, no patients; no clinical claim follows)",
        "",
        format_table(rows),
        "",
        conclusion(scores[METHODS[-1]], scores[BASELINE]),
        "",
        "Training budget, voxels with gradient through the models that predict (of these for folds beyond one):",
        "",
        f"- cascade: {cascade:.1f} million ({cascade * (folds - 1) / folds:.1f} million)",
        f"- {BASELINE}: {plain:.1f} million",
        "",
        PHANTOM_NOTE,
    ]
    return "\n".join(lines) + "\n"


def conclusion(cascade: Sequence[CaseScore], plain: Sequence[CaseScore]) -> str:
    """Say in words what scores of the same cases, at least one, tell: who draws better, and what each finds."""
    difference = compare_paired([score.dice for score in cascade], [score.dice for score in plain], Resampling()).mean
    interval = difference.percentile
    if interval is None or interval.low <= 0 <= interval.high:
        verdict = "These phantoms do not tell whether the cascade or the plain nnU-Net draws better"
    else:
        verdict = f"The cascade draws {'better' if interval.low > 0 else 'worse'} than the plain nnU-Net"
    ends = "" if interval is None else f" [{interval.low:+.3f}, {interval.high:+.3f}]"
    return (
        f"{verdict} (Dice {difference.value:+.3f}{ends}). The cascade found {_found(cascade)}; the plain nnU-Net "
        f"found {_found(plain)}."
    )


def _found(scores: Sequence[CaseScore]) -> str:
    lesions, found = sum(score.lesions for score in scores), sum(score.lesions_found for score in scores)
    false = sum(score.false_positive_components for score in scores)
    return f"{found} of {lesions} lesions, with {false} false {'finding' if false == 1 else 'findings'}"


def _take_first_look(request: DemoRequest, chain: TrainingRequest) -> str:
    """Write what stage 1 proposed for a phantom that its model had not seen, and the candidates; return its name."""
    asked = proposals_of(chain)
    case = min(asked.splits[0]["val"])
    image = read_ct(request.dataset / "imagesTr" / f"{case}_0000{ENDING}")
    proposal = read_proposal(asked, case, image.grid)
    mask, lungs = proposal.mask(proposed_threshold(asked)), find_lungs(image, asked.spec.lungs, case=case)
    filtered = filter_candidates(
        mask, image.grid, lungs, asked.spec.anatomy, probability=proposal.probability, ask_stage2=True
    )
    request.first_look.mkdir(exist_ok=True)
    maps = {"_stage1": mask, "_candidates": filtered.labels.astype(np.uint16), "_lungs": lungs.labels}
    for name, array in maps.items():
        write_image(array, image.grid, request.first_look / f"{case}{name}{ENDING}")
    return case


def _cascade_scores(request: DemoRequest) -> dict[str, list[CaseScore]]:
    """Predict the held-out phantoms as `nnc-cascade-predict` does, and score them on the phantoms' own grid."""
    images = find_images(request.dataset / "imagesTs")
    job = CohortJob(bundle=request.bundle, spec=read_spec(request.bundle), output=request.predictions)
    workers = Workers(devices=(request.device,))
    asked = CohortRequest(cases=image_scans(images), job=job, resume=True, workers=workers)
    with closing(predict_cohort(asked)) as outcomes:
        for outcome in tqdm(outcomes, total=len(images), desc="held-out phantoms", unit="case"):
            if outcome.status == "failed":
                raise StepFailedError(f"{outcome.case}: {outcome.error}")
    scores: dict[str, list[CaseScore]] = {method: [] for method in METHODS}
    for case in images:
        truth = _truth(request, case)
        for method, mask in zip(METHODS, _masks(request.predictions, case), strict=True):
            scores[method].append(score_case(case, truth.array > 0, mask, truth.grid.spacing_mm))
    return scores


def _truth(request: DemoRequest, case: str) -> RealVolume:
    return read_volume(request.dataset / "labelsTs" / f"{case}{ENDING}")


def _masks(folder: Path, case: str) -> tuple[Mask, Mask, Mask]:
    """Read what stage 1 drew, what was kept of it, and what the cascade drew."""
    kept = [each.id or 0 for each in read_record(record_path(folder, case)).candidates or () if each.verdict.kept]
    stage1, candidates, tumor = (
        read_volume(folder / f"{case}{suffix}{ENDING}").array for suffix in ("_stage1", "_candidates", "")
    )
    return stage1 > 0, np.isin(candidates, kept), tumor > 0


def _baseline_scores(request: DemoRequest, baseline: StageTraining) -> list[CaseScore]:
    """Predict the held-out phantoms with the plain nnU-Net, and score them."""
    device = torch.device(request.device)
    plain = StageModel(model_of(_DATASET, baseline), StageSettings(folds=("all",)), device=device)
    scores: list[CaseScore] = []
    for case, path in tqdm(find_images(request.dataset / "imagesTs").items(), desc=BASELINE, unit="case"):
        image, truth = read_ct(path), _truth(request, case)
        mask = plain.predict_coarse(plain.prepare_coarse(image.array, image.grid.spacing_mm)).mask
        scores.append(score_case(case, truth.array > 0, mask, image.grid.spacing_mm))
    return scores
