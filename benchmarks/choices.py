"""What the defaults of training were chosen by: variants of one stage, trained on phantoms, judged out of fold.

    python benchmarks/choices.py OUT stage1 [--variants default rate_002] [--effort 0.5]
    python benchmarks/choices.py OUT stage2 [--variants default floor]
    NNC_REAL_DATA=... python benchmarks/choices.py OUT nodules [--variants default floor]

OUT may be that of `against_plain.py`. The phantoms are those of `--train_seeds`, in two folds; each is judged by the
model that did not see it. Stage 1: lesions that have a candidate of their own among the 8 and the 16 that go to
stage 2. Stage 2, on the crops that the default stage 1 leads to: Dice of crops with tumor, and false findings in those
without. Nodules: stage 2 alone, on real CT: `lidc_cubes`, and a third as many crops of the lungs of `real_thoraxes`,
30 mm away from the tumor. A variant differs from the default cascade in tiny size by what its name says. Run again, it
goes on. Phantoms are computer-drawn: a choice, no claim.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from against_plain import DATASET, SETTINGS, cascade_of
from nnunetv2.run.run_training import run_training_entry
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_cascade.files import write_json
from nnunet_cascade.geometry import Grid, Mask, as_index
from nnunet_cascade.images import ENDING, read_ct, read_volume, write_image
from nnunet_cascade.losses.adaptive import AdaptiveLoss
from nnunet_cascade.nnunet_folders import nnunet_folder, own_nnunet_folders, read_json
from nnunet_cascade.phantom.cohort import TRAIN_SEEDS, write_cohort
from nnunet_cascade.postprocessing.lungs.threshold import threshold_lungs
from nnunet_cascade.trainers import uncertainty_roi
from nnunet_cascade.training import pipeline
from nnunet_cascade.training.nnunet_commands import run_nnunet
from nnunet_cascade.training.proposals import choose_threshold, make_proposals
from nnunet_cascade.training.request import StageTraining, TrainingRequest


@dataclass(frozen=True, slots=True)
class Variant:
    """What is other than in the default.

    Attributes:
        training: Settings of the stage's training.
        plan: Of its plan.
        steps: Multiplies its steps.
        trainer: Another one.
        loss: In place of the adaptive loss.
    """

    training: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    steps: float = 1.0
    trainer: str | None = None
    loss: type[AdaptiveLoss] | None = None


class Floor(AdaptiveLoss):
    """A tenth of the cross-entropy everywhere, in place of all of it in crops without tumor."""

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, uncertainty: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the loss of a batch."""
        self.entropy_without_tumor = False
        plain = torch.nn.functional.cross_entropy(logits, target[:, 0].long())
        return super().forward(logits, target, uncertainty) + 0.1 * plain


class Following(AdaptiveLoss):
    """τ is a running 99th percentile of the U that occurs, so that α is 1/e where the network is unsure."""

    _running: float | None = None

    def weight(self, variance: torch.Tensor) -> torch.Tensor:
        """Return α of the variance U."""
        now = float(np.quantile(variance.detach().numpy(), 0.99))
        self._running = now if self._running is None else 0.9 * self._running + 0.1 * now
        return torch.exp(-variance / max(self._running, 1e-6))


STAGE1 = {
    "default": Variant(),
    "rate_002": Variant({"initial_learning_rate": 0.002}),
    "rate_002_foreground_1": Variant({"initial_learning_rate": 0.002, "oversample_foreground": 1.0}),
    "rate_005": Variant({"initial_learning_rate": 0.005}),
    "rate_02": Variant({"initial_learning_rate": 0.02}),
    "batch_dice": Variant(plan={"batch_dice": True}),
    "steps_15": Variant(steps=1.5),
}
STAGE2 = {
    "default": Variant(),
    "formula": Variant({"entropy_without_tumor": False}),
    "floor": Variant(loss=Floor),
    "following_tau": Variant(loss=Following),
    "dice_and_entropy": Variant(trainer="DiceCEROITrainer"),
}


NODULES, SIDE_MM, CROPS_A_THORAX = 650, 51, 5


def main() -> None:
    """Train what is not trained, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("stage", choices=tuple(KINDS))
    parser.add_argument("--variants", nargs="+", default=None)
    parser.add_argument("--train_seeds", type=int, nargs=2, default=(TRAIN_SEEDS[0], TRAIN_SEEDS[-1]))
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument("--effort", type=float, default=1.0)
    args = parser.parse_args()
    out, (first, last) = args.out.absolute(), args.train_seeds
    known, judge = KINDS[args.stage]
    with own_nnunet_folders(out):
        raw = out / "nnUNet_raw" / f"Dataset{DATASET}_Phantoms"
        if args.stage != "nodules":
            write_cohort(raw, train_seeds=tuple(range(first, last + 1)), test_seeds=(), settings=SETTINGS)
        rows = [judge(cascade_of(out, args.seed, args.effort), name, known[name]) for name in args.variants or known]
    print("| variant | " + " | ".join(rows[0][1]) + " |")
    print("|---" * (len(rows[0][1]) + 1) + "|")
    for name, figures in rows:
        print(f"| {name} | " + " | ".join(figures.values()) + " |")


def judge_stage1(chain: TrainingRequest, name: str, variant: Variant) -> tuple[str, dict[str, str]]:
    """Train stage 1, and count the lesions that stage 2 would see."""
    chain = pipeline.with_tumor_values(chain)
    chain = replace(chain, stage1=varied(chain.stage1, f"{chain.stage1.plan.name}_{name}", variant))
    pipeline.make_folds(chain)
    pipeline.train_stage(DATASET, chain.stage1, chain, pipeline.log_folder(chain))
    asked = pipeline.proposals_of(chain)
    make_proposals(asked)
    figures: dict[str, str] = {}
    for most in (8, 16):
        limited = replace(asked.spec, roi=replace(asked.spec.roi, max_candidates=most))
        trials = choose_threshold(replace(asked, spec=limited)).trials
        best = max(trials, key=lambda trial: (trial.found, trial.threshold))
        figures[f"of {best.lesions} lesions with {most} candidates at most"] = str(best.found)
        figures[f"candidates a scan, threshold ({most})"] = f"{best.candidates / best.scans:.1f}, {best.threshold:g}"
        if most == 16:
            figures["found at each threshold"] = ", ".join(str(trial.found) for trial in trials)
    return name, figures


def judge_stage2(chain: TrainingRequest, name: str, variant: Variant) -> tuple[str, dict[str, str]]:
    """Train stage 2 on the default's crops, and judge each crop by the model that did not see its patient."""
    pipeline.make_crops(chain)
    measured = replace(variant, training={**variant.training, "final_validation": True})
    stage = varied(chain.stage2, f"{chain.stage2.plan.name}_{name}", measured)
    other_loss = nullcontext() if variant.loss is None else _with_loss(variant.loss)
    with other_loss:
        pipeline.train_stage(chain.roi_dataset, stage, chain, pipeline.log_folder(chain))
    return name, judged(chain.roi_dataset, stage, chain.folds)


def judge_on_nodules(chain: TrainingRequest, name: str, variant: Variant) -> tuple[str, dict[str, str]]:
    """Train stage 2 on real nodules and on crops without any, and judge each crop by the model that did not see it."""
    make_nodules()
    measured = replace(variant, training={**variant.training, "final_validation": True})
    stage = varied(chain.stage2, f"Nodules_{chain.stage2.plan.name}_{name}", measured)
    stage = replace(stage, plan=replace(stage.plan, grid=None, spacing_mm=(1.0, 1.0, 1.0), batch_dice=True))
    other_loss = nullcontext() if variant.loss is None else _with_loss(variant.loss)
    with other_loss:
        pipeline.train_stage(NODULES, stage, chain, pipeline.log_folder(chain))
    return name, judged(NODULES, stage, chain.folds)


def make_nodules() -> None:
    """Write the nodules and the crops without any as a raw dataset in two folds."""
    if not os.environ.get("NNC_REAL_DATA"):
        raise SystemExit("NNC_REAL_DATA is not set; name the folder that holds lidc_cubes and real_thoraxes")
    source = Path(os.environ["NNC_REAL_DATA"])
    raw = nnunet_folder("nnUNet_raw") / f"Dataset{NODULES}_Nodules"
    if (raw / "dataset.json").is_file():
        return
    for name in ("imagesTr", "labelsTr"):
        (raw / name).mkdir(parents=True, exist_ok=True)
    folds: tuple[list[str], list[str]] = ([], [])
    for number, cube in enumerate(sorted((source / "lidc_cubes").glob("*_LIDC*"))):
        ct, tumor = read_volume(cube / "ct.nii.gz"), read_volume(cube / "tumor.nii.gz")
        folds[number % 2].append(_write_crop(raw, f"nodule_{number:03d}", ct.array, tumor.array > 0, ct.grid))
    random = np.random.default_rng(0)
    for number, thorax in enumerate(sorted((source / "real_thoraxes").glob("*/ct.nii.gz"))):
        for part, crop in enumerate(_crops_without_tumor(thorax, random)):
            empty = np.zeros(crop.shape, dtype=np.bool_)
            grid = Grid(shape=as_index(crop.shape), spacing_mm=(1.0, 1.0, 1.0))
            folds[number % 2].append(_write_crop(raw, f"empty_{number}_{part}", crop, empty, grid))
    facts = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "tumor": 1}, "file_ending": ENDING}
    splits = [{"train": folds[1 - fold], "val": folds[fold]} for fold in range(2)]
    preprocessed = nnunet_folder("nnUNet_preprocessed") / raw.name
    preprocessed.mkdir(parents=True, exist_ok=True)
    write_json(preprocessed / "splits_final.json", splits)
    write_json(raw / "dataset.json", {**facts, "numTraining": sum(map(len, folds))})


def _crops_without_tumor(path: Path, random: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    """Yield cubes of 51 mm around places in a thorax's lungs, in voxels of 1 mm, far from its tumor."""
    ct, tumor = read_ct(path), read_volume(path.with_name("tumor.nii.gz")).array > 0
    spacing = ct.grid.spacing_mm
    lungs = threshold_lungs(ct).labels > 0
    far = np.asarray(ndimage.distance_transform_edt(~tumor, sampling=spacing)) > 30 + SIDE_MM
    places = np.argwhere(lungs & far)
    for place in random.permutation(places)[:CROPS_A_THORAX]:
        axes = [p + (np.arange(SIDE_MM) - SIDE_MM // 2) / mm for p, mm in zip(place, spacing, strict=True)]
        where = np.stack(np.meshgrid(*axes, indexing="ij"))
        yield np.asarray(ndimage.map_coordinates(ct.array, where, order=1, mode="nearest"), dtype=np.float32)


def _write_crop(raw: Path, name: str, ct: NDArray[Any], tumor: Mask, grid: Grid) -> str:
    write_image(np.clip(ct, -1200, 400).astype(np.int16), grid, raw / "imagesTr" / f"{name}_0000{ENDING}")
    write_image(tumor.astype(np.uint8), grid, raw / "labelsTr" / f"{name}{ENDING}")
    return name


def judged(dataset: int, stage: StageTraining, folds: int) -> dict[str, str]:
    """Return what nnU-Net's own validation found in crops with and without tumor."""
    model = pipeline.model_of(dataset, stage)
    summaries = [read_json(model / f"fold_{fold}" / "validation" / "summary.json") for fold in range(folds)]
    crops = [case["metrics"]["1"] for summary in summaries for case in summary["metric_per_case"]]
    tumors = [crop for crop in crops if crop["n_ref"] > 0]
    empty = [crop for crop in crops if crop["n_ref"] == 0]
    return {
        f"Dice of {len(tumors)} crops with tumor": f"{np.mean([crop['Dice'] for crop in tumors]):.3f}",
        "tumors missed": str(sum(crop["TP"] == 0 for crop in tumors)),
        f"of {len(empty)} crops without, with a finding": str(sum(crop["FP"] > 0 for crop in empty)),
        "false voxels a crop there": f"{np.mean([crop['FP'] for crop in empty]):.0f}",
    }


def varied(stage: StageTraining, name: str, variant: Variant) -> StageTraining:
    """Return the stage as a variant trains it."""
    before = stage.plan.training
    steps = round(before["iterations_per_epoch"] * variant.steps)
    training = {**before, **variant.training, "iterations_per_epoch": steps}
    return replace(
        stage,
        trainer=variant.trainer or stage.trainer,
        plan=replace(stage.plan, **variant.plan, name=name, training=training),
    )


@contextmanager
def _with_loss(loss: type[AdaptiveLoss]) -> Generator[None]:
    """Let nnU-Net train in this process, with another loss in place of the adaptive one."""

    def train_here(command: str, arguments: Sequence[str], **_: Any) -> None:
        if command != "nnUNetv2_train":
            return run_nnunet(command, arguments, **_)
        with mock.patch("sys.argv", [command, *arguments]), mock.patch.object(uncertainty_roi, "AdaptiveLoss", loss):
            run_training_entry()
        return None

    with mock.patch.object(pipeline, "run_nnunet", train_here):
        yield


KINDS = {
    "stage1": (STAGE1, judge_stage1),
    "stage2": (STAGE2, judge_stage2),
    "nodules": (STAGE2, judge_on_nodules),
}


if __name__ == "__main__":
    main()
