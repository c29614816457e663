"""What becomes of a calibration: the temperature in the bundle, its provenance, and a report in plain words."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

from nnunet_cascade.bundles.bundle import SPEC_NAME, read_spec
from nnunet_cascade.case_folders.run_report import RunContext, varying
from nnunet_cascade.evaluation.calibration.comparison import calibration_table
from nnunet_cascade.evaluation.calibration.counts import added
from nnunet_cascade.evaluation.calibration.figures import MEASURES, figures_of
from nnunet_cascade.evaluation.calibration.regions import REGIONS
from nnunet_cascade.evaluation.calibration.reliability import draw_reliability, reliability_points
from nnunet_cascade.evaluation.calibration.selective import review_curve, risk_coverage
from nnunet_cascade.files import write_json, write_text
from nnunet_cascade.versions import NOTICE, versions
from nnunet_cascade.workflows.calibration import (
    AFTER,
    BEFORE,
    CalibratedCase,
    Calibration,
    CalibrationRequest,
    ResultFiles,
    knows_of_training,
    other_settings,
)

PROVENANCE_NAME = "calibration.json"
"""In the bundle: where its temperature comes from. It names no case."""
_FEW_CASES = 30
_DEFINITIONS = {
    "temperature": "T of sigmoid(logit(p) / T), with the least NLL of the pooled voxels of the region",
    "voxels": "of the region and inside the regions of interest, where stage 2 looked",
    "everywhere": "all voxels of the region; where stage 2 did not look, p is 0",
    "held_out": "each case at the temperature fitted to all others",
    "uncertainty": "of a case: mean over the predicted tumor; a case without one counts as the most uncertain",
    "aurc": "area under the risk-coverage curve over cases, risk 1 - Dice (Geifman 2019)",
    "review": "fraction of the worst quarter of Dice that is among the x % most uncertain cases",
    "error_overlap": "Dice of uncertain voxels and errors, best over all thresholds and at a quantile (Jungo 2019)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationReport:
    """Everything there is to tell of a calibration.

    Attributes:
        request: What was asked.
        found: The results.
        measured: What was measured of each.
        calibration: What follows.
        run: What else is known of the run.
    """

    request: CalibrationRequest
    found: tuple[ResultFiles, ...]
    measured: tuple[CalibratedCase, ...]
    calibration: Calibration
    run: RunContext

    @property
    def usable(self) -> tuple[CalibratedCase, ...]:
        """The cases that were measured."""
        return tuple(case for case in self.measured if not case.error)


def reason_against(report: CalibrationReport) -> str:
    """Say why the temperature should not go into the bundle, or "" where nothing speaks against it."""
    calibration, region = report.calibration, report.request.region
    if calibration.fit.at_bound:
        return f"the temperature ran into its bound, {calibration.fit.temperature:g}: scaling cannot mend this"
    if region not in calibration.comparisons:
        return f"no case could be left out of {len(report.usable)}, so that nothing was checked; give more cases"
    worse = calibration.comparisons[region].row(AFTER, "nll").pooled_difference
    if worse is not None and worse.value > 0:
        return f"on cases it was not fitted to, NLL grows by {worse.value:.5f}"
    return ""


def store_temperature(report: CalibrationReport) -> None:
    """Write the temperature and where it comes from into the bundle, each file beside its name and then renamed.

    The provenance goes first: a temperature never stands without its reason.

    Raises:
        BundleError: The folder is no bundle.
        OSError: It cannot be written.
    """
    bundle = report.request.bundle
    spec = read_spec(bundle)
    spec = replace(spec, stage2=replace(spec.stage2, temperature=report.calibration.fit.temperature))
    write_json(bundle / PROVENANCE_NAME, provenance(report))
    write_json(bundle / SPEC_NAME, spec.to_json())


def provenance(report: CalibrationReport) -> dict[str, Any]:
    """Return what the bundle says of its temperature: plain values, without names of cases or paths."""
    calibration, request, usable = report.calibration, report.request, report.usable
    digest = hashlib.sha256("".join(each.digest for each in report.found).encode()).hexdigest()
    content = {
        "notice": NOTICE,
        "conclusions": conclusions(report),
        "definitions": _DEFINITIONS | dict(MEASURES),
        "temperature": calibration.fit.temperature,
        "interval": calibration.interval,
        "fit": calibration.fit,
        "region": {"name": request.region, "definition": REGIONS[request.region]},
        "results": {
            "folder": request.results.name,
            "cases": len(usable),
            "failed": len(report.measured) - len(usable),
            "folds": sorted({str(list(each.folds)) for each in report.found}),
            "sha256_of_records": digest,
            "tumor_values": list(request.tumor.values),
        },
        "held_out": {name: found.rows for name, found in calibration.comparisons.items()},
        "held_out_temperatures": _spread(list(calibration.held_out[request.region].temperatures.values())),
        "in_sample": {
            name: {"before": figures_of(before), "after": figures_of(after)}
            for name, (before, after) in calibration.in_sample.items()
        },
        "everywhere": {name: figures_of(added(case.everywhere[name] for case in usable)) for name in REGIONS},
        "reliability": {
            name: {
                "before": reliability_points([case.counts[name] for case in usable], request.resampling),
                "after_held_out": reliability_points(
                    list(calibration.held_out[name].after.values()), request.resampling
                )
                if calibration.held_out[name].after
                else None,
            }
            for name in REGIONS
        },
        "uncertainty": uncertainty_facts(report),
        "resampling": request.resampling,
        "versions": versions(),
        "varying": {name: value for name, value in varying(report.run).items() if name != "command"},  # it has paths
    }
    return _plain(content)


def uncertainty_facts(report: CalibrationReport) -> dict[str, Any] | None:
    """Return what the uncertainty of cases and voxels is worth; None where the results have none."""
    cases = [case for case in report.usable if case.overlaps]
    if not cases:
        return None
    dices, doubts = [case.dice for case in cases], [case.uncertainty for case in cases]
    return {
        "cases": len(cases),
        "risk_coverage": risk_coverage(dices, doubts, report.request.resampling),
        "review": review_curve(dices, doubts, resampling=report.request.resampling),
        "error_overlap": {
            name: {
                figure: _spread([getattr(case.overlaps[name], figure) for case in cases])
                for figure in ("auroc", "best", "at_quantile")
            }
            for name in REGIONS
        },
    }


def conclusions(report: CalibrationReport) -> list[str]:
    """Say in plain sentences what was found and how far it carries."""
    calibration, request, usable = report.calibration, report.request, report.usable
    fit, ends = calibration.fit, calibration.interval
    level = f"{request.resampling.level:.0%} interval"
    between = "no interval below 3 cases" if ends is None else f"{level} {ends.low:.3f} … {ends.high:.3f}"
    fitted = f"fitted to {fit.voxels} voxels, {fit.tumor_voxels} of them tumor, of {len(usable)} cases"
    lines = [f"T = {fit.temperature:.4f} ({between}), {fitted}: {REGIONS[request.region]}."]
    failed = len(report.measured) - len(usable)
    if failed:
        lines.append(f"{failed} of {len(report.measured)} cases failed and were left out.")
    lines += [_held_out_line(report, name) for name in calibration.comparisons]
    lines += [_missed_line(report)]
    if len(usable) < _FEW_CASES:
        lines.append(f"{len(usable)} cases are few: the temperature of other ones may differ much.")
    lines += knows_of_training(report.found, usable, request.bundle)
    changed = other_settings(report.found, request.bundle)
    if changed:
        named = ", ".join(changed)
        lines.append(f"The results were made with other settings than the bundle's ({named}): it may need another T.")
    threshold = read_spec(request.bundle).stage2.threshold
    if threshold != 0.5:
        lines.append(f"stage2.threshold is {threshold:g}, not 0.5, and meets scaled probabilities: masks will change.")
    against = reason_against(report)
    return [*lines, f"Not stored: {against}."] if against else lines


def _held_out_line(report: CalibrationReport, region: Any) -> str:
    comparison = report.calibration.comparisons[region]
    before, after = comparison.row(BEFORE, "nll"), comparison.row(AFTER, "nll")
    difference = after.pooled_difference
    ends = None if difference is None else difference.interval
    between = "no interval" if ends is None else f"difference {ends.low:+.5f} … {ends.high:+.5f}"
    return (
        f"On cases left out of the fit, NLL in region {region} goes from {before.pooled.value:.5f} to "
        f"{after.pooled.value:.5f} ({between}; {after.pooled.cases} cases)."
    )


def _missed_line(report: CalibrationReport) -> str:
    region = report.request.region
    inside = added(case.counts[region] for case in report.usable)
    whole = added(case.everywhere[region] for case in report.usable)
    voxels, tumor = whole.voxels - inside.voxels, whole.tumor_voxels - inside.tumor_voxels
    return (
        f"{voxels} voxels of the region, {tumor} of them tumor, lie where stage 2 did not look: "
        "left out of the fit, for no temperature moves p = 0."
    )


def held_out_tables(calibration: Calibration) -> str:
    """Return the tables before and after, region by region, as Markdown."""
    return "\n".join(
        f"{REGIONS[name].capitalize()}:\n\n{calibration_table(found)}"
        for name, found in calibration.comparisons.items()
    )


def write_report(report: CalibrationReport, folder: Path) -> Path:
    """Write all that was found, with names of cases, and the diagrams, into a folder; gives `calibration.json`'s path.

    Raises:
        OSError: The folder cannot be written.
    """
    path = folder / PROVENANCE_NAME
    cases = {case.case: _case_facts(case, report) for case in report.measured}
    write_json(path, {**provenance(report), "cases": cases})
    words = "\n".join(f"- {line}" for line in conclusions(report))
    write_text(folder / "calibration.md", f"{NOTICE}\n\n{words}\n\n{held_out_tables(report.calibration)}")
    for name, held_out in report.calibration.held_out.items():
        counts = {"before": held_out.before, "after, held out": held_out.after}
        curves = {
            label: reliability_points(list(found.values()), report.request.resampling)
            for label, found in counts.items()
            if found
        }
        if curves:
            title = f"{REGIONS[name]}\nn = {len(held_out.before)} cases"
            draw_reliability(curves, folder / f"reliability_{name}.png", title=title)
    return path


def _case_facts(case: CalibratedCase, report: CalibrationReport) -> dict[str, Any]:
    if case.error:
        return {"status": "failed", "error": case.error}
    held_out = report.calibration.held_out
    return _plain(
        {
            "status": "done",
            "dice": case.dice,
            "uncertainty": case.uncertainty,
            "temperature_of_the_others": held_out[report.request.region].temperatures.get(case.case),
            "regions": {
                name: {
                    "before": figures_of(case.counts[name]),
                    "after": figures_of(held_out[name].after[case.case]) if case.case in held_out[name].after else None,
                    "everywhere": figures_of(case.everywhere[name]),
                    "error_overlap": case.overlaps.get(name),
                }
                for name in REGIONS
            },
        }
    )


def _spread(values: Sequence[float]) -> dict[str, Any]:
    known = sorted(value for value in values if not math.isnan(value))
    counts = {"n": len(known), "undefined": len(values) - len(known)}
    if not known:
        return {**counts, "min": None, "mean": None, "max": None}
    return {**counts, "min": known[0], "mean": math.fsum(known) / len(known), "max": known[-1]}


def _plain(value: Any) -> Any:
    """Return values as JSON can hold them; what is undefined is null."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
