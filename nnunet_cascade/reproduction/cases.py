"""Who is tested, with which models: held-out cases with all folds, or each patient with the fold that left it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunet_cascade.case_folders.case_files import CHANNEL
from nnunet_cascade.errors import DatasetError
from nnunet_cascade.images import ENDING
from nnunet_cascade.nnunet_folders import patient_folds, raw_folder
from nnunet_cascade.reproduction.request import ReproductionRequest, training_request
from nnunet_cascade.reproduction.systems import RoiModel
from nnunet_cascade.training.pipeline import tumor_label


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSplit:
    """Cases that the same models predict.

    Attributes:
        images: CTs by case.
        labels: True labels by case.
        folds: Whose models predict together.
        held_out: Whether no model has seen any of the cases; else each fold has left them out.
    """

    images: Mapping[str, Path]
    labels: Mapping[str, Path]
    folds: tuple[int, ...]
    held_out: bool


def require_possible(request: ReproductionRequest) -> None:
    """Check what can be checked before days of training: data sets, labels, and that nobody is trained and tested on.

    Raises:
        DatasetError: The data set or its test cases are not there, a label is none of it, or a case is in both.
    """
    own = raw_folder(request.number)
    tumor_label(training_request(request, RoiModel()))
    if request.test_dataset is None and not (own / "labelsTs").is_dir():
        return
    trained = {path.name.removesuffix(ENDING) for path in (own / "labelsTr").glob(f"*{ENDING}")}
    both = sorted(trained & {case for part in evaluation_splits(request) if part.held_out for case in part.labels})
    if both:
        raise DatasetError(
            f"{len(both)} cases, such as {both[0]}, are among those to train on and those to test on; "
            "test on others, or rename those that only share a name"
        )


def evaluation_splits(request: ReproductionRequest) -> tuple[EvaluationSplit, ...]:
    """Choose what is tested: another cohort, the dataset's own test cases, or its folds.

    Raises:
        DatasetError: The other cohort has no labels, or there are no folds yet.
    """
    folds = tuple(range(request.folds))
    if request.test_dataset is not None:
        return (_held_out(raw_folder(request.test_dataset), "Tr", folds),)
    own = raw_folder(request.number)
    if (own / "labelsTs").is_dir() and any((own / "labelsTs").glob(f"*{ENDING}")):
        return (_held_out(own, "Ts", folds),)
    return tuple(
        EvaluationSplit(
            images={case: own / "imagesTr" / f"{case}{CHANNEL}{ENDING}" for case in fold["val"]},
            labels={case: own / "labelsTr" / f"{case}{ENDING}" for case in fold["val"]},
            folds=(number,),
            held_out=False,
        )
        for number, fold in enumerate(patient_folds(request.number))
    )


def _held_out(folder: Path, split: str, folds: tuple[int, ...]) -> EvaluationSplit:
    labels = {path.name.removesuffix(ENDING): path for path in sorted((folder / f"labels{split}").glob(f"*{ENDING}"))}
    images = {case: folder / f"images{split}" / f"{case}{CHANNEL}{ENDING}" for case in labels}
    missing = [case for case, path in images.items() if not path.is_file()]
    if not labels or missing:
        what = f"no CT of {missing[0]}" if missing else "no case with a label"
        raise DatasetError(f"{folder}: {what} in images{split} and labels{split}; expected both for each test case")
    return EvaluationSplit(images=images, labels=labels, folds=folds, held_out=True)
