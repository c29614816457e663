"""Tables I to VII of the paper: their rows, its figures, and what it claims with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.reproduction.systems import BASELINE, Backbone, Loss, RoiModel, System, full_ct

Direction = Literal["higher", "lower", "equal", "not higher"]
BOUNDARY = "boundary_"
"""How metrics of calibration at the true surface begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperFigure:
    """What the paper prints in a row; None where it prints nothing.

    Its "HD95" is, by its published code, a percentile of two Hausdorff distances, that is the Hausdorff
    distance itself: it stands beside ours and must not be ranked with it.
    """

    dice: float | None = None
    hd95_mm: float | None = None
    boundary_dice: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a table.

    Attributes:
        label: As the paper's, where it has the row.
        system: What is run.
        paper: The paper's figures, on its Orlando data unless the label says otherwise.
    """

    label: str
    system: System
    paper: PaperFigure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A sentence of the paper that a paired comparison can contradict.

    Attributes:
        text: What the paper says.
        metric: Of `CaseScore`; one of the calibration's after `BOUNDARY`; or what goes with a drop in components.
        first: Label of the row that is said to differ.
        second: Label of the row it is compared with.
        expected: How `first` stands to `second` in the metric; of a correlation, its sign.
        of_correlation: Whether the drop in components from `second` to `first` is correlated with the metric.
    """

    text: str
    metric: str
    first: str
    second: str
    expected: Direction
    of_correlation: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the paper.

    Attributes:
        number: Roman, as in the paper.
        title: What it compares.
        rows: In order; the plain nnU-Net comes last in each.
        claims: What the paper concludes.
        groups: Whether cases are also grouped by the number of components, with correlations.
        printed: What the paper prints besides, in words.
        calibration: Whether probabilities are judged as well.
    """

    number: str
    title: str
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]
    groups: bool = False
    printed: str = ""
    calibration: bool = False


_STANDARD = RoiModel(loss="dice_ce", margin_mm=0.0)
_RECOMMENDED = RoiModel(loss="uncertainty", margin_mm=16.0, preset="recommended")
_BASELINE_ROW = Row(label="plain nnU-Net", system=BASELINE)
_FULL_CT = "full CT"
_OURS = "Ours, not the paper's: the cascade beats a plain nnU-Net of the same training budget"
UNCERTAINTY_TABLE = "V"
"""The table beside which the worth of the uncertainty is measured."""
_TOP_1 = "cascade, top 1"
ALL_VALID = "cascade, all valid"
"""The row that Table III takes uncertainty before the choice of components from."""
_LOSSES: dict[Loss, tuple[str, PaperFigure]] = {
    "uncertainty": ("uncertainty-aware", PaperFigure(dice=0.789, hd95_mm=5.349, boundary_dice=0.492)),
    "distance_transform": ("distance transform", PaperFigure(dice=0.777, hd95_mm=5.027, boundary_dice=0.464)),
    "uncertainty_lovasz": ("uncertainty-weighted Lovász", PaperFigure(dice=0.792, hd95_mm=4.809, boundary_dice=0.469)),
    "dice_ce": ("Dice-CE", PaperFigure(dice=0.799, hd95_mm=4.696, boundary_dice=0.503)),
}
_BACKBONES: dict[Backbone, tuple[float, float, float, float]] = {
    "UNet": (0.3136, 0.4415, 0.3737, 0.4605),
    "UNETR": (0.3018, 0.4281, 0.5258, 0.5602),
    "SwinUNETR": (0.469, 0.6447, 0.4731, 0.4860),
}


def _printed(label: str, system: System, *, dice: float, hd95_mm: float | None = None) -> Row:
    return Row(label=label, system=system, paper=PaperFigure(dice=dice, hd95_mm=hd95_mm))


def _table_1() -> Table:
    rows = (
        _printed(_FULL_CT, full_ct(), dice=0.469, hd95_mm=187.97),
        _printed("cascade, margin 16", System(model=RoiModel(margin_mm=16.0)), dice=0.5917, hd95_mm=10.79),
        _printed("cascade, margin 0", System(model=_STANDARD), dice=0.6447, hd95_mm=8.89),
        Row(label="cascade, recommended preset, all candidates", system=System(model=_RECOMMENDED, top_k="all")),
    )
    wide, tight, ours = (row.label for row in rows[1:])
    beats, lower, plain = "The cascade beats the full-CT model", "The cascade lowers HD95", _BASELINE_ROW.label
    claims = (
        Claim(text=beats, metric="dice", first=wide, second=_FULL_CT, expected="higher"),
        Claim(text=beats, metric="dice", first=tight, second=_FULL_CT, expected="higher"),
        Claim(text="Tight crops beat a margin of 16", metric="dice", first=tight, second=wide, expected="higher"),
        Claim(text=lower, metric="hd95_mm", first=tight, second=_FULL_CT, expected="lower"),
        Claim(text=_OURS, metric="dice", first=ours, second=plain, expected="higher"),
        Claim(text=_OURS, metric="false_positive_components", first=ours, second=plain, expected="lower"),
    )
    return Table(number="I", title="Full CT against the cascade", rows=(*rows, _BASELINE_ROW), claims=claims)


def _table_2() -> Table:
    figures = {1: (0.6447, 8.89), 2: (0.6082, 73.65), "all": (0.6010, 85.13)}
    rows = tuple(
        _printed(
            "all valid" if top_k == "all" else f"top {top_k}",
            System(model=_STANDARD, top_k=top_k),  # type: ignore[arg-type]
            dice=dice,
            hd95_mm=hd95_mm,
        )
        for top_k, (dice, hd95_mm) in figures.items()
    )
    claims = tuple(
        Claim(text="More components lower Dice", metric="dice", first=label, second="top 1", expected="lower")
        for label in ("top 2", "all valid")
    )
    raised = Claim(
        text="More components raise HD95", metric="hd95_mm", first="all valid", second="top 1", expected="higher"
    )
    return Table(number="II", title="How many components go on", rows=(*rows, _BASELINE_ROW), claims=(*claims, raised))


def _table_3() -> Table:
    rows = (
        Row(label=_FULL_CT, system=full_ct()),
        Row(label=ALL_VALID, system=System(model=_STANDARD, top_k="all")),
        Row(label=_TOP_1, system=System(model=_STANDARD)),
    )
    gains = "Fewer components go with a gain"
    claims = (
        *(
            Claim(text=gains, metric=metric, first=_TOP_1, second=_FULL_CT, expected="higher", of_correlation=True)
            for metric in ("gain in dice", "gain in hd95_mm")
        ),
        Claim(
            text="Fewer components go with less uncertainty",
            metric="drop in mean_variance_in_tumor",
            first=_TOP_1,
            second=ALL_VALID,
            expected="higher",
            of_correlation=True,
        ),
    )
    return Table(
        number="III",
        title="Number of components, before and after",
        rows=(*rows, _BASELINE_ROW),
        claims=claims,
        groups=True,
        printed=(
            "The paper: Dice 0.5750 and HD95 7.53 with one component, 0.4513 and 10.09 with three or more; Pearson's r "
            "−0.55 (p 0.021) for Dice and −0.69 (p 0.0021) for HD95, Spearman's ρ −0.50 (p 0.040) and −0.83 "
            "(p < 0.0001). It does not say what was subtracted from what; here a positive coefficient says that what "
            "drops more gains more."
        ),
    )


def _table_4() -> Table:
    first, second = "threshold", "reference lungs"
    rows = (
        _printed(second, System(model=_STANDARD, lungs="reference"), dice=0.6467, hd95_mm=8.89),
        _printed("lungmask R231", System(model=_STANDARD, lungs="lungmask"), dice=0.6447, hd95_mm=8.89),
        Row(label=first, system=System(model=_STANDARD)),
    )
    claim = Claim(text="The lung mask hardly matters", metric="dice", first=first, second=second, expected="equal")
    return Table(number="IV", title="Where lung masks come from", rows=(*rows, _BASELINE_ROW), claims=(claim,))


def _table_5() -> Table:
    first, second = "uncertainty-aware loss", "Dice-CE loss"
    rows = (
        _printed(second, System(model=_STANDARD), dice=0.6447, hd95_mm=8.89),
        _printed(first, System(model=RoiModel(loss="uncertainty")), dice=0.6321, hd95_mm=8.92),
    )
    calibrates = "It improves calibration at the boundary"
    same = "The uncertainty-aware loss does not raise Dice"
    claims = (
        Claim(text=same, metric="dice", first=first, second=second, expected="not higher"),
        Claim(text=calibrates, metric="boundary_ece", first=first, second=second, expected="lower"),
        Claim(text=calibrates, metric="boundary_nll", first=first, second=second, expected="lower"),
    )
    return Table(
        number="V", title="The adaptive loss, end to end", rows=(*rows, _BASELINE_ROW), claims=claims, calibration=True
    )


def _table_6() -> Table:
    rows: list[Row] = []
    claims: list[Claim] = []
    for backbone, (orlando, improved, nsclc, nsclc_improved) in _BACKBONES.items():
        before = f"{backbone}, initial (NSCLC in the paper {nsclc})"
        after = f"{backbone}, improved (NSCLC in the paper {nsclc_improved})"
        rows += [
            _printed(before, full_ct(backbone), dice=orlando),
            _printed(after, System(model=RoiModel(backbone=backbone, loss="uncertainty")), dice=improved),
        ]
        text = f"The cascade improves {backbone}"
        claims.append(Claim(text=text, metric="dice", first=after, second=before, expected="higher"))
    return Table(number="VI", title="Backbones, before and after", rows=(*rows, _BASELINE_ROW), claims=tuple(claims))


def _table_7() -> Table:
    rows = tuple(
        Row(label=label, system=System(model=RoiModel(loss=loss), boxes="truth"), paper=paper)
        for loss, (label, paper) in _LOSSES.items()
    )
    best: tuple[tuple[str, str, Direction], ...] = (
        ("Dice-CE has the highest Dice", "dice", "higher"),
        ("Dice-CE has the lowest HD95", "hd95_mm", "lower"),
        ("Dice-CE has the highest boundary Dice", "nsd_2mm", "higher"),
    )
    claims = tuple(
        Claim(text=text, metric=metric, first="Dice-CE", second=row.label, expected=expected)
        for text, metric, expected in best
        for row in rows
        if row.label != "Dice-CE"
    )
    return Table(
        number="VII",
        title="Losses of stage 2, in boxes around the true tumors",
        rows=(*rows, _BASELINE_ROW),
        claims=claims,
        calibration=True,
    )


TABLES: Mapping[str, Table] = {
    table.number: table
    for table in (_table_1(), _table_2(), _table_3(), _table_4(), _table_5(), _table_6(), _table_7())
}


def chosen_tables(numbers: Sequence[str]) -> tuple[Table, ...]:
    """Return tables by their numbers, in the paper's order; none asks for all.

    Raises:
        SettingsError: There is no such table.
    """
    unknown = [number for number in numbers if number.upper() not in TABLES]
    if unknown:
        raise SettingsError(f"the paper has no table {unknown[0]!r}; expected some of {', '.join(TABLES)}")
    wanted = {number.upper() for number in numbers} or set(TABLES)
    return tuple(table for number, table in TABLES.items() if number in wanted)


def systems_of(tables: Sequence[Table]) -> tuple[System, ...]:
    """List the systems of some tables, each once, in the order they are first met."""
    return tuple(dict.fromkeys(row.system for table in tables for row in table.rows))
