"""The cascade against a plain nnU-Net of the same gradient voxels, on phantoms that no choice was made on.

    python benchmarks/against_plain.py OUT [--test_seeds 7000 7095] [--training_seeds 0 1 2] [--effort 1]
    python benchmarks/against_plain.py OUT --bundle BUNDLE --test_seeds 4000 4031     # a bundle alone, to choose by

Both are trained on phantoms of `--train_seeds` by the default recipe in tiny size (`reproduction/tiny_plans.py`), once
for each training seed. Differences are averaged over the training seeds and bootstrapped by phantom. A lesion is found
if a component touches it; the cascade's components are ranked by the score of their candidate, the plain nnU-Net's by
their mean probability, with its threshold lowered until there are 8 false positives a scan. Run again, it goes on.
Phantoms are computer-drawn: no clinical claim follows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from nnunet_cascade.bundles.bundle import read_spec
from nnunet_cascade.case_folders.case_record import read_record
from nnunet_cascade.case_folders.records import record_path
from nnunet_cascade.cohort.cohort import CohortRequest, predict_cohort
from nnunet_cascade.cohort.jobs import CohortJob
from nnunet_cascade.evaluation.case import score_case
from nnunet_cascade.evaluation.findings import (
    ScoredFindings,
    findings_of,
    findings_of_probability,
    lowest_threshold,
)
from nnunet_cascade.evaluation.lesions import count_lesions
from nnunet_cascade.files import write_json
from nnunet_cascade.geometry import Mask
from nnunet_cascade.images import ENDING, read_ct, read_labels, read_volume, write_image
from nnunet_cascade.nnunet_folders import own_nnunet_folders
from nnunet_cascade.phantom.cohort import TRAIN_SEEDS, write_cohort
from nnunet_cascade.phantom.record import phantom_name
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.prediction.spec import StageSettings
from nnunet_cascade.prediction.stage_model import StageModel
from nnunet_cascade.reproduction.tiny_plans import BATCH, cascade_voxels, gradient_voxels, tiny_cascade, tiny_plain
from nnunet_cascade.scans.search import image_scans
from nnunet_cascade.training.pipeline import log_folder, model_of, train_cascade, train_stage
from nnunet_cascade.training.planning import PlanRequest, planned_batch
from nnunet_cascade.training.request import StageTraining, TrainingRequest

DATASET = 501
RESAMPLES = 9999
RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
SETTINGS = PhantomSettings(tumors=(1, 2))
FIGURES = ("dice", "lesions", "lesions_found", "false_positive_components")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What a system did on a phantom.

    Attributes:
        figures: Scores of the mask, by name.
        findings: All that it would call a finding at a low threshold, with scores.
        proposed: Lesions that stage 1's mask touches; those found, for a system without stages.
        regions: Candidates that stage 2 looked at.
        seconds: Of prediction, reading and writing included.
    """

    figures: dict[str, float]
    findings: ScoredFindings
    proposed: int
    regions: int = 0
    seconds: float = 0.0


def main() -> None:
    """Train what is not trained, predict what is not predicted, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train_seeds", type=int, nargs=2, default=(TRAIN_SEEDS[0], TRAIN_SEEDS[-1]))
    parser.add_argument("--test_seeds", type=int, nargs=2, default=(7000, 7095))
    parser.add_argument("--training_seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--effort", type=float, default=1.0)
    parser.add_argument("--bundle", type=Path, help="predict with this bundle alone, and train nothing")
    help_text = "judge from this score on instead of the stored one: what is to be gained, not what users get"
    parser.add_argument("--operating_point", type=float, help=help_text)
    args = parser.parse_args()
    out, (first, last) = args.out.absolute(), args.test_seeds
    tests = tuple(range(first, last + 1))
    with own_nnunet_folders(out):
        cases = Cases(make_phantoms(out, tuple(range(args.train_seeds[0], args.train_seeds[1] + 1)), tests), tests)
        if args.bundle is not None:
            scans = {
                "cascade": [cascade_scans(args.bundle, cases, out / "given" / args.bundle.name, args.operating_point)]
            }
        else:
            scans = {"cascade": [], "plain": []}
            for seed in args.training_seeds:
                bundle, plain = train(out, seed, args.effort)
                folder = out / "predictions" / f"cascade_{seed}"
                scans["cascade"].append(cascade_scans(bundle, cases, folder, args.operating_point))
                scans["plain"].append(plain_scans(plain, cases, out / "predictions" / f"plain_{seed}"))
    print(report(scans, args))


@dataclass(frozen=True, slots=True)
class Cases:
    """The test phantoms of a raw dataset, by seed."""

    raw: Path
    seeds: tuple[int, ...]

    @property
    def images(self) -> dict[str, Path]:
        """CTs by case."""
        return {phantom_name(s): self.raw / "imagesTs" / f"{phantom_name(s)}_0000{ENDING}" for s in self.seeds}

    def truth(self, case: str) -> Mask:
        """Read the true tumors (Z, Y, X)."""
        return read_volume(self.raw / "labelsTs" / f"{case}{ENDING}").array > 0


def make_phantoms(out: Path, train: tuple[int, ...], tests: tuple[int, ...]) -> Path:
    """Draw the training phantoms for nnU-Net, and the test phantoms apart, so that others can be tested on later."""
    raw = out / "nnUNet_raw" / f"Dataset{DATASET}_Phantoms"
    write_cohort(raw, train_seeds=train, test_seeds=(), settings=SETTINGS)
    beside = out / "test_phantoms" / f"{tests[0]}_{tests[-1]}"
    write_cohort(beside, train_seeds=(), test_seeds=tests, settings=SETTINGS)
    return beside


def cascade_of(out: Path, seed: int, effort: float = 1.0) -> TrainingRequest:
    """Return the default cascade in tiny size, of two folds."""
    name = _run_name(seed, effort)
    asked = TrainingRequest.of_preset(DATASET, out / f"bundle_{name}", device="cpu")
    asked = replace(
        asked,
        roi_dataset=600 + seed + (0 if effort == 1 else 100),
        stage1=named(asked.stage1, f"Coarse{name}"),
        stage2=named(asked.stage2, f"Fine{name}"),
        folds=2,
    )
    return tiny_cascade(asked, steps=effort, seed=seed)


def train(out: Path, seed: int, effort: float) -> tuple[Path, Path]:
    """Train a cascade and a plain nnU-Net with a seed; return bundle and model folder."""
    name, chain = _run_name(seed, effort), cascade_of(out, seed, effort)
    train_cascade(chain)
    fine_batch = planned_batch(chain.roi_dataset, chain.stage2.plan.name) or BATCH
    plain = StageTraining(plan=PlanRequest(name=f"Plain{name}"), trainer="CascadeTrainer")
    plain = tiny_plain(plain, models=1, steps=effort, fine_batch=fine_batch, seed=seed)
    voxels = [chain.folds * cascade_voxels(chain, fine_batch), gradient_voxels(plain)]
    print(f"training seed {seed}: million voxels with gradient {[round(each / 1e6, 1) for each in voxels]}")
    train_stage(DATASET, plain, chain, log_folder(chain), folds=("all",))
    return chain.bundle, model_of(DATASET, plain)


def _run_name(seed: int, effort: float) -> str:
    return f"Seed{seed}" if effort == 1 else f"Seed{seed}Effort{effort:g}".replace(".", "_")


def named(stage: StageTraining, name: str) -> StageTraining:
    """Return the stage with plans of its own."""
    return replace(stage, plan=replace(stage.plan, name=name))


def cascade_scans(bundle: Path, cases: Cases, folder: Path, operating_point: float | None = None) -> list[Scan]:
    """Predict as `nnc-cascade-predict` does, and score."""
    spec = read_spec(bundle)
    if operating_point is not None and spec.scoring is not None:
        spec = replace(spec, scoring=spec.scoring.with_operating_point(operating_point))
        folder = folder.with_name(f"{folder.name}_from_{operating_point:g}")
    job = CohortJob(bundle=bundle, spec=spec, output=folder)
    with closing(predict_cohort(CohortRequest(cases=image_scans(cases.images), job=job, resume=True))) as outcomes:
        failed = [
            each.case for each in tqdm(outcomes, total=len(cases.seeds), desc=folder.name) if each.status == "failed"
        ]
    if failed:
        raise SystemExit(f"{len(failed)} cases failed, such as {failed[0]}")
    return [_cascade_scan(case, cases.truth(case), folder) for case in tqdm(cases.images, desc="scores")]


def _cascade_scan(case: str, truth: Mask, folder: Path) -> Scan:
    record = read_record(record_path(folder, case))
    mask = read_volume(folder / f"{case}{ENDING}")
    grid, tumor = mask.grid, mask.array > 0
    proposals = folder / f"{case}_proposals{ENDING}"
    if proposals.is_file():
        scores = {each.id or 0: each.score or 0.0 for each in record.candidates or ()}
        findings = findings_of(read_labels(proposals, grid, what="proposals"), scores, truth)
    else:  # no score was stored
        probability = read_volume(folder / f"{case}_probability{ENDING}").array
        findings = findings_of_probability(np.where(tumor, probability, 0), 0.01, truth)
    stage1 = read_labels(folder / f"{case}_stage1{ENDING}", grid, what="stage 1") > 0
    seconds: Any = record.varying.seconds
    return Scan(
        figures=_figures(case, truth, tumor, grid.spacing_mm),
        findings=findings,
        proposed=count_lesions(truth, stage1).found,
        regions=len(record.rois or ()),
        seconds=sum(seconds.values()),
    )


def plain_scans(model: Path, cases: Cases, folder: Path) -> list[Scan]:
    """Predict with the plain nnU-Net, and score; its findings are those of the threshold that gives 8 false ones."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = {c: path for c, path in cases.images.items() if not (folder / f"{c}{ENDING}").is_file()}
    if missing:
        network = StageModel(model, StageSettings(folds=("all",)), device=torch.device("cpu"))
        for case, path in tqdm(missing.items(), desc=folder.name):
            image = read_ct(path)
            prepared = network.prepare_coarse(image.array, image.grid.spacing_mm)
            probability: Any = network.predict_everywhere(prepared).probability
            write_image(probability, image.grid, folder / f"{case}{ENDING}")

    def read() -> Any:
        return ((read_volume(folder / f"{case}{ENDING}").array, cases.truth(case)) for case in cases.images)

    threshold = lowest_threshold(read())
    scans: list[Scan] = []
    for case in tqdm(cases.images, desc="scores"):
        volume, truth = read_volume(folder / f"{case}{ENDING}"), cases.truth(case)
        figures = _figures(case, truth, volume.array >= 0.5, volume.grid.spacing_mm)
        findings = findings_of_probability(volume.array, threshold, truth)
        scans.append(Scan(figures=figures, findings=findings, proposed=int(figures["lesions_found"])))
    return scans


def _figures(case: str, truth: Mask, mask: Mask, spacing_mm: tuple[float, float, float]) -> dict[str, float]:
    score = asdict(score_case(case, truth, mask, spacing_mm))
    return {name: float(score[name]) for name in FIGURES}


def report(scans: dict[str, list[list[Scan]]], args: argparse.Namespace) -> str:
    """Return the table, with differences where there are two systems; also written as JSON."""
    runs = scans["cascade"]
    count, lesions = len(runs[0]), sum(scan.findings.lesions for scan in runs[0])
    lines = [f"{count} phantoms, {lesions} lesions, {len(runs)} training seeds; effort {args.effort:g}", ""]
    lines += ["| figure | " + " | ".join(scans) + " | cascade − plain [95 %] |", "|---" * (len(scans) + 2) + "|"]
    found: dict[str, Any] = {"test_seeds": args.test_seeds, "phantoms": count, "figures": {}}
    weights = _draws(count)
    for name, statistic in _statistics().items():
        values = {
            system: _averaged(statistic, of_system, np.ones((1, count)))[0] for system, of_system in scans.items()
        }
        shown = " | ".join(f"{value:.3f}" for value in values.values())
        difference = "–"
        if "plain" in scans:
            drawn = _averaged(statistic, runs, weights) - _averaged(statistic, scans["plain"], weights)
            low, high = np.nanpercentile(drawn, (2.5, 97.5))
            difference = f"{values['cascade'] - values['plain']:+.3f} [{low:+.3f}, {high:+.3f}]"
        lines.append(f"| {name} | {shown} | {difference} |")
        found["figures"][name] = {**values, "difference": difference}
    lost = [sum(max(0, s.proposed - s.figures["lesions_found"]) for s in run) / lesions for run in runs]
    regions = np.mean([[scan.regions for scan in run] for run in runs])
    seconds = np.mean([[scan.seconds for scan in run] for run in runs])
    lines += ["", f"lesions lost between stage 1 and the end: {100 * np.mean(lost):.1f} % of all"]
    lines += [f"regions a scan: {regions:.2f}; seconds a scan: {seconds:.1f}"]
    found |= {"lost": lost, "regions": float(regions), "seconds": float(seconds)}
    write_json(args.out / "against_plain.json", json.loads(json.dumps(found, default=str)))
    return "\n".join(lines)


Statistic = Callable[[Sequence[Scan], NDArray[np.float64]], NDArray[np.float64]]


def _averaged(
    statistic: Statistic, runs: Sequence[Sequence[Scan]], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return a statistic of draws of phantoms (draws, phantoms), averaged over the training seeds."""
    return np.mean([statistic(run, weights) for run in runs], axis=0)


def _draws(count: int) -> NDArray[np.float64]:
    """Return how often each phantom is in each draw."""
    random = np.random.default_rng(12345)
    return random.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(np.float64)


def _statistics() -> dict[str, Statistic]:
    def mean(name: str) -> Statistic:
        def of(run: Sequence[Scan], weights: NDArray[np.float64]) -> NDArray[np.float64]:
            return weights @ np.array([scan.figures[name] for scan in run]) / weights.sum(axis=1)

        return of

    def recall(run: Sequence[Scan], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        found, lesions = (np.array([scan.figures[n] for scan in run]) for n in ("lesions_found", "lesions"))
        return (weights @ found) / (weights @ lesions)

    named: dict[str, Statistic] = {"Dice": mean("dice"), "lesion recall": recall}
    named |= {"false positives a scan": mean("false_positive_components")}
    named |= {f"sensitivity at {rate:g} false positives a scan": _sensitivity(rate) for rate in RATES}
    return named


def _sensitivity(rate: float) -> Statistic:
    """Return the highest sensitivity with at most that many false positives a scan; equal scores pass together."""

    def of(run: Sequence[Scan], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        scores = np.unique(np.concatenate([scan.findings.scores for scan in run]))[::-1]
        false = np.stack([(s.findings.false_positive_scores[:, None] >= scores).sum(0) for s in run])
        true = np.stack([(s.findings.lesion_scores[:, None] >= scores).sum(0) for s in run])
        lesions = weights @ np.array([scan.findings.lesions for scan in run])
        allowed = weights @ false <= rate * weights.sum(axis=1, keepdims=True) + 1e-9
        return np.where(allowed, weights @ true, 0).max(axis=1, initial=0) / lesions

    return of


if __name__ == "__main__":
    main()
