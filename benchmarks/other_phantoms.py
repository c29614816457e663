"""A bundle of the demonstration on phantoms of other seeds than those it was trained and tested on.

    python benchmarks/other_phantoms.py demo/bundle [--first 5000] [--count 48]

With the demonstration's 29 test lesions, one lesion lost to the rules is 0.034 of recall; more phantoms tell chance
from rule. Phantoms are computer-drawn: no clinical claim follows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

from nnunet_cascade.bundles.bundle import load_cascade
from nnunet_cascade.evaluation.case import CaseScore
from nnunet_cascade.evaluation.summary import format_table, summarize
from nnunet_cascade.images import Volume
from nnunet_cascade.phantom.record import phantom_name
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.phantom.thorax import make_phantom
from nnunet_cascade.prediction.case import PrecomputedInputs, predict_case
from nnunet_cascade.training.cross_validation import METHODS, score_methods


def main() -> None:
    """Predict and score every phantom and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--first", type=int, default=5000, help="first seed")
    parser.add_argument("--count", type=int, default=48, help="number of phantoms")
    args = parser.parse_args()
    bundle = load_cascade(args.bundle, device=torch.device("cpu"))
    scores: dict[str, list[CaseScore]] = {method: [] for method in METHODS}
    for seed in tqdm(range(args.first, args.first + args.count), unit="phantom"):
        phantom = make_phantom(seed, PhantomSettings(tumors=(1, 2)))
        name = phantom_name(seed)
        result = predict_case(Volume(phantom.ct, phantom.grid), bundle, PrecomputedInputs(case=name))
        for method, score in zip(METHODS, score_methods(name, result, phantom.tumors > 0), strict=True):
            scores[method].append(score)
    print(format_table([summarize(method, cases) for method, cases in scores.items()]))


if __name__ == "__main__":
    main()
