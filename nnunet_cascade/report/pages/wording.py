"""Numbers in words for pages: what is not known is a dash."""

from __future__ import annotations

import math

from nnunet_cascade.evaluation.metric_info import MetricInfo
from nnunet_cascade.evaluation.statistics.bootstrap import Estimate

UNKNOWN = "–"
_DIGITS_OF_COUNTS = 2
_MIB, _KIB = 1 << 20, 1 << 10


def number(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """Return a number with so many digits after the point; a minus sign is one, not a dash."""
    if value is None or math.isnan(value):
        return UNKNOWN
    text = f"{value:{'+' if signed else ''},.{digits}f}"
    zero = not any(digit in "123456789" for digit in text)
    return text.lstrip("+-") if zero else text.replace("-", "−")


def of_metric(value: float | None, info: MetricInfo, *, signed: bool = False) -> str:
    """Return a metric of one case; what is counted is a whole number there, and a mean over cases alone has digits."""
    counted = not info.unit and info.digits == _DIGITS_OF_COUNTS
    return number(value, 0 if counted else info.digits, signed=signed)


def ml(value: float | None) -> str:
    """Return a volume with as many digits as it is worth."""
    return number(value, 2 if value is None or abs(value) < 100 else 1)


def interval(low: float | None, high: float | None) -> str:
    """Return an interval of volumes; "" where one of its ends is not known."""
    return "" if low is None or high is None else f"{ml(low)} to {ml(high)}"


def percent(share: float | None) -> str:
    """Return a share in percent."""
    return UNKNOWN if share is None else f"{share:.0%}".replace("%", " %")


def size(count: int | None) -> str:
    """Return the size of a file."""
    if count is None:
        return UNKNOWN
    if count < _KIB:
        return f"{count} bytes"
    return f"{count / _MIB:.1f} MiB" if count >= _MIB else f"{count / _KIB:.0f} KiB"


def estimate(found: Estimate, digits: int, *, signed: bool = False) -> str:
    """Return a figure with its interval: BCa, or where there is none that between quantiles."""
    value, ends = number(found.value, digits, signed=signed), found.bca or found.percentile
    if ends is None:
        return value
    return f"{value} [{number(ends.low, digits, signed=signed)} to {number(ends.high, digits, signed=signed)}]"


def p_value(p: float) -> str:
    """Return a p value."""
    return UNKNOWN if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def sort_key(value: float | None) -> str:
    """Return what a column of numbers is sorted by; "" for what is not known, which goes to the end."""
    return "" if value is None or math.isnan(value) else f"{value:.8g}"
