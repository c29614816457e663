"""Several methods on the same cases: each described, compared with a reference, correlated and grouped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.groups import Group, grouped
from nnunet_cascade.evaluation.metric_info import (
    CaseValues,
    Values,
    column_of,
    in_order,
    is_uncertainty,
    metric_info,
    metrics_of,
    without_nan,
)
from nnunet_cascade.evaluation.statistics.agreement import Agreement, agree
from nnunet_cascade.evaluation.statistics.bootstrap import Estimate, Resampling
from nnunet_cascade.evaluation.statistics.correlation import Correlation, correlate
from nnunet_cascade.evaluation.statistics.description import Description, describe, pooled_share
from nnunet_cascade.evaluation.statistics.paired import PairedComparison, compare_paired, with_holm

COMPONENTS = "predicted_components"
_GAINS = ("dice", "hd95_mm", "nsd_2mm")
_SHARES = {
    "lesion_recall": ("lesions_found", "lesions"),
    "lesion_precision": ("predicted_components_true", COMPONENTS),
}
GAIN_DEFINITION = (
    "drops are the reference's value less the method's; gains are changes towards the better: the method's Dice or NSD "
    "less the reference's, the reference's HD95 less the method's. A positive coefficient says that what drops more "
    "gains more. Both share the reference's value, so that some correlation is there by construction"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonSettings:
    """How methods are compared.

    Attributes:
        reference: The method that the others are compared with; None for the first.
        resampling: How intervals are drawn.
    """

    reference: str | None = None
    resampling: Resampling = field(default_factory=Resampling)


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodFigures:
    """One method by itself.

    Attributes:
        cases: That it has values of.
        missing: That others or the truth have, and it has not.
        metrics: Each over the method's cases.
        pooled: Shares of all lesions or components, each counting once whatever its case.
        agreement: Of true and predicted volumes; None if they are not known.
        groups: By the number of lesions, of predicted components and by spread.
    """

    cases: tuple[str, ...]
    missing: tuple[str, ...]
    metrics: Mapping[str, Description]
    pooled: Mapping[str, Estimate]
    agreement: Agreement | None
    groups: Mapping[str, tuple[Group, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """One method next to the reference.

    Attributes:
        common_cases: That both have; everything here is of them alone.
        paired: By metric, method less reference.
        correlations: Of the drop in the number of predicted components, with gains and with the drop in uncertainty.
    """

    common_cases: tuple[str, ...]
    paired: Mapping[str, PairedComparison]
    correlations: Mapping[str, Correlation]


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodComparison:
    """Everything that can be said of methods on the same cases.

    Attributes:
        reference: The method that the others are compared with.
        cases: All cases, of any method or expected.
        methods: Each by itself.
        contrasts: Each but the reference next to it.
        resampling: How intervals were drawn.
    """

    reference: str
    cases: tuple[str, ...]
    methods: Mapping[str, MethodFigures]
    contrasts: Mapping[str, Contrast]
    resampling: Resampling

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values; what is undefined is None."""
        return without_nan(asdict(self))


def compare(values: Values, settings: ComparisonSettings, *, expected: Sequence[str] = ()) -> MethodComparison:
    """Compare methods on the same cases.

    Args:
        values: By method, case and metric; NaN for what is undefined. A method may lack cases and metrics.
        settings: How.
        expected: Cases that every method ought to have, whether or not any has.

    Raises:
        SettingsError: There is no method, or the reference is none of them.
    """
    if not values:
        raise SettingsError("found no method; expected the values of at least one")
    reference = settings.reference if settings.reference is not None else next(iter(values))
    if reference not in values:
        raise SettingsError(f"reference {reference!r}; expected one of {', '.join(values)}")
    cases = tuple(dict.fromkeys([*expected, *(case for of_method in values.values() for case in of_method)]))
    return MethodComparison(
        reference=reference,
        cases=cases,
        methods={method: _figures(of_method, cases, settings.resampling) for method, of_method in values.items()},
        contrasts=_contrasts(values, reference, settings.resampling),
        resampling=settings.resampling,
    )


def _figures(values: CaseValues, cases: Sequence[str], resampling: Resampling) -> MethodFigures:
    own = tuple(case for case in cases if case in values)
    names = metrics_of(values)
    agreement = None
    if {"reference_ml", "predicted_ml"} <= set(names):
        true, predicted = (column_of(values, own, name) for name in ("reference_ml", "predicted_ml"))
        agreement = agree(true, predicted, resampling)
    return MethodFigures(
        cases=own,
        missing=tuple(case for case in cases if case not in values),
        metrics={name: describe(column_of(values, own, name), resampling) for name in names},
        pooled={
            share: pooled_share(column_of(values, own, part), column_of(values, own, whole), resampling)
            for share, (part, whole) in _SHARES.items()
            if {part, whole} <= set(names)
        },
        agreement=agreement,
        groups={
            by: grouped(values, own, by, resampling)
            for by in ("lesions", COMPONENTS, "lesion_spread_mm")
            if by in names
        },
    )


def _contrasts(values: Values, reference: str, resampling: Resampling) -> dict[str, Contrast]:
    others = [method for method in values if method != reference]
    common = {method: tuple(case for case in values[reference] if case in values[method]) for method in others}
    paired: dict[str, dict[str, PairedComparison]] = {method: {} for method in others}
    for metric in metrics_of(values[reference]):
        if metric_info(metric).of_truth:
            continue
        having = [method for method in others if metric in metrics_of(values[method])]
        columns = [
            [column_of(values[each], common[method], metric) for each in (method, reference)] for method in having
        ]
        found = [compare_paired(ours, theirs, resampling) for ours, theirs in columns]
        for method, comparison in zip(having, with_holm(found), strict=True):
            paired[method][metric] = comparison
    return {
        method: Contrast(
            common_cases=common[method],
            paired=paired[method],
            correlations=_correlations(values[reference], values[method], common[method], resampling),
        )
        for method in others
    }


def _correlations(
    reference: CaseValues, method: CaseValues, cases: Sequence[str], resampling: Resampling
) -> dict[str, Correlation]:
    """Correlate the drop in components with gains and with the drop in uncertainty."""
    both = set(metrics_of(reference)) & set(metrics_of(method))
    if COMPONENTS not in both:
        return {}

    def drop(metric: str) -> list[float]:
        columns = (column_of(values, cases, metric) for values in (reference, method))
        return [before - after for before, after in zip(*columns, strict=True)]

    dropped = drop(COMPONENTS)
    changes: dict[str, list[float]] = {}
    for metric in in_order(both):
        if metric in _GAINS:
            sign = -1.0 if metric_info(metric).goal == "high" else 1.0
            changes[f"gain in {metric}"] = [sign * change for change in drop(metric)]
        elif is_uncertainty(metric):
            changes[f"drop in {metric}"] = drop(metric)
    return {name: correlate(dropped, change, resampling) for name, change in changes.items()}
