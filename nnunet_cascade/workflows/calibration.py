"""Calibration of a folder of results with ground truth: what each case measures, and the temperature it asks for."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_cascade.bundles.bundle import read_spec
from nnunet_cascade.case_folders.case_record import read_record
from nnunet_cascade.case_folders.prediction_files import TumorLabel, read_true_tumor
from nnunet_cascade.case_folders.records import record_path
from nnunet_cascade.case_folders.run import log_case_error
from nnunet_cascade.errors import InputImageError, RecordError, one_line
from nnunet_cascade.evaluation.calibration.comparison import CalibrationComparison, compare_methods
from nnunet_cascade.evaluation.calibration.counts import CalibrationCounts, added, count_voxels
from nnunet_cascade.evaluation.calibration.overlap import ErrorOverlap, error_overlap
from nnunet_cascade.evaluation.calibration.regions import REGIONS, RegionName, region_of
from nnunet_cascade.evaluation.calibration.temperature import (
    HeldOut,
    TemperatureError,
    TemperatureFit,
    fit_temperature,
    leave_one_out,
    scaled_counts,
    temperature_interval,
)
from nnunet_cascade.evaluation.overlap import dice
from nnunet_cascade.evaluation.statistics.bootstrap import Interval, Resampling
from nnunet_cascade.evaluation.statistics.replicates import RESAMPLING
from nnunet_cascade.files import sha256_of
from nnunet_cascade.images import ENDING, read_labels, read_volume

_PROBABILITY = f"_probability{ENDING}"
BEFORE, AFTER = "T = 1", "T of the other cases"


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRequest:
    """What to calibrate, and on what.

    Attributes:
        bundle: The cascade that made the results.
        results: Folder of `nnc-cascade-predict`, or of the cross-validation that training ends with.
        truths: Folder of true label maps `<case>.nii.gz`.
        tumor: Which of their values are tumor.
        region: Whose voxels the temperature is fitted to.
        resampling: How intervals are drawn.
    """

    bundle: Path
    results: Path
    truths: Path
    tumor: TumorLabel = field(default_factory=TumorLabel)
    region: RegionName = "union"
    resampling: Resampling = RESAMPLING


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFiles:
    """One case of a folder of results.

    Attributes:
        case: Its name.
        settings: It was made with, as its record holds them.
        digest: SHA-256 of the record.
    """

    case: str
    settings: Mapping[str, Any]
    digest: str

    @property
    def temperature(self) -> float:
        """The temperature its probability was scaled with."""
        return float(self.settings.get("stage2", {}).get("temperature", 1.0))

    @property
    def folds(self) -> tuple[Any, ...]:
        """The folds of stage 2 that predicted it."""
        return tuple(self.settings.get("stage2", {}).get("folds", ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedCase:
    """What is measured of one case; empty where it failed.

    Attributes:
        case: Its name.
        counts: By region, of its voxels that stage 2 looked at.
        everywhere: By region, of all its voxels; where stage 2 did not look, p is 0.
        dice: Of the mask; NaN where both masks are empty.
        uncertainty: Mean over the predicted tumor; NaN without one or without samples.
        overlaps: Of uncertainty and errors, by region; none without samples.
        error: Why it failed, or "".
    """

    case: str
    counts: Mapping[str, CalibrationCounts] = field(default_factory=dict[str, CalibrationCounts])
    everywhere: Mapping[str, CalibrationCounts] = field(default_factory=dict[str, CalibrationCounts])
    dice: float = math.nan
    uncertainty: float = math.nan
    overlaps: Mapping[str, ErrorOverlap] = field(default_factory=dict[str, ErrorOverlap])
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What the results say about the bundle's probabilities.

    Attributes:
        fit: To all cases together.
        interval: Of the temperature, over cases; None for fewer than 3.
        held_out: By region, each case before and after scaling by the temperature of the others,
            which is that of the request's region.
        comparisons: Of these, by region; none where no case could be held out.
        in_sample: By region, all cases together before and after scaling by the temperature.
    """

    fit: TemperatureFit
    interval: Interval | None
    held_out: Mapping[str, HeldOut]
    comparisons: Mapping[str, CalibrationComparison]
    in_sample: Mapping[str, tuple[CalibrationCounts, CalibrationCounts]]


def find_results(folder: Path) -> tuple[ResultFiles, ...]:
    """List the cases of a folder of results, by their probability maps and records.

    Raises:
        InputImageError: There is none, or a record is missing or broken.
        TemperatureError: A probability was made with another temperature than 1: what is fitted
            to it would come on top.
    """
    cases = sorted(path.name.removesuffix(_PROBABILITY) for path in folder.glob(f"[!.]*{_PROBABILITY}"))
    if not cases:
        raise InputImageError(
            f"{folder} holds no <case>{_PROBABILITY}; expected a folder of nnc-cascade-predict, "
            "or <bundle>_cross_validation of nnc-train-cascade"
        )
    found = tuple(_read_record(folder, case) for case in cases)
    scaled = [each for each in found if each.temperature != 1]
    if scaled:
        raise TemperatureError(
            f"{len(scaled)} of {len(found)} results, such as {scaled[0].case}, were made with temperature "
            f"{scaled[0].temperature:g}; expected 1: set stage2.temperature of the bundle's cascade.json to 1 and "
            "predict again, or give results from before it was calibrated"
        )
    return found


def _read_record(folder: Path, case: str) -> ResultFiles:
    path = record_path(folder, case)
    try:
        settings = read_record(path).settings
        found = ResultFiles(case=case, settings=settings or {}, digest=sha256_of(path))
        float(found.temperature)
    except (RecordError, OSError, ValueError, TypeError, AttributeError) as error:
        raise InputImageError(
            f"{path} cannot be read as the record of a case ({one_line(error)}); predict {case} again"
        ) from error
    if settings is None:
        raise InputImageError(f"{path} tells no settings; expected the record of a case: predict {case} again")
    return found


def measure_results(found: Sequence[ResultFiles], request: CalibrationRequest) -> Iterator[CalibratedCase]:
    """Measure every case once; a bad one, or one without truth, is named and passed over."""
    for files in found:
        try:
            yield _measure(files.case, request)
        except Exception as error:  # noqa: BLE001 - whatever one case does, the others go on
            yield CalibratedCase(case=files.case, error=log_case_error(files.case, error))


def _measure(case: str, request: CalibrationRequest) -> CalibratedCase:
    folder = request.results
    volume = read_volume(folder / f"{case}{_PROBABILITY}")
    truth = read_true_tumor(request.truths / f"{case}{ENDING}", case, volume.grid, request.tumor)
    tumor = read_labels(folder / f"{case}{ENDING}", volume.grid, what="result") > 0
    looked_at = read_labels(folder / f"{case}_roi{ENDING}", volume.grid, what="ROI map") > 0
    regions = {name: region_of(name, truth, tumor, volume.grid.spacing_mm) for name in REGIONS}
    inside = {name: region & looked_at for name, region in regions.items()}
    doubt_path = folder / f"{case}_uncertainty{ENDING}"
    doubt = read_volume(doubt_path).array if doubt_path.is_file() else None
    overlaps = {} if doubt is None else {name: error_overlap(doubt, truth, tumor, inside[name]) for name in REGIONS}
    return CalibratedCase(
        case=case,
        counts={name: count_voxels(volume.array, truth, region) for name, region in inside.items()},
        everywhere={name: count_voxels(volume.array, truth, region) for name, region in regions.items()},
        dice=dice(truth, tumor),
        uncertainty=math.nan if doubt is None or not tumor.any() else float(doubt[tumor].mean(dtype=np.float64)),
        overlaps=overlaps,
    )


def calibrate(measured: Sequence[CalibratedCase], request: CalibrationRequest) -> Calibration:
    """Fit the temperature to all cases, and to all but one for each in turn.

    Raises:
        TemperatureError: No temperature can be fitted.
        InputImageError: No case could be measured.
    """
    usable = [case for case in measured if not case.error]
    if not usable:
        raise InputImageError("no case could be measured; a temperature is fitted to results with ground truth")
    by_region = {name: {case.case: case.counts[name] for case in usable} for name in REGIONS}
    fitted = by_region[request.region]
    total = {name: added(cases.values()) for name, cases in by_region.items()}
    fit = fit_temperature(total[request.region])
    held_out = {name: leave_one_out(cases, fitted_to=fitted) for name, cases in by_region.items()}
    return Calibration(
        fit=fit,
        interval=temperature_interval(fitted, request.resampling) if len(fitted) > 1 else None,
        held_out=held_out,
        comparisons={
            name: compare_methods({BEFORE: found.before, AFTER: found.after}, resampling=request.resampling)
            for name, found in held_out.items()
            if found.before
        },
        in_sample={
            name: (scaled_counts(counts, 1.0), scaled_counts(counts, fit.temperature)) for name, counts in total.items()
        },
    )


def knows_of_training(found: Sequence[ResultFiles], measured: Sequence[CalibratedCase], bundle: Path) -> list[str]:
    """Say what is known of whether the bundle's models were trained on these cases, in plain sentences."""
    spec = read_spec(bundle)
    beside = bundle.with_name(f"{bundle.name}_cross_validation")
    own = {case.case for case in measured}
    crossed = sorted(case for case in own if record_path(beside, case).is_file())
    single = all(len(each.folds) == 1 for each in found) and len({each.folds for each in found}) > 1
    if single:
        lines = ["Each case was predicted by one fold's model, others by others: taken as out of fold."]
        if len(spec.stage2.folds) > 1:
            lines.append(
                f"The bundle averages {len(spec.stage2.folds)} folds, which makes probabilities less sure than those "
                "of one: this temperature may be too large for it."
            )
        return lines
    if crossed:
        known = f"{len(crossed)} of {len(own)} cases were in the bundle's training, for they are in {beside.name}"
        return [f"{known}: a temperature fitted to them is too small; give that folder instead."]
    return ["Nothing tells whether these cases were in training; where they were, the temperature is too small."]


def other_settings(found: Sequence[ResultFiles], bundle: Path) -> tuple[str, ...]:
    """Name what the results were made with that the bundle does otherwise, but for stage 2's folds."""
    own = _flat(json.loads(json.dumps(read_spec(bundle).to_json())))
    theirs = [_flat(each.settings) for each in found]
    return tuple(
        sorted(
            name
            for name in own
            if name not in {"stage2.temperature", "stage2.folds"}
            and any(name in settings and settings[name] != own[name] for settings in theirs)
        )
    )


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat.update({f"{name}.{inner}": each for inner, each in value.items()})
        else:
            flat[name] = value
    return flat
