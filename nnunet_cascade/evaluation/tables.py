"""Comparisons of methods as Markdown: readable tables, their definitions underneath."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nnunet_cascade.evaluation.comparison import GAIN_DEFINITION, MethodComparison, MethodFigures
from nnunet_cascade.evaluation.froc import RATE_NAMES, Froc, FrocDifference
from nnunet_cascade.evaluation.mask_pair import EMPTY_POLICY
from nnunet_cascade.evaluation.metric_info import MetricInfo, in_order, metric_info
from nnunet_cascade.evaluation.statistics.agreement import (
    BLAND_ALTMAN_DEFINITION,
    CONCORDANCE_DEFINITION,
    BlandAltman,
)
from nnunet_cascade.evaluation.statistics.bootstrap import ALL_THE_SAME, BOOTSTRAP_DEFINITION, Estimate, Interval
from nnunet_cascade.evaluation.statistics.correlation import CORRELATION_DEFINITION, Coefficient
from nnunet_cascade.evaluation.statistics.description import Description
from nnunet_cascade.evaluation.statistics.paired import HOLM_DEFINITION, WILCOXON_DEFINITION, PairedComparison
from nnunet_cascade.evaluation.statistics.samples import FEW_CASES, FEWEST_CASES, few_cases_note

PAPER_METRICS = ("dice", "hd95_mm", "nsd_2mm")
_UNDEFINED = "–"
_GROUP_TITLES = {
    "lesions": "By number of true lesions",
    "predicted_components": "By number of predicted components",
    "lesion_spread_mm": "By spread of the lesions, largest distance between their centroids",
}

Published = Mapping[str, Mapping[str, float]]
"""Figures of a publication: by method, then by metric."""


def comparison_page(comparison: MethodComparison) -> str:
    """Set a whole comparison as a page of Markdown that ends in a newline."""
    parts = [
        "## Overview",
        overview_table(comparison),
        *_method_parts(comparison),
        *_contrast_parts(comparison),
        *_agreement_parts(comparison),
        *group_parts(comparison),
        "## Definitions",
        definitions(comparison),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def overview_table(
    comparison: MethodComparison, *, metrics: Sequence[str] = PAPER_METRICS, published: Published | None = None
) -> str:
    """Set methods side by side as the paper's tables do, with n, intervals and the difference from the reference.

    Args:
        comparison: Of the methods.
        metrics: A column each, and one for the paired difference; those that no method has are left out.
        published: Figures to stand next to ours, by method and metric; metrics without any have no column for them.

    Returns:
        Lines that end in a newline.
    """
    shown = [name for name in metrics if any(name in method.metrics for method in comparison.methods.values())]
    printed = {metric for of_method in (published or {}).values() for metric in of_method}
    head = ["Method", "n"]
    for info in map(metric_info, shown):
        head += [info.heading, *([f"{info.label}, published"] if info.name in printed else []), f"Δ {info.label}; p"]
    rows: list[list[str]] = []
    for name, method in comparison.methods.items():
        row = [name, str(len(method.cases))]
        for metric in shown:
            row.append(_described(method.metrics.get(metric), metric_info(metric)))
            if metric in printed and published:
                row.append(_number((published.get(name) or {}).get(metric, math.nan), metric_info(metric).digits))
            row.append(_difference(comparison, name, metric))
        rows.append(row)
    return f"{_table(head, rows)}\n{_legend(comparison)}\n"


def froc_table(frocs: Mapping[str, Froc], differences: Mapping[str, FrocDifference], *, reference: str) -> str:
    """Set the FROC of methods as a table: sensitivity at each rate with its interval, and differences below.

    Args:
        frocs: By method, at least one.
        differences: From the reference, by method; may be empty.
        reference: Name of the method that the others are compared with.

    Returns:
        Lines that end in a newline.
    """
    head = ["False positives per scan", "scans", "lesions", *RATE_NAMES, "mean"]
    rows = [[name, str(each.scans), str(each.lesions), *_froc_cells(each)] for name, each in frocs.items()]
    rows += [
        [f"{name} less {reference}", "", "", *_froc_cells(each, signed=True)] for name, each in differences.items()
    ]
    told = "Sensitivity per lesion [percentile interval over scans]"
    note = few_cases_note(min(each.scans_with_lesions for each in frocs.values()))
    return f"{_table(head, rows)}\n{told}. {f'**Scans with lesions: {note}.**' if note else ''}".rstrip() + "\n"


def _froc_cells(found: Froc | FrocDifference, *, signed: bool = False) -> list[str]:
    return [_estimate(each, 3, signed=signed, percentile=True) for each in (*found.sensitivities, found.mean)]


def _legend(comparison: MethodComparison) -> str:
    """Say how to read the overview, and where its cases are few."""
    told = (
        f"Means [{comparison.resampling.level:.0%} interval; ° by percentile, = all cases the same, else BCa]; "
        f"Δ is the paired difference from {comparison.reference} (with its n where that is another), p of the "
        "signed-rank test after Holm."
    )
    note = few_cases_note(min(len(method.cases) for method in comparison.methods.values()))
    return f"{told} **{note}.**" if note else told


def _difference(comparison: MethodComparison, method: str, metric: str) -> str:
    if method == comparison.reference:
        return "reference"
    paired = comparison.contrasts[method].paired.get(metric)
    if paired is None:
        return _UNDEFINED
    count = f" (n {paired.n})" if paired.n != len(comparison.methods[method].cases) else ""
    return f"{_estimate(paired.mean, metric_info(metric).digits, signed=True)}{count}; {_p(paired.p_holm)}"


def _method_parts(comparison: MethodComparison) -> list[str]:
    parts: list[str] = []
    for name, method in comparison.methods.items():
        rows = [_metric_row(metric_info(metric), found) for metric, found in method.metrics.items()]
        head = ["Metric", "n", "undefined", "mean", "median", "SD", "range", "sum"]
        parts += [f"## {_escaped(name)}", _table(head, rows), _pooled(method)]
    return [part for part in parts if part]


def _metric_row(info: MetricInfo, found: Description) -> list[str]:
    return [
        info.heading,
        str(found.n),
        str(found.undefined),
        _estimate(found.mean, info.digits),
        _estimate(found.median, info.digits, percentile=True),
        _number(found.sd, info.digits),
        f"{_number(found.lowest, info.digits)} … {_number(found.highest, info.digits)}",
        _number(found.total, 1).removesuffix(".0"),
    ]


def _pooled(method: MethodFigures) -> str:
    shares = [f"{metric_info(name).label} {_estimate(found, 3)}" for name, found in method.pooled.items()]
    return f"Pooled over all lesions and components: {', '.join(shares)}." if shares else ""


def _contrast_parts(comparison: MethodComparison) -> list[str]:
    parts: list[str] = []
    for name, contrast in comparison.contrasts.items():
        title = (
            f"## {_escaped(name)} less {_escaped(comparison.reference)}, on {len(contrast.common_cases)} common cases"
        )
        head = ["Metric", "n", "mean difference", "median difference", "better / worse / equal", "p", "p, Holm"]
        rows = [_paired_row(metric_info(metric), found) for metric, found in contrast.paired.items()]
        parts += [title, _table(head, rows), *correlation_parts(comparison, name)]
    return parts


def _paired_row(info: MetricInfo, found: PairedComparison) -> list[str]:
    equal = found.n - found.rises - found.falls
    better = {
        "high": f"{found.rises} / {found.falls} / {equal}",
        "low": f"{found.falls} / {found.rises} / {equal}",
    }.get(info.goal, f"{found.rises} up, {found.falls} down, {equal} equal")
    return [
        info.heading,
        str(found.n),
        _estimate(found.mean, info.digits, signed=True),
        _estimate(found.median, info.digits, signed=True, percentile=True),
        better,
        f"{_p(found.ranks.p)}{'' if found.ranks.exact else ' ≈'}",
        _p(found.p_holm),
    ]


def correlation_parts(comparison: MethodComparison, method: str) -> list[str]:
    """Set what goes with a drop in components from the reference to a method, as parts of a page; maybe none."""
    contrast, reference = comparison.contrasts[method], comparison.reference
    if not contrast.correlations:
        return []
    head = ["Drop in components with", "n", "Pearson r", "p", "Spearman ρ", "p", ""]
    rows = [
        [_in_words(what), str(found.n), *_coefficient(found.pearson), *_coefficient(found.spearman), found.note]
        for what, found in contrast.correlations.items()
    ]
    parts = [f"### Fewer components from {_escaped(reference)} to {_escaped(method)}", _table(head, rows)]
    if not any(what.startswith("drop") for what in contrast.correlations):
        parts.append("No drop in uncertainty: nnc-cascade-predict recorded none of the same measure for both methods.")
    return parts


def _in_words(change: str) -> str:
    """Put "gain in hd95_mm" as tables name the metric."""
    what, _, metric = change.partition(" in ")
    return f"{what} in {metric_info(metric).label}"


def _coefficient(found: Coefficient) -> tuple[str, str]:
    return f"{_number(found.value, 2)}{_interval(found.interval, 2)}", _p(found.p)


def _agreement_parts(comparison: MethodComparison) -> list[str]:
    rows: list[list[str]] = []
    for name, method in comparison.methods.items():
        found = method.agreement
        if found is not None:
            lin = f"{_number(found.concordance.value, 3)}{_interval(found.concordance.interval, 3)}"
            rows.append([name, str(found.absolute.n), lin, *_limits(found.absolute, 2), "ml"])
            rows.append([name, str(found.relative_percent.n), "", *_limits(found.relative_percent, 1), "%"])
    head = ["Method", "n", "concordance", "bias", "lower limit", "upper limit", "unit"]
    return ["## Agreement of volumes, predicted less true", _table(head, rows)] if rows else []


def _limits(found: BlandAltman, digits: int) -> list[str]:
    return [
        f"{_number(value, digits, signed=True)}{_interval(interval, digits, signed=True)}"
        for value, interval in (
            (found.bias, found.bias_interval),
            (found.lower, found.lower_interval),
            (found.upper, found.upper_interval),
        )
    ]


def group_parts(comparison: MethodComparison) -> list[str]:
    """Set each metric by groups of cases: a title and a table for each kind of group; empty without any."""
    parts: list[str] = []
    for by, title in _GROUP_TITLES.items():
        grouped = [(name, group) for name, method in comparison.methods.items() for group in method.groups.get(by, ())]
        if not grouped:
            continue
        metrics = in_order({metric for _, group in grouped for metric in group.metrics})
        rows = [
            [name, group.name, str(len(group.cases))]
            + [_described(group.metrics.get(metric), metric_info(metric)) for metric in metrics]
            for name, group in grouped
        ]
        head = ["Method", "group", "cases", *(metric_info(metric).heading for metric in metrics)]
        parts += [f"## {title}", _table(head, rows)]
    return parts


def definitions(comparison: MethodComparison) -> str:
    """Return what stands under the tables: every metric shown, every method used, seeds."""
    names = in_order({metric for method in comparison.methods.values() for metric in method.metrics})
    drawn = comparison.resampling
    lines = [f"{info.heading}: {info.definition}." for info in map(metric_info, names) if info.definition]
    lines += [
        EMPTY_POLICY,
        f"Intervals at {drawn.level:.0%}, {drawn.resamples} resamples, seed {drawn.seed}: {BOOTSTRAP_DEFINITION}.",
        "Means and shares show BCa, or percentile (marked °) where that is undefined; medians show percentile.",
        f"No interval below {FEWEST_CASES} cases, nor where all are the same (marked =).",
        f"Below {FEW_CASES} cases intervals are too narrow.",
        f"The p value of a difference: {WILCOXON_DEFINITION}. ≈ marks the approximation. {HOLM_DEFINITION}.",
        f"Correlations: {CORRELATION_DEFINITION}.",
        f"Drops and gains: {GAIN_DEFINITION}.",
        f"Concordance: {CONCORDANCE_DEFINITION}. Bland–Altman: {BLAND_ALTMAN_DEFINITION}.",
        f"{_UNDEFINED} is undefined. n counts cases with a defined value.",
    ]
    return "\n".join(f"- {line[0].upper()}{line[1:]}" for line in lines)


def _described(found: Description | None, info: MetricInfo) -> str:
    """Show a mean, and its n where some cases of the method have none."""
    if found is None:
        return _UNDEFINED
    return _estimate(found.mean, info.digits) + (f" (n {found.n})" if found.undefined else "")


def _estimate(found: Estimate, digits: int, *, signed: bool = False, percentile: bool = False) -> str:
    by_percentile = percentile or found.bca is None
    interval = found.percentile if by_percentile else found.bca
    mark = " °" if by_percentile and not percentile and interval is not None else ""
    mark = " =" if found.note == ALL_THE_SAME else mark
    return f"{_number(found.value, digits, signed=signed)}{_interval(interval, digits, signed=signed)}{mark}"


def _interval(found: Interval | None, digits: int, *, signed: bool = False) -> str:
    if found is None:
        return ""
    return f" [{_number(found.low, digits, signed=signed)}, {_number(found.high, digits, signed=signed)}]"


def _number(value: float, digits: int, *, signed: bool = False) -> str:
    if math.isnan(value):
        return _UNDEFINED
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def _p(value: float) -> str:
    if math.isnan(value):
        return _UNDEFINED
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *([_escaped(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
