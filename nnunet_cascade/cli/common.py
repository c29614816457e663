"""What all commands share: exit codes, logging, and options that mean the same everywhere."""

from __future__ import annotations

import argparse
import ctypes
import io
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_cascade.errors import CascadeError, SettingsError
from nnunet_cascade.versions import NOTICE

if TYPE_CHECKING:
    from nnunet_cascade.case_folders.lock import Part
    from nnunet_cascade.postprocessing.lungs.source import LungSource
    from nnunet_cascade.prediction.spec import CascadeSpec, RoiSettings

DONE, FAILED, WRONG_USAGE = 0, 1, 2
_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")


def run_command(
    parser: argparse.ArgumentParser, body: Callable[[argparse.Namespace], int], argv: Sequence[str] | None
) -> int:
    """Parse arguments and run a command's body.

    Returns:
        The exit code: 0 done, 1 something failed, 2 wrong usage, 130 interrupted.
        Expected errors are one line on standard error.
    """
    args = parser.parse_args(argv)
    args.argv = tuple(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a dash that the terminal lacks must not end a night's run
    set_up_logging()
    try:
        with _termination_as_interruption() if hasattr(args, "continue_prediction") else nullcontext():
            return body(args)
    except SettingsError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return WRONG_USAGE
    except (CascadeError, OSError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return FAILED
    except KeyboardInterrupt:
        again = " with --continue_prediction" if hasattr(args, "continue_prediction") else ""
        sys.stderr.write(f"{parser.prog}: interrupted; run it again{again} to go on\n")
        return 130


@contextmanager
def _termination_as_interruption() -> Generator[None, None, None]:
    """End a command that a system or its scheduler ends as Ctrl-C does: with what was done so far written down.

    A process forked from it ends at once: nnU-Net's pools end theirs by this signal, and wait for it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    command = os.getpid()

    def interrupt(number: int, _frame: object) -> None:
        if os.getpid() != command:
            os._exit(128 + number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


class _BesideProgressBars(logging.Handler):
    """Write log lines so that a progress bar on the screen is not broken."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


def set_up_logging() -> None:
    """Show this package's log on standard error."""
    handler = _BesideProgressBars()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("nnunet_cascade")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def new_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Return a parser whose help shows defaults."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=f"{description} {NOTICE}",
        formatter_class=_DefaultsThatSaySomething,
    )
    parser.set_defaults(argv=())
    return parser


class _DefaultsThatSaySomething(argparse.ArgumentDefaultsHelpFormatter):
    """Show defaults in the help, but for those of nothing and of a switch."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_nothing = action.default is None or action.default is False or action.default in ("", (), [])
        return action.help if says_nothing else super()._get_help_string(action)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add nnU-Net's -device; a number may follow cuda."""
    parser.add_argument(
        "-device",
        type=_device,
        default=None,
        metavar="{cpu,cuda,cuda:N,mps}",
        help="default: cuda where there is one, else cpu",
    )


def _device(text: str) -> str:
    if _DEVICE.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is none of cpu, cuda, cuda:N and mps")


def chosen_device(args: argparse.Namespace) -> str:
    """Return the device asked for, or the best there is."""
    import torch

    count = torch.cuda.device_count()
    device: str = args.device or ("cuda" if count else "cpu")
    require_cuda(device, count)
    return device


def require_cuda(device: str, count: int) -> None:
    """Raise where a CUDA device is asked for that is not among so many."""
    kind, _, number = device.partition(":")
    if kind == "cuda" and int(number or 0) >= count:
        found = f"found {count} CUDA devices, counted from 0" if count else "no CUDA device found"
        raise SettingsError(f"-device {device}: {found}; use -device cpu, or another number")


def cuda_devices() -> int:
    """Count CUDA devices as PyTorch does, which is asked in a process of its own, and only where there is a driver."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    program = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    found = subprocess.run(program, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter
    return int(found.stdout) if found.stdout.strip().isdecimal() else 0


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add the option that lets models run code."""
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="let checkpoints and plans run any code, as nnU-Net itself does, and look for trainers in "
        "nnUNet_extTrainer; give it only if you trust where the files come from",
    )


def add_preset(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose anatomy rules, lung masks and regions."""
    parser.add_argument(
        "--preset", choices=("recommended", "paper"), default="recommended", help="settings to begin with"
    )
    add_margins(parser, default="the preset's")
    parser.add_argument("--top_k", default=None, help='candidates that go to stage 2, or "all"; default: the preset\'s')
    add_lungs(parser)


def add_margins(parser: argparse.ArgumentParser, *, default: str) -> None:
    """Add the options that say how far boxes reach beyond candidates."""
    margins = parser.add_mutually_exclusive_group()
    margins.add_argument("--margin_mm", type=float, help=f"added to each box, in mm; default: {default}")
    margins.add_argument("--margin_voxels", type=int, help="the same in voxels of the image, along each axis")
    parser.add_argument(
        "--merge_overlapping", action="store_true", help="make one region of those that overlap; else each is its own"
    )


def with_margins(roi: RoiSettings, args: argparse.Namespace) -> RoiSettings:
    """Return settings of regions with what the options of `add_margins` change."""
    if args.margin_mm is not None:
        roi = replace(roi, margin_mm=args.margin_mm, margin_voxels=None)
    if args.margin_voxels is not None:
        roi = replace(roi, margin_mm=None, margin_voxels=args.margin_voxels)
    return replace(roi, merge_overlapping=roi.merge_overlapping or args.merge_overlapping)


def add_edge_channel(parser: argparse.ArgumentParser) -> None:
    """Add the option that gives stage 2 a second channel."""
    parser.add_argument(
        "--edge_channel", action="store_true", help="give stage 2 the CT's edge magnitude as a second channel"
    )


def add_sharing(parser: argparse.ArgumentParser) -> None:
    """Add nnU-Net's options to go on, and to share cases out among several runs."""
    parser.add_argument(
        "--continue_prediction",
        action="store_true",
        help="leave out cases whose files are there with their sizes and were made by the same version of this "
        "package, with the same settings, from the same images, masks and models, by their SHA-256",
    )
    parser.add_argument("-num_parts", type=int, default=1, help="share the cases out among so many runs")
    parser.add_argument("-part_id", type=int, default=0, help="which of the runs this is, from 0")


def require_sharing(args: argparse.Namespace) -> Part:
    """Return which of the cases a run does; raises where there is no such part."""
    from nnunet_cascade.case_folders.lock import Part

    return Part(num_parts=args.num_parts, part_id=args.part_id)


def require_other_folder(output: Path, *inputs: Path | None) -> None:
    """Refuse to write into a folder that is read from."""
    for folder in inputs:
        if folder is not None and output.resolve() == (folder.parent if folder.is_file() else folder).resolve():
            raise SettingsError(f"-o {output} is a folder that is read from; give another one")


def add_lungs(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose where lung masks come from."""
    parser.add_argument("--lung_source", choices=("threshold", "lungmask"), default=None, help="default: threshold")
    parser.add_argument(
        "--lungs",
        type=Path,
        default=None,
        metavar="FOLDER",
        help="ready lung masks: <case>.nii.gz, or a folder <case> of TotalSegmentator's lobes",
    )
    parser.add_argument(
        "--lung_labels",
        nargs=2,
        default=None,
        metavar=("RIGHT", "LEFT"),
        help="with --lungs: which values are lung, such as 12,13,14 10,11; default: all but 0",
    )
    parser.add_argument(
        "--lung_model",
        choices=("R231", "LTRCLobes", "R231CovidWeb", "LTRCLobes_R231"),
        default=None,
        help="network of lungmask; default: R231",
    )
    parser.add_argument(
        "--lung_weights",
        type=Path,
        default=None,
        help="weights file for lungmask where there is no network, or a folder of lungmask's downloads",
    )
    parser.add_argument(
        "--lung_batch_size", type=int, default=None, help="slices that lungmask takes at a time; default: 20"
    )


def preset_spec(args: argparse.Namespace) -> CascadeSpec:
    """Return the preset with what the options change."""
    from nnunet_cascade.prediction.spec import CascadeSpec

    spec = CascadeSpec.of_preset(args.preset)
    spec = replace(spec, roi=with_margins(spec.roi, args))
    if args.top_k is not None:
        spec = replace(spec, anatomy=replace(spec.anatomy, top_k=parsed_top_k(args.top_k)))
    # A bundle goes to computers with other devices.
    return replace(spec, lungs=replace(lung_source(args), device="auto"))


def jitter_mm(args: argparse.Namespace) -> float:
    """Return --jitter_mm, or what the preset does in training: the paper's boxes stand still."""
    if args.jitter_mm is not None:
        return float(args.jitter_mm)
    return 0.0 if args.preset == "paper" else 8.0


def parsed_top_k(text: str) -> int | str:
    """Return --top_k as a number, or "all"."""
    if text == "all" or text.isdecimal():
        return text if text == "all" else int(text)
    raise SettingsError(f'--top_k {text!r}; expected a whole number or "all"')


def lung_source(args: argparse.Namespace) -> LungSource:
    """Return the lung source the options ask for; --lungs alone means the folder.

    lungmask runs on the command's -device, where it has one.
    """
    from nnunet_cascade.postprocessing.lungs.source import LungSource

    asked: dict[str, Any] = {
        "model": args.lung_model,
        "weights": args.lung_weights,
        "batch_size": args.lung_batch_size,
        "device": _kind_of_device(args),
    }
    network = {name: value for name, value in asked.items() if value is not None}
    if args.lung_labels is not None and args.lungs is None:
        raise SettingsError("--lung_labels names values in ready masks; give their folder with --lungs")
    if args.lung_source != "lungmask" and network.keys() - {"device"}:
        raise SettingsError("--lung_model, --lung_weights and --lung_batch_size need --lung_source lungmask; give it")
    if args.lungs is None:
        return LungSource(kind=args.lung_source or "threshold", **network)
    if args.lung_source is not None:
        raise SettingsError(f"--lungs and --lung_source {args.lung_source} exclude each other; give one")
    right, left = (_parsed_labels(text) for text in args.lung_labels or ("", ""))
    return LungSource(kind="folder", path=args.lungs, right_labels=right, left_labels=left)


def changed_lungs(source: LungSource, args: argparse.Namespace) -> LungSource:
    """Return a bundle's lung source with what the options change; what they leave out stays the bundle's."""
    if args.lungs is not None or args.lung_labels is not None or args.lung_source not in {None, source.kind}:
        return lung_source(args)
    network = {
        name: value
        for name, value in (
            ("model", args.lung_model),
            ("weights", args.lung_weights),
            ("batch_size", args.lung_batch_size),
        )
        if value is not None
    }
    if source.kind == "lungmask":
        device = {} if args.device is None else {"device": _kind_of_device(args)}
        return replace(source, **network, **device)
    return lung_source(args) if network else source


def _kind_of_device(args: argparse.Namespace) -> str | None:
    """Return -device without its number, which lungmask does not know; None where the command has no such option."""
    device: str | None = getattr(args, "device", None)
    return None if device is None else device.partition(":")[0]


def _parsed_labels(text: str) -> tuple[int, ...]:
    parts = [part for part in text.split(",") if part]
    if not all(part.isdecimal() for part in parts):
        raise SettingsError(f"--lung_labels {text!r}; expected whole numbers with commas between, such as 12,13,14")
    return tuple(map(int, parts))
