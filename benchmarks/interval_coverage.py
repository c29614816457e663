"""How often 95 % bootstrap intervals hold the truth, by the number of cases.

    python benchmarks/interval_coverage.py [--cohorts 600] [--resamples 999]

Cohorts are drawn from a beta (5, 1.5) distribution, like Dice, and a lognormal (1.5, 1), like HD95 in mm, whose means
and medians are known. An interval that is not given counts as one that does not hold the truth.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import stats

from nnunet_cascade.evaluation.statistics.bootstrap import Resampling, estimate, mean, median

COUNTS = (3, 5, 10, 20, 40)
LIKE = {"Dice": stats.beta(5, 1.5), "HD95": stats.lognorm(s=1.0, scale=np.exp(1.5))}


def held(like: str, count: int, cohorts: int, resamples: int) -> tuple[float, float, float]:
    """Give how often the mean's percentile and BCa interval and the median's percentile interval hold the truth."""
    distribution = LIKE[like]
    rng = np.random.default_rng([count, list(LIKE).index(like)])
    hits = np.zeros(3)
    for cohort in range(cohorts):
        cases = distribution.rvs(count, random_state=rng).tolist()
        resampling = Resampling(resamples=resamples, seed=cohort)
        of_mean, of_median = (estimate([cases], statistic, resampling) for statistic in (mean, median))
        for place, (interval, truth) in enumerate(
            (
                (of_mean.percentile, distribution.mean()),
                (of_mean.bca, distribution.mean()),
                (of_median.percentile, distribution.median()),
            )
        ):
            hits[place] += interval is not None and interval.low <= truth <= interval.high
    percentile, bca, of_the_median = (hits / cohorts).tolist()
    return percentile, bca, of_the_median


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=600)
    parser.add_argument("--resamples", type=int, default=999)
    args = parser.parse_args()
    print(f"{args.cohorts} cohorts each, {args.resamples} resamples: percentile / BCa of the mean; median\n")
    print(f"| cases | {' | '.join(f'like {like}' for like in LIKE)} |\n|---:|{'---:|' * len(LIKE)}")
    for count in COUNTS:
        cells: list[str] = []
        for like in LIKE:
            percentile, bca, of_the_median = held(like, count, args.cohorts, args.resamples)
            cells.append(f"{percentile:.0%} / {bca:.0%}; {of_the_median:.0%}")
        print(f"| {count} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
