"""The anatomy filter on a folder of predictions of any nnU-Net model."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_cascade.case_folders.case_record import CaseRecord
from nnunet_cascade.case_folders.prediction_files import (
    TumorLabel,
    dataset_file,
    find_ct,
    read_label_map,
    read_probability,
    read_uncertainty,
    uncertainty_path,
)
from nnunet_cascade.case_folders.record_parts import TumorRecord, VaryingRecord
from nnunet_cascade.case_folders.run import FolderTask, Outcome
from nnunet_cascade.errors import NoLungsError
from nnunet_cascade.flags import Flag
from nnunet_cascade.geometry import MM3_PER_ML, Grid, Mask
from nnunet_cascade.images import ENDING, Volume, write_image
from nnunet_cascade.postprocessing.anatomy import FilteredCandidates, filter_candidates
from nnunet_cascade.postprocessing.lungs.inputs import lung_files
from nnunet_cascade.postprocessing.lungs.result import LungMask
from nnunet_cascade.postprocessing.lungs.source import LungSource
from nnunet_cascade.postprocessing.scoring.score import CandidateScore
from nnunet_cascade.postprocessing.settings import AnatomySettings
from nnunet_cascade.prediction.judgement import judge_by_score
from nnunet_cascade.scans.flags import grid_flags
from nnunet_cascade.settings.serialization import to_json
from nnunet_cascade.workflows.lung_masks import kept_lungs, lung_record, read_thorax, source_settings

LUNG_FOLDER = "lungs"
_COLUMNS = ("case", "candidates", "kept", "dropped", "flags")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterRequest:
    """What to filter, and how.

    Attributes:
        images: Folder of the CTs, or the one of a single prediction.
        output: Folder for filtered masks and records; lung masks are kept in its folder `lungs`.
        anatomy: What the rules ask.
        lungs: Where lung masks come from.
        tumor: Which values are tumor.
        score: Judges the candidates, as far as it goes without stage 2; None lets the rules decide alone.
        uncertainty: Folder of maps `<case>_uncertainty.nii.gz` or `<case>.nii.gz`, to rank by; None has none.
        resume: Leave out cases that an earlier run did with the same settings.
    """

    images: Path
    output: Path
    anatomy: AnatomySettings = field(default_factory=AnatomySettings.recommended)
    lungs: LungSource = field(default_factory=LungSource)
    tumor: TumorLabel = field(default_factory=TumorLabel)
    uncertainty: Path | None = None
    score: CandidateScore | None = None
    resume: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LungFindings:
    """The lungs of a case.

    Attributes:
        mask: None where the CT shows no lungs, or nothing was asked of them.
        flags: What a reader should know of them.
        notes: Why, a line each.
    """

    mask: LungMask | None = None
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def filter_task(request: FilterRequest) -> FolderTask:
    """Return the task that filters each prediction and writes it under its own name."""

    def work(case: str, path: Path) -> CaseRecord:
        return _filter_file(case, path, request)

    def inputs(case: str, path: Path) -> list[Path]:
        maps = [] if request.uncertainty is None else [uncertainty_path(request.uncertainty, case)]
        ct, probability = find_ct(request.images, case), path.with_name(f"{case}.npz")
        return [path, ct, probability, *maps, *lung_files(request.lungs, case)]

    settings = {
        "anatomy": request.anatomy.to_dict(),
        "lungs": source_settings(request.lungs),
        "tumor_values": list(request.tumor.values),
        "uncertainty": request.uncertainty is not None,
        **({} if request.score is None else {"score": to_json(request.score)}),
    }
    return FolderTask(output=request.output, settings=settings, work=work, inputs=inputs, resume=request.resume)


def keep_dataset_file(predictions: Path, output: Path) -> None:
    """Copy `dataset.json` beside the filtered masks, so that their labels can be told as those of the predictions."""
    found = dataset_file(predictions)
    if found is not None:
        shutil.copyfile(found, output / "dataset.json")


def lungs_of(ct: Volume, source: LungSource, folder: Path, *, case: str) -> LungFindings:
    """Find the lungs of a case, or say why there are none to judge by; candidates are then kept.

    Raises:
        LungMaskError, GridMismatchError, InputImageError: A mask that ought to be there is not, or does not fit.
    """
    try:
        lungs = kept_lungs(ct, source, folder, case=case)
    except NoLungsError as error:
        return LungFindings(flags=(Flag.LUNGS_NOT_FOUND,), notes=(str(error),))
    return LungFindings(mask=lungs, flags=lungs.flags)


def _filter_file(case: str, path: Path, request: FilterRequest) -> CaseRecord:
    begun = time.perf_counter()
    ct = read_thorax(find_ct(request.images, case))
    labels = read_label_map(path, ct.grid, request.tumor, what="prediction")
    tumor = request.tumor.mask(labels)
    probability, unused = read_probability(path.with_name(f"{case}.npz"), request.tumor, tumor)
    lungs = LungFindings()
    if tumor.any():
        lungs = lungs_of(ct, request.lungs, request.output / LUNG_FOLDER, case=case)
    uncertainty = None if request.uncertainty is None else read_uncertainty(request.uncertainty, case, ct.grid)
    filtered = filter_candidates(
        tumor,
        ct.grid,
        lungs.mask,
        request.anatomy,
        probability=probability,
        uncertainty=uncertainty,
        ask_stage2=request.score is not None,
    )
    if request.score is not None:
        filtered = judge_by_score(filtered, request.score, request.anatomy)
    kept = filtered.kept_mask()
    name = f"{case}{ENDING}"
    write_image(np.where(tumor & ~kept, 0, labels).astype(labels.dtype), ct.grid, request.output / name)
    notes = [*lungs.notes, *([unused] if unused else []), *grid_flags(ct.grid).values()]
    return CaseRecord(
        case=case,
        files={name: None},
        flags=_flags(filtered, lungs, ct.grid, probability_unused=bool(unused)),
        notes=tuple(notes),
        grid=ct.grid,
        tumor=TumorRecord(
            values=request.tumor.values,
            before_ml=_ml(tumor, ct.grid),
            after_ml=_ml(kept, ct.grid),
            probability_known=probability is not None,
            uncertainty_known=uncertainty is not None,
        ),
        lungs=None if lungs.mask is None else lung_record(lungs.mask, ct.grid),
        candidates=tuple(candidate.to_record() for candidate in filtered.candidates),
        varying=VaryingRecord(seconds=round(time.perf_counter() - begun, 3)),
    )


def _flags(
    filtered: FilteredCandidates, lungs: LungFindings, grid: Grid, *, probability_unused: bool
) -> tuple[str, ...]:
    """Collect what a reader should look at, each once, in the order of the steps."""
    raised = {
        **dict.fromkeys(grid_flags(grid), True),
        Flag.PROBABILITY_UNUSED: probability_unused,
        Flag.NO_CANDIDATE: not filtered.candidates,
    }
    known_better = {Flag.LUNGS_MISSING} if lungs.flags or not filtered.candidates else set[str]()
    of_rules = [flag for flag in filtered.flags if flag not in known_better]
    return tuple(dict.fromkeys((*lungs.flags, *(flag for flag, up in raised.items() if up), *of_rules)))


def _ml(mask: Mask, grid: Grid) -> float:
    return round(int(np.count_nonzero(mask)) * grid.voxel_volume_mm3 / MM3_PER_ML, 4)


def filter_figures(record: CaseRecord) -> Mapping[str, Any]:
    """Return what a run's files tell of a case."""
    verdicts = [candidate.verdict for candidate in record.candidates or ()]
    dropped = Counter(verdict.rule for verdict in verdicts if not verdict.kept)
    tumor = record.tumor or TumorRecord()
    return {
        "candidates": len(verdicts),
        "kept": sum(bool(verdict.kept) for verdict in verdicts),
        "dropped": dict(sorted(dropped.items())),
        "before_ml": tumor.before_ml,
        "after_ml": tumor.after_ml,
        "lungs_ml": None if record.lungs is None else record.lungs.volume_ml,
        "flags": list(record.flags or ()),
    }


def verdict_table(outcomes: Sequence[Outcome]) -> str:
    """Set the cases under each other: candidates, how many were kept, how many each rule dropped, flags."""
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for outcome in outcomes:
        if outcome.record is None:
            rows.append((outcome.case, "–", "–", "–", f"failed: {outcome.error}"))
            continue
        figures = filter_figures(outcome.record)
        dropped = ", ".join(f"{rule} {count}" for rule, count in figures["dropped"].items())
        flags = ", ".join(figures["flags"])
        rows.append((outcome.case, str(figures["candidates"]), str(figures["kept"]), dropped or "–", flags or "–"))
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Set rows of text in columns, the last one as long as it is."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    )
