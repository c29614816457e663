"""Numbers of cases: what is undefined is counted and left out, never silently."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.errors import SettingsError

Sample = NDArray[np.float64]
"""(n,), a finite number per case."""
Column = Sequence[float] | Sample
"""A number per case, NaN if it is undefined."""
FEWEST_CASES = 3
"""Below, no interval is given."""
FEW_CASES = 20
"""Below, intervals are marked: they miss the truth more often than they say."""


def paired_samples(*columns: Column) -> tuple[Sample, ...]:
    """Return the cases that have a number in every column.

    Args:
        columns: One number per case each, in the same order of cases; NaN if it is undefined.

    Returns:
        As many arrays (n,) of float64; n may be 0. The caller tells how many were left out.

    Raises:
        SettingsError: The columns differ in length, or a number is infinite.
    """
    lengths = {len(column) for column in columns}
    if len(lengths) != 1:
        raise SettingsError(f"found columns of {sorted(lengths)} cases; expected one number per case in each")
    table = np.array(columns, dtype=np.float64).reshape(len(columns), -1)
    if np.isinf(table).any():
        raise SettingsError("found an infinite number; expected finite ones, or NaN for what is undefined")
    return tuple(table[:, ~np.isnan(table).any(axis=0)])


def few_cases_note(count: int) -> str:
    """Return what few cases mean for an interval; "" where there are enough."""
    if count < FEWEST_CASES:
        return f"n = {count}: no interval below {FEWEST_CASES} cases"
    return f"n = {count}: few cases, the interval is too narrow" if count < FEW_CASES else ""


def is_constant(sample: Sample) -> bool:
    """Return whether all numbers are the same but for rounding; true for none and for one."""
    return sample.size < 2 or bool(np.ptp(sample) <= 1e-12 * np.abs(sample).max())
