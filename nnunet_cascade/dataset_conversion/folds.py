"""Folds of a cross-validation: patients kept whole, tumor volumes spread evenly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nnunet_cascade.errors import SettingsError


@dataclass(frozen=True, slots=True)
class FoldCase:
    """A case to be put into a fold.

    Attributes:
        volume_ml: Of its tumor.
        group: Cases of one group, such as one patient's or copies of one CT, stay together.
    """

    volume_ml: float
    group: str


def stratified_folds(cases: Mapping[str, FoldCase], count: int, *, seed: int = 12345) -> list[dict[str, list[str]]]:
    """Spread cases over folds as nnU-Net's splits_final.json has them.

    Groups are sorted by mean volume; of each `count` neighbours one goes to each fold,
    at random.

    Args:
        cases: By name.
        count: Number of folds.
        seed: Of the random order.

    Returns:
        For each fold the cases to train and to validate on, sorted.

    Raises:
        SettingsError: There are fewer groups than folds, or fewer than two folds.
    """
    groups: dict[str, list[str]] = {}
    for name, case in sorted(cases.items()):
        groups.setdefault(case.group, []).append(name)
    if not 2 <= count <= len(groups):
        raise SettingsError(
            f"{count} folds for {len(groups)} patients; expected at least 2 folds and a patient for each"
        )
    mean = {group: float(np.mean([cases[name].volume_ml for name in names])) for group, names in groups.items()}
    ordered = sorted(groups, key=lambda group: (mean[group], group))
    rng = np.random.default_rng(seed)
    validation: list[list[str]] = [[] for _ in range(count)]
    for begin in range(0, len(ordered), count):
        block = ordered[begin : begin + count]
        for group, fold in zip(block, rng.permutation(count), strict=False):
            validation[fold].extend(groups[group])
    return [{"train": sorted(set(cases) - set(names)), "val": sorted(names)} for names in validation]
