"""Options that mean the same in several commands, and what their values become."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_cascade.cli.common import CommandParser, Options, device_name
from nnunet_cascade.errors import DicomError, SettingsError

if TYPE_CHECKING:
    from nnunet_cascade.geometry import Spacing
    from nnunet_cascade.postprocessing.lungs.source import LungSource
    from nnunet_cascade.prediction.spec import CascadeSpec, RoiSettings

DICOM_KINDS = ("seg", "probability", "uncertainty", "rtstruct", "report")
"""As `dicom_export.provenance.KINDS`, which only the commands that write DICOM import."""
_LUNGMASK_OPTIONS = {"lung_model": "model", "lung_weights": "weights", "lung_batch_size": "batch_size"}


def add_processes(options: Options, *, default: int = 2) -> None:
    """Add nnU-Net's -np."""
    options.whole("-np", "N", "cases that are processed at the same time, each in its own process", default=default)


def add_resamples(options: Options) -> None:
    """Add the option of bootstrap intervals."""
    options.whole("--resamples", "N", "bootstrap resamples of each confidence interval", default=9999)


def add_device(options: Options) -> None:
    """Add nnU-Net's -device."""
    metavar = "{cpu,cuda,cuda:N,mps}"
    options.add(
        "-device", "device to compute on; default: cuda if there is one, else cpu", type=device_name, metavar=metavar
    )


def add_effort(options: Options) -> None:
    """Add the option that shortens or lengthens the training of tiny networks."""
    options.number("--effort", "FACTOR", "multiplies the training iterations of tiny networks", default=1.0)


def add_trust(options: Options) -> None:
    """Add the option that lets models run code."""
    options.switch(
        "--trust_checkpoint",
        "allow checkpoints and plans to run any code, as nnU-Net does, and search nnUNet_extTrainer for trainers; use "
        "it only if you trust the source of these files",
    )


def add_tumor_label(options: Options, *, of: str, further: str = "") -> None:
    """Add the option that says which labels are tumor; `of` names where the labels are."""
    options.words(
        "--tumor_label",
        "LABEL",
        f"names or values of the labels of {of} that are tumor, several as their union{further}; default: the only "
        "label of dataset.json, or 1 if there is no dataset.json",
    )


def add_images(options: Options) -> None:
    """Add the option that says where the CTs of a run are."""
    meaning = "CTs, in a form that nnc-cascade-predict reads; default: where they were when they were predicted"
    options.path("--images", "DIR", meaning)


def add_cases(options: Options) -> None:
    """Add the option that chooses cases of a folder."""
    options.words("--cases", "CASE", "names of the cases to use; default: all in the folder")


def add_case_names(options: Options) -> None:
    """Add the option that says how cases from DICOM are named."""
    options.add(
        "--case_names",
        "how to name cases from DICOM: by a hash of a UID, which identifies nobody, or by Patient ID, if that is a "
        "pseudonym",
        choices=("uid", "patient-id"),
        default="uid",
    )


def add_sharing(options: Options) -> None:
    """Add nnU-Net's options to resume, and to distribute cases over several runs."""
    options.resume(
        "--continue_prediction",
        "--c",
        meaning="resume: skip cases that are already complete (same version, settings, images, masks and models, "
        "verified by SHA-256)",
    )
    options.whole("-num_parts", "N", "number of runs that the cases are distributed over", default=1)
    options.whole("-part_id", "I", "which of these runs this is, counted from 0", default=0)


def require_other_folder(output: Path, *inputs: Path | None) -> None:
    """Refuse to write into a folder that is read from."""
    for folder in inputs:
        if folder is not None and output.resolve() == (folder.parent if folder.is_file() else folder).resolve():
            raise SettingsError(f"-o {output} is a folder that is read from; give another one")


def add_preset(parser: CommandParser) -> None:
    """Add the options that choose anatomy rules, lung masks and regions."""
    rules = parser.options("candidates and regions")
    add_preset_name(rules, default="recommended")
    add_top_k(rules, default="the preset's")
    add_max_candidates(rules, default="16")
    add_margins(rules, default="the preset's")
    add_lungs(parser)


def add_preset_name(options: Options, *, default: str | None) -> None:
    """Add the option that names a preset."""
    meaning = "settings to start from" + ("; default: recommended" if default is None else "")
    options.add("--preset", meaning, choices=("recommended", "paper"), default=default)


def add_top_k(options: Options, *, default: str) -> None:
    """Add the option that limits the number of candidates."""
    meaning = f'number of candidates to keep, or "all"; default: {default}'
    options.add("--top_k", meaning, metavar="K", type=_top_k)


def _top_k(text: str) -> int | str:
    if text == "all" or (text.isdecimal() and text.isascii()):
        return text if text == "all" else int(text)
    raise argparse.ArgumentTypeError(f'{text!r}; expected a whole number or "all"')


def add_margins(options: Options, *, default: str) -> None:
    """Add the options that say how far regions extend beyond candidates."""
    margins = options.one_of()
    margins.number("--margin_mm", "MM", f"margin around each candidate's box, in mm; default: {default}")
    margins.whole("--margin_voxels", "N", "the same in voxels of the image, along each axis")
    options.switch("--merge_overlapping", "merge regions that overlap; otherwise each stays separate")


def with_margins(roi: RoiSettings, args: argparse.Namespace) -> RoiSettings:
    """Return settings of regions with what the options of `add_margins` change."""
    if args.margin_mm is not None:
        roi = replace(roi, margin_mm=args.margin_mm, margin_voxels=None)
    if args.margin_voxels is not None:
        roi = replace(roi, margin_mm=None, margin_voxels=args.margin_voxels)
    return replace(roi, merge_overlapping=roi.merge_overlapping or args.merge_overlapping)


def with_top_k(spec: CascadeSpec, args: argparse.Namespace) -> CascadeSpec:
    """Return a cascade's settings with what --top_k changes."""
    return spec if args.top_k is None else replace(spec, anatomy=replace(spec.anatomy, top_k=args.top_k))


def preset_spec(args: argparse.Namespace) -> CascadeSpec:
    """Return the preset with what the options change."""
    from nnunet_cascade.prediction.spec import CascadeSpec

    spec = with_max_candidates(with_top_k(CascadeSpec.of_preset(args.preset), args), args)
    # A bundle goes to computers with other devices.
    return replace(spec, roi=with_margins(spec.roi, args), lungs=replace(lung_source(args), device="auto"))


def add_roi_training(options: Options) -> None:
    """Add the options of the stage-2 training set."""
    options.switch("--edge_channel", "give stage 2 the edge magnitude of the CT as a second channel")
    meaning = "largest shift of a box's face in training, in mm; default: 8, with preset paper 0"
    options.number("--jitter_mm", "MM", meaning)


def add_false_positives(options: Options) -> None:
    """Add the option that says how much the score may let through."""
    meaning = (
        "false positives per scan that the score of candidates may let through on scans that its fit had not seen, "
    )
    options.add(
        "--false_positives",
        f'{meaning}or "none" for no score: the rules decide alone; default: 0.25, with preset paper none',
        metavar="N",
        type=_false_positives,
    )


def _false_positives(text: str) -> float | str:
    try:
        return text if text == "none" else float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'{text!r}; expected a number or "none"') from error


def false_positives(args: argparse.Namespace, default: float | None) -> float | None:
    """Return --false_positives, or the preset's value."""
    asked: float | str | None = args.false_positives
    return default if asked is None else None if isinstance(asked, str) else asked


def add_operating_point(options: Options) -> None:
    """Add the options that change what goes to stage 2 and what stays after it."""
    meaning = "score from which a candidate is kept, 0 to 1; default: the one that the bundle's score was fitted for"
    options.number("--operating_point", "SCORE", meaning)
    add_max_candidates(options, default="the bundle's")


def add_max_candidates(options: Options, *, default: str) -> None:
    """Add the option that bounds how much stage 2 looks at."""
    options.whole("--max_candidates", "N", f"candidates of a case that go to stage 2 at most; default: {default}")


def with_max_candidates(spec: CascadeSpec, args: argparse.Namespace) -> CascadeSpec:
    """Return a cascade's settings with what --max_candidates changes."""
    most = args.max_candidates
    return spec if most is None else replace(spec, roi=replace(spec.roi, max_candidates=most))


def with_operating_point(spec: CascadeSpec, args: argparse.Namespace) -> CascadeSpec:
    """Return a cascade's settings with what the options of `add_operating_point` change.

    Raises:
        SettingsError: The bundle has no score to cut elsewhere.
    """
    spec = with_max_candidates(spec, args)
    if args.operating_point is None:
        return spec
    if spec.scoring is None:
        raise SettingsError("--operating_point cuts the score of candidates, and the bundle has none; leave it out")
    return replace(spec, scoring=spec.scoring.with_operating_point(args.operating_point))


def add_context(options: Options, *, default: str) -> None:
    """Add the option that says how large crops are."""
    options.number("--context_mm", ("Z", "Y", "X"), f"smallest size of a crop in mm; default: {default}", nargs=3)


def context_mm(args: argparse.Namespace) -> Spacing | None:
    """Return --context_mm, or None."""
    return None if args.context_mm is None else tuple(args.context_mm)


def jitter_mm(args: argparse.Namespace) -> float:
    """Return --jitter_mm, or the preset's value: the boxes of the paper are not shifted."""
    if args.jitter_mm is not None:
        return float(args.jitter_mm)
    return 0.0 if args.preset == "paper" else 8.0


def dataset_tumor(dataset: int, asked: Sequence[str]) -> tuple[int, ...]:
    """Return which label values of a raw dataset are tumor, by the values of --tumor_label."""
    from nnunet_cascade.case_folders.prediction_files import TumorLabel
    from nnunet_cascade.nnunet_folders import raw_folder

    return TumorLabel.of(raw_folder(dataset), asked).values


def stored_tumor(model: Path, asked: Sequence[str]) -> str | tuple[str, ...]:
    """Return what a bundle stores of the labels asked for by name or value; "" if none is asked for."""
    from nnunet_cascade.dataset_labels import DatasetLabels
    from nnunet_cascade.nnunet_folders import read_json

    labels = DatasetLabels.of(read_json(model / "dataset.json"), where=str(model))
    first, *others = labels.names_of(labels.values_of(asked))
    return (first, *others) if others else first if asked else ""


def add_lung_weights(options: Options) -> None:
    """Add the option for machines that cannot download the network of lungmask."""
    meaning = "lungmask weights file, for machines without internet, or a folder that lungmask downloaded to"
    options.path("--lung_weights", "FILE", meaning)


def add_lungs(parser: CommandParser) -> None:
    """Add the options that choose where lung masks come from."""
    lungs = parser.options("lung masks")
    meaning = "find the lungs by thresholds, or by the network of lungmask; default: threshold"
    lungs.add("--lung_source", meaning, choices=("threshold", "lungmask"))
    meaning = "use existing lung masks: <case>.nii.gz, or a folder <case> with the lobes of TotalSegmentator"
    lungs.path("--lungs", "FOLDER", meaning)
    meaning = "with --lungs: the values of each lung, such as 12,13,14 10,11; default: all except 0"
    lungs.add("--lung_labels", meaning, nargs=2, metavar=("RIGHT", "LEFT"))
    models = ("R231", "LTRCLobes", "R231CovidWeb", "LTRCLobes_R231")
    lungs.add("--lung_model", "model of lungmask; default: R231", choices=models)
    add_lung_weights(lungs)
    lungs.whole("--lung_batch_size", "N", "slices that lungmask processes at a time; default: 20")


def lung_source(args: argparse.Namespace) -> LungSource:
    """Return the lung source the options ask for; --lungs alone means the folder.

    lungmask runs on the command's -device, if it has one.
    """
    from nnunet_cascade.postprocessing.lungs.source import LungSource

    asked = _lungmask_values(args)
    if args.lung_labels is not None and args.lungs is None:
        raise SettingsError("--lung_labels names values in ready masks; give their folder with --lungs")
    if args.lung_source != "lungmask" and asked:
        raise SettingsError("--lung_model, --lung_weights and --lung_batch_size need --lung_source lungmask; give it")
    if args.lungs is None:
        return LungSource(kind=args.lung_source or "threshold", **asked, **_lungmask_device(args))
    if args.lung_source is not None:
        raise SettingsError(f"--lungs and --lung_source {args.lung_source} exclude each other; give one")
    right, left = (_parsed_labels(text) for text in args.lung_labels or ("", ""))
    return LungSource(kind="folder", path=args.lungs, right_labels=right, left_labels=left)


def changed_lungs(source: LungSource, args: argparse.Namespace) -> LungSource:
    """Return a bundle's lung source with what the options change; what they leave out stays the bundle's."""
    if args.lungs is not None or args.lung_labels is not None or args.lung_source not in {None, source.kind}:
        return lung_source(args)
    asked = _lungmask_values(args)
    if source.kind == "lungmask":
        return replace(source, **asked, **_lungmask_device(args))
    return lung_source(args) if asked else source


def _lungmask_values(args: argparse.Namespace) -> dict[str, Any]:
    values = {name: getattr(args, option) for option, name in _LUNGMASK_OPTIONS.items()}
    return {name: value for name, value in values.items() if value is not None}


def _lungmask_device(args: argparse.Namespace) -> dict[str, Any]:
    """Return -device without its number, which lungmask does not know; nothing if the command has no such option."""
    device: str | None = getattr(args, "device", None)
    return {} if device is None else {"device": device.partition(":")[0]}


def _parsed_labels(text: str) -> tuple[int, ...]:
    parts = [part for part in text.split(",") if part]
    if not all(part.isdecimal() for part in parts):
        raise SettingsError(f"--lung_labels {text!r}; expected whole numbers with commas between, such as 12,13,14")
    return tuple(map(int, parts))


def require_highdicom() -> None:
    """Raise where the library is missing that reads and writes DICOM objects."""
    if find_spec("highdicom") is None:
        from nnunet_cascade.dicom.derived import MISSING_EXTRA

        raise DicomError(MISSING_EXTRA)


def unassigned_files(count: int) -> str:
    """Say that DICOM files could not be read."""
    return f"{count} unreadable DICOM file(s), listed above, belong to no known series: a case may lack slices"
