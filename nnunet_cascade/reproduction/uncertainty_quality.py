"""What the uncertainty of the adaptive loss is worth: does it find errors, order cases, and can it be calibrated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from nnunet_cascade.case_folders.prediction_files import TumorLabel
from nnunet_cascade.cohort.cohort import predict_cohort
from nnunet_cascade.cohort.jobs import CohortJob
from nnunet_cascade.evaluation.calibration.counts import added
from nnunet_cascade.evaluation.calibration.overlap import error_overlap
from nnunet_cascade.evaluation.calibration.regions import REGIONS, region_of
from nnunet_cascade.evaluation.calibration.selective import ReviewPoint, RiskCoverage, review_curve, risk_coverage
from nnunet_cascade.evaluation.calibration.temperature import fit_temperature, nll_at
from nnunet_cascade.evaluation.comparison import ComparisonSettings, MethodComparison, compare
from nnunet_cascade.evaluation.statistics.bootstrap import Resampling
from nnunet_cascade.evaluation.tables import overview_table
from nnunet_cascade.images import ENDING, read_labels, read_volume
from nnunet_cascade.nnunet_folders import raw_folder
from nnunet_cascade.reproduction.cases import EvaluationSplit, evaluation_splits
from nnunet_cascade.reproduction.prediction import cohort_of, system_folder, system_spec
from nnunet_cascade.reproduction.request import ReproductionRequest, training_request
from nnunet_cascade.reproduction.systems import RoiModel, System
from nnunet_cascade.training.pipeline import cross_validation_folder, train_cascade
from nnunet_cascade.uncertainty.measures import binary_entropy
from nnunet_cascade.workflows.calibration import CalibratedCase, CalibrationRequest, find_results, measure_results

SINGLE = "entropy of a single pass"
UNCERTAIN = System(model=RoiModel(loss="uncertainty"))


@dataclass(frozen=True, slots=True, kw_only=True)
class UncertaintyQuality:
    """What is known of a system's uncertainty on held-out cases.

    Attributes:
        errors: Area under the ROC curve of finding wrong voxels, by what is taken for uncertainty and region;
            the entropy of a single pass, which finds its own errors, is the reference.
        order: How well the mean uncertainty in the predicted tumor orders cases by 1 − Dice.
        review: What is caught when the most uncertain cases are looked at.
        temperature: Fitted to cases that were left out in training, none of them tested.
        calibrated: NLL of the tested cases, with T = 1 and with that temperature.
    """

    errors: MethodComparison
    order: RiskCoverage
    review: tuple[ReviewPoint, ...]
    temperature: float
    calibrated: MethodComparison


def evaluate_uncertainty(request: ReproductionRequest, system: System = UNCERTAIN) -> UncertaintyQuality:
    """Measure it: predicts the held-out cases once more without dropout, and cross-validates the bundle.

    Raises:
        CascadeError: As prediction raises, or no temperature can be fitted.
    """
    (part,) = evaluation_splits(request)
    resampling = Resampling(resamples=request.resamples, seed=request.seed)
    chain = training_request(request, system.model)
    train_cascade(chain)
    sampled = _measured(request, system_folder(request, system), next(iter(part.labels.values())).parent)
    crossed = _measured(request, cross_validation_folder(chain), raw_folder(request.number) / "labelsTr")
    cases = list(sampled.values())
    dices, doubts = [case.dice for case in cases], [case.uncertainty for case in cases]
    temperature = fit_temperature(added(case.counts["union"] for case in crossed.values())).temperature
    settings = ComparisonSettings(resampling=resampling)
    errors = {SINGLE: _single_pass(request, system, part), **_of_samples(request, system, part, sampled)}
    return UncertaintyQuality(
        errors=compare(errors, settings),
        order=risk_coverage(dices, doubts, resampling),
        review=tuple(review_curve(dices, doubts, resampling=resampling)),
        temperature=temperature,
        calibrated=compare(
            {name: _nll(sampled, value) for name, value in (("T = 1", 1.0), (f"T = {temperature:.3f}", temperature))},
            settings,
        ),
    )


def _measured(request: ReproductionRequest, results: Path, truths: Path) -> dict[str, CalibratedCase]:
    task = CalibrationRequest(
        bundle=results, results=results, truths=truths, tumor=TumorLabel(values=request.tumor_labels, named=True)
    )
    found = find_results(results)
    shown = tqdm(measure_results(found, task), total=len(found), desc="uncertainty", unit="case")
    return {case.case: case for case in shown if not case.error}


def _nll(cases: Mapping[str, CalibratedCase], temperature: float) -> dict[str, dict[str, float]]:
    return {
        name: {f"nll_{region}": nll_at(found, temperature) for region, found in case.counts.items()}
        for name, case in cases.items()
    }


def _of_samples(
    request: ReproductionRequest, system: System, part: EvaluationSplit, cases: Mapping[str, CalibratedCase]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the areas of the variance over the samples, and of the entropy of their mean."""
    folder = system_folder(request, system)
    samples = system_spec(request, system, part).sampling.mc_samples
    variance = {
        name: {f"auroc_{region}": found.auroc for region, found in case.overlaps.items()}
        for name, case in cases.items()
    }
    entropy = {name: _entropy_areas(request, folder, name, part) for name in cases}
    return {f"variance of {samples} samples": variance, f"entropy of the mean of {samples} samples": entropy}


def _single_pass(request: ReproductionRequest, system: System, part: EvaluationSplit) -> dict[str, dict[str, float]]:
    """Predict without dropout and give the areas of that prediction's entropy in finding its own errors."""
    spec = system_spec(request, system, part)
    spec = replace(spec, sampling=replace(spec.sampling, mc_samples=0))
    folder = system_folder(request, system).with_name(f"{system.key}_single_pass")
    job = CohortJob(bundle=training_request(request, system.model).bundle, spec=spec, output=folder, with_stage1=False)
    outcomes = predict_cohort(cohort_of(request, system, part, job))
    done = [o.case for o in tqdm(outcomes, total=len(part.images), desc="single pass", unit="case") if not o.error]
    return {case: _entropy_areas(request, folder, case, part) for case in done}


def _entropy_areas(request: ReproductionRequest, folder: Path, case: str, part: EvaluationSplit) -> dict[str, float]:
    probability = read_volume(folder / f"{case}_probability{ENDING}")
    grid = probability.grid
    truth = np.isin(read_labels(part.labels[case], grid, what="label"), request.tumor_labels)
    mask = read_labels(folder / f"{case}{ENDING}", grid, what="prediction") > 0
    looked_at = read_labels(folder / f"{case}_roi{ENDING}", grid, what="ROI map") > 0
    doubt = binary_entropy(torch.from_numpy(probability.array)).numpy()
    regions = {name: region_of(name, truth, mask, grid.spacing_mm) & looked_at for name in REGIONS}
    return {f"auroc_{name}": error_overlap(doubt, truth, mask, region).auroc for name, region in regions.items()}


def uncertainty_section(worth: UncertaintyQuality) -> str:
    """Set it as a section of a page of Markdown."""
    regions = "; ".join(f"{name}: {text}" for name, text in REGIONS.items())
    head = (
        "Area under the ROC curve of finding wrong voxels among those that stage 2 looked at, case by case "
        f"({regions})."
    )
    fitted = (
        f"A temperature fitted to cases left out in training is {worth.temperature:.3f}; it is of single folds, which "
        "are surer than the folds together that it is tried on. With it, on the tested cases:"
    )
    parts = (
        "## What the uncertainty of the adaptive loss is worth",
        head,
        overview_table(worth.errors, metrics=[f"auroc_{name}" for name in REGIONS]).rstrip("\n"),
        _in_words(worth.order),
        f"Of the worst quarter of the cases are caught: {', '.join(map(_caught, worth.review))}.",
        fitted,
        overview_table(worth.calibrated, metrics=[f"nll_{name}" for name in REGIONS]).rstrip("\n"),
    )
    return "\n\n".join(parts)


def _in_words(order: RiskCoverage) -> str:
    interval = order.gain_interval
    gain = "" if interval is None else f" [{interval.low:+.3f}, {interval.high:+.3f}]"
    return (
        f"Ordering {order.cases} cases by their mean variance in the predicted tumor: AURC {order.aurc:.3f} with risk "
        f"1 − Dice, {order.random_aurc:.3f} in random order, {order.best_aurc:.3f} at best; "
        f"gain over random {order.gain:+.3f}{gain}."
    )


def _caught(point: ReviewPoint) -> str:
    chance = f"{point.random_fraction:.0%} by chance"
    return f"{point.caught:.3g} of {point.worst} when {point.share:.0%} are reviewed ({chance})"
