"""Tuning of the anatomy rules on a folder of predictions with ground truth, and an honest report of what it gained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_cascade.case_folders.prediction_files import find_ct, read_label_map, read_true_tumor
from nnunet_cascade.case_folders.run import log_case_error
from nnunet_cascade.case_folders.run_report import RunContext, varying
from nnunet_cascade.dataset_conversion.folds import FoldCase, stratified_folds
from nnunet_cascade.errors import DatasetError, SettingsError
from nnunet_cascade.evaluation.lesions import count_lesions
from nnunet_cascade.evaluation.metric_info import without_nan
from nnunet_cascade.files import write_json
from nnunet_cascade.geometry import MM3_PER_ML
from nnunet_cascade.images import ENDING
from nnunet_cascade.postprocessing.settings import AnatomySettings
from nnunet_cascade.postprocessing.tuning import (
    TUNED,
    Flags,
    KnownCase,
    Measurements,
    SearchSpace,
    TunedFold,
    TuningScore,
    best_settings,
    cross_validate,
    kept_by,
    measure_known,
    score,
)
from nnunet_cascade.settings.serialization import to_json
from nnunet_cascade.versions import NOTICE, versions
from nnunet_cascade.workflows.anatomy_filter import LUNG_FOLDER, FilterRequest, aligned, lungs_of
from nnunet_cascade.workflows.lung_masks import read_thorax, source_settings

_FEW_PATIENTS = 30
_DEFINITIONS = {
    "true": "a candidate with at least one voxel of a true tumor; a dropped one is lost",
    "false": "a candidate without one",
    "patients": "cases with a true candidate; a case counts as losing where it loses one of them",
    "losing_at_most": "upper end of the one-sided 95 % confidence interval of the share of losing patients "
    "(Clopper and Pearson)",
    "recommended": "the thresholds of preset recommended, on the candidates that the given merging makes",
    "top_k": "is not applied in any of these figures",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningRequest:
    """What to tune on, and how.

    Attributes:
        filter: Images, output, lungs and tumor as for filtering; its anatomy is what is not tuned.
        truths: Folder of true label maps `<case>.nii.gz`, or the one of a single prediction.
        space: The values that are tried.
        folds: How many, drawn with `seed` and even in tumor volume, where there are no `splits`.
        seed: Of the folds.
        splits: The cases that each fold leaves out, as of `read_splits`; None draws them.

    Raises:
        SettingsError: There are fewer than two folds.
    """

    filter: FilterRequest
    truths: Path
    space: SearchSpace = field(default_factory=SearchSpace)
    folds: int = 5
    seed: int = 12345
    splits: tuple[tuple[str, ...], ...] | None = None

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise SettingsError(f"{self.folds} folds; expected at least 2 to leave patients out")

    @property
    def distances_mm(self) -> tuple[float, ...]:
        """The rescue distances to measure at: those that are tried and those to compare with."""
        compared = (self.filter.anatomy.rescue_distance_mm, AnatomySettings.recommended().rescue_distance_mm)
        return tuple(sorted({float(distance) for distance in (*self.space.rescue_distance_mm, *compared)}))


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredCase:
    """One case with its truth; what it holds is 0 or empty where it failed.

    Attributes:
        case: Its name.
        found: Its candidates.
        truth_ml: Volume of the true tumor.
        lesions: True tumors.
        lesions_met: Those that the prediction meets at all; no rule can bring back another.
        flags: Of its lungs.
        error: Why it failed, or "".
    """

    case: str
    found: Measurements | None = None
    truth_ml: float = 0.0
    lesions: int = 0
    lesions_met: int = 0
    flags: tuple[str, ...] = ()
    error: str = ""


def measure_cases(cases: Mapping[str, Path], request: TuningRequest) -> Iterator[MeasuredCase]:
    """Measure the candidates of every case once; a bad case is named and passed over."""
    for case, path in cases.items():
        try:
            yield _measure(case, path, request)
        except Exception as error:  # noqa: BLE001 - whatever one case does, the others go on
            yield MeasuredCase(case=case, error=log_case_error(case, error))


def _measure(case: str, path: Path, request: TuningRequest) -> MeasuredCase:
    given = request.filter
    ct = read_thorax(find_ct(given.images, case))
    tumor = given.tumor.mask(read_label_map(path, ct.grid, given.tumor, what="prediction"))
    truth_path = request.truths if request.truths.is_file() else request.truths / f"{case}{ENDING}"
    truth = read_true_tumor(truth_path, case, ct.grid, given.tumor)
    lungs = lungs_of(ct, given.lungs, given.output / LUNG_FOLDER, case=case)
    known = KnownCase(name=case, tumor=tumor, truth=truth, lungs=lungs.mask, grid=ct.grid)
    counts = count_lesions(truth, tumor)
    return MeasuredCase(
        case=case,
        found=measure_known(known, given.anatomy, request.distances_mm),
        truth_ml=int(np.count_nonzero(truth)) * ct.grid.voxel_volume_mm3 / MM3_PER_ML,
        lesions=counts.lesions,
        lesions_met=counts.found,
        flags=lungs.flags,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What tuning found.

    Attributes:
        settings: Found on all cases.
        in_sample: Scores on the cases they were found on, by the name of the settings.
        out_of_fold: Scores where each case was judged by settings found without it; of
            "recommended" on the same cases. None where patients could not be left out.
        folds: The settings of each fold.
        why_none: Why there is no `out_of_fold`, or "".
    """

    settings: AnatomySettings
    in_sample: Mapping[str, TuningScore]
    out_of_fold: Mapping[str, TuningScore] | None
    folds: tuple[TunedFold, ...] = ()
    why_none: str = ""


def tune(measured: Sequence[MeasuredCase], request: TuningRequest) -> Tuned:
    """Find the settings and cross-validate them.

    Raises:
        DatasetError: No case could be measured.
        SettingsError: No candidate meets a true tumor.
    """
    parts = [case.found for case in measured if case.found is not None]
    if not parts:
        raise DatasetError("no case could be measured; thresholds are tuned on predictions with CT and ground truth")
    found, base = Measurements.joined(parts), request.filter.anatomy
    settings = best_settings(found, request.space, base)
    compared = {"tuned": settings, "recommended": _recommended(base)}
    if base != compared["recommended"]:
        compared["given"] = base
    in_sample = {name: score(found, kept_by(found, each)) for name, each in compared.items()}
    try:
        left_out, tested = _folds(measured, found, request)
        folds, kept = cross_validate(tested, left_out, request.space, base)
    except SettingsError as error:
        return Tuned(settings=settings, in_sample=in_sample, out_of_fold=None, why_none=str(error))
    others = {name: kept_by(tested, each) for name, each in compared.items() if name != "tuned"}
    by_name: dict[str, Flags] = {"tuned": kept, **others}
    out_of_fold = {name: score(tested, each) for name, each in by_name.items()}
    return Tuned(settings=settings, in_sample=in_sample, out_of_fold=out_of_fold, folds=folds)


def _recommended(base: AnatomySettings) -> AnatomySettings:
    """Return the preset's thresholds on the candidates that `base` makes."""
    preset = AnatomySettings.recommended()
    names = (*TUNED, "rescue_min_volume_mm3")
    return replace(base, **{name: getattr(preset, name) for name in names})


def _folds(
    measured: Sequence[MeasuredCase], found: Measurements, request: TuningRequest
) -> tuple[list[list[str]], Measurements]:
    """Return the cases that each fold leaves out, and the candidates of all cases that are left out once."""
    usable = {case.case: case for case in measured if case.found is not None}
    if request.splits is not None:
        left_out = [[case for case in fold if case in usable] for fold in request.splits]
        left_out = [fold for fold in left_out if fold]
    else:
        count = min(request.folds, len(usable))
        cases = {name: FoldCase(case.truth_ml, name) for name, case in usable.items()}
        left_out = [fold["val"] for fold in stratified_folds(cases, count, seed=request.seed)]
    named = {case for fold in left_out for case in fold}
    if len(left_out) < 2:
        raise SettingsError(f"{len(usable)} patients in {len(left_out)} folds; patients are left out of at least 2")
    return left_out, found.rows(found.of_cases(named))


def read_splits(path: Path) -> tuple[tuple[str, ...], ...]:
    """Read the cases that each fold of nnU-Net's splits_final.json validates on.

    Raises:
        DatasetError: It cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return tuple(tuple(str(case) for case in fold["val"]) for fold in content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path} cannot be read as splits ({error}); expected nnU-Net's splits_final.json"
        ) from error


def write_tuning(
    tuned: Tuned, measured: Sequence[MeasuredCase], request: TuningRequest, story: RunContext
) -> tuple[Path, Path]:
    """Write `anatomy.json`, which the filter takes back, and `tuning.json`, all that was found; gives both paths."""
    folder, given = request.filter.output, request.filter
    settings, report = folder / "anatomy.json", folder / "tuning.json"
    content = {
        "notice": NOTICE,
        "conclusions": conclusions(tuned, measured),
        "definitions": _DEFINITIONS,
        "settings": tuned.settings.to_dict(),
        "in_sample": _scores(tuned.in_sample),
        "out_of_fold": None if tuned.out_of_fold is None else _scores(tuned.out_of_fold),
        "folds": [{"left_out": list(fold.left_out), "settings": _tuned_only(fold.settings)} for fold in tuned.folds],
        "cases": {case.case: _case_facts(case) for case in measured},
        "tried": {**to_json(request.space), "settings": int(request.space.allowed().sum())},
        "given": {
            "anatomy": given.anatomy.to_dict(),
            "lungs": source_settings(given.lungs),
            "tumor_values": list(given.tumor.values),
            "seed": request.seed,
        },
        "versions": versions(),
        "varying": varying(story),
    }
    write_json(settings, tuned.settings.to_dict())
    write_json(report, content)
    return settings, report


def _case_facts(case: MeasuredCase) -> dict[str, Any]:
    if case.found is None:
        return {"status": "failed", "error": case.error}
    facts = {
        "status": "done",
        "truth_ml": round(case.truth_ml, 4),
        "lesions": case.lesions,
        "lesions_met": case.lesions_met,
        "flags": list(case.flags),
    }
    names = ("true", "volume_mm3", "judged", "central", "lung_overlap", "lung_distance_mm")
    columns = {name: getattr(case.found, name).tolist() for name in names}
    distances = [str(distance) for distance in case.found.distances_mm]
    near = [dict(zip(distances, row, strict=True)) for row in case.found.near_surface_share.tolist()]
    rows = zip(*columns.values(), near, strict=True)
    candidates = [dict(zip((*columns, "near_surface_share"), row, strict=True)) for row in rows]
    return {**facts, "candidates": without_nan(candidates)}


def _scores(scores: Mapping[str, TuningScore]) -> dict[str, Any]:
    return {name: {**asdict(each), "losing_at_most": round(each.losing_at_most, 4)} for name, each in scores.items()}


def _tuned_only(settings: AnatomySettings) -> dict[str, float]:
    return {name: getattr(settings, name) for name in TUNED}


def tuning_table(tuned: Tuned) -> str:
    """Set what each settings lose and drop under each other, and the tuned thresholds beside the recommended."""
    rows = [("", "settings", "true lost", "patients losing one", "at most", "false dropped")]
    for where, scores in (("in sample", tuned.in_sample), ("out of fold", tuned.out_of_fold or {})):
        for name, each in scores.items():
            rows.append((where, name, *_score_cells(each)))
    preset = AnatomySettings.recommended()
    thresholds = [("threshold", "tuned", "recommended", "in the folds")]
    for name in TUNED:
        in_folds = ", ".join(f"{value:g}" for value in sorted({getattr(fold.settings, name) for fold in tuned.folds}))
        thresholds.append((name, f"{getattr(tuned.settings, name):g}", f"{getattr(preset, name):g}", in_folds or "–"))
    return f"{aligned(rows)}\n\n{aligned(thresholds)}"


def _score_cells(each: TuningScore) -> tuple[str, str, str, str]:
    return (
        f"{each.true_lost} of {each.true}",
        f"{each.patients_losing} of {each.patients}",
        f"{each.losing_at_most:.0%}",
        f"{each.false_dropped} of {each.false}",
    )


def conclusions(tuned: Tuned, measured: Sequence[MeasuredCase]) -> list[str]:
    """Say in plain sentences what was gained and how far the figures carry."""
    lines: list[str] = []
    lesions, met = sum(case.lesions for case in measured), sum(case.lesions_met for case in measured)
    if met < lesions:
        lines.append(f"The predictions miss {lesions - met} of {lesions} true tumors; no rule brings them back.")
    failed = sum(bool(case.error) for case in measured)
    if failed:
        lines.append(f"{failed} of {len(measured)} cases failed and were left out.")
    if tuned.in_sample["tuned"].false == 0:
        lines.append("No candidate is false: there is nothing to tune on; stay with recommended.")
    if tuned.out_of_fold is None:
        lines.append(f"Not cross-validated ({tuned.why_none}): the figures in sample flatter the tuned settings.")
        return lines
    mine, preset = tuned.out_of_fold["tuned"], tuned.out_of_fold["recommended"]
    left_out = {case for fold in tuned.folds for case in fold.left_out}
    unnamed = sum(case.found is not None and case.case not in left_out for case in measured)
    if unnamed:
        lines.append(f"{unnamed} cases are left out by no fold of the splits and count in sample alone.")
    lines.append(
        f"On patients they were not tuned on, tuned settings drop {mine.false_dropped} of {mine.false} false "
        f"candidates and lose {mine.true_lost} of {mine.true} true ones; "
        f"recommended drops {preset.false_dropped} and loses {preset.true_lost}."
    )
    lines.append(
        f"{mine.patients_losing} of {mine.patients} patients lose one; with 95 % confidence that is fewer than "
        f"{mine.losing_at_most:.0%} of patients like these."
    )
    if mine.patients < _FEW_PATIENTS:
        lines.append(f"{mine.patients} patients with a tumor are few: thresholds tuned on other ones may differ much.")
    if mine.true_lost > preset.true_lost:
        lines.append("Tuning loses more true candidates than recommended does: stay with recommended.")
    elif mine.true_lost == preset.true_lost and mine.false_dropped <= preset.false_dropped:
        lines.append("Tuning gains nothing over recommended: stay with recommended.")
    return lines
