"""What all commands share: their parser, exit codes, logging and the choice of a device."""

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
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nnunet_cascade.errors import CascadeError, SettingsError
from nnunet_cascade.versions import NOTICE

DONE, FAILED, WRONG_USAGE = 0, 1, 2
RESUMES = "If interrupted, run the same command again: it resumes where it left off."
_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")


def new_command(
    build_parser: Callable[[], CommandParser], body: Callable[[argparse.Namespace], int], module: str
) -> Callable[..., int]:
    """Return the `main` of a command: it takes the arguments, by default those of the shell.

    `python -m` with the command's module, whose `__name__` is given, runs it at once. The body returns the exit code.
    """

    def main(argv: Sequence[str] | None = None) -> int:
        return run_command(build_parser(), body, argv)

    if module == "__main__":
        raise SystemExit(main())
    return main


class CommandParser(argparse.ArgumentParser):
    """The parser of a command: options in titled groups, each with one spelling, and an example in the help."""

    def __init__(self, prog: str, description: str, *examples: str) -> None:
        super().__init__(
            prog=prog,
            description=f"{description} {NOTICE}",
            epilog="\n  ".join(["examples:" if len(examples) > 1 else "example:", *examples]),
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )
        shown = f"{prog} {version('nnunet-cascade')}"
        self.add_argument("--version", action="version", version=shown, help="show the version and exit")
        self.set_defaults(argv=())
        # What begins like a negative number is a value: --window -600,1500. argparse has no public name for this.
        self._negative_number_matcher = re.compile(r"-\.?\d")

    def options(self, title: str) -> Options:
        """Begin a group of options under a title."""
        return Options(self, self.add_argument_group(title))


class Options:
    """A group of a command's options: each method adds one; `how` goes to `add_argument`."""

    def __init__(self, parser: CommandParser, group: Any) -> None:
        self._parser, self._group = parser, group

    def add(self, flag: str, meaning: str, **how: Any) -> None:
        """Add an option that takes a word, or what `how` says."""
        self._group.add_argument(flag, help=meaning, **how)

    def path(self, flag: str, metavar: str, meaning: str, **how: Any) -> None:
        """Add an option that takes a file or a folder."""
        self.add(flag, meaning, type=Path, metavar=metavar, **how)

    def whole(self, flag: str, metavar: str | tuple[str, ...], meaning: str, **how: Any) -> None:
        """Add an option that takes a whole number."""
        self.add(flag, meaning, type=int, metavar=metavar, **how)

    def number(self, flag: str, metavar: str | tuple[str, ...], meaning: str, **how: Any) -> None:
        """Add an option that takes a number."""
        self.add(flag, meaning, type=float, metavar=metavar, **how)

    def switch(self, flag: str, meaning: str) -> None:
        """Add an option without a value."""
        self.add(flag, meaning, action="store_true")

    def words(self, flag: str, metavar: str, meaning: str, **how: Any) -> None:
        """Add an option that takes one word or several; given twice, all count."""
        self.add(flag, meaning, nargs="+", action="extend", default=[], metavar=metavar, **how)

    def resume(self, *flags: str, meaning: str) -> None:
        """Add the option that resumes an interrupted run; the first flag is the one that messages name."""
        self._group.add_argument(*flags, action="store_true", dest="resume", help=meaning)
        self._parser.set_defaults(resume_flag=flags[0])

    def one_of(self) -> Options:
        """Begin a part of the group whose options exclude each other."""
        return Options(self._parser, self._group.add_mutually_exclusive_group())


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Keep the lines of the examples. Show defaults, except for those that are empty and those of switches."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        empty = action.default is None or action.default is False or action.default in ("", (), [])
        return action.help if empty else super()._get_help_string(action)


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
    resume = getattr(args, "resume_flag", None)
    try:
        with nullcontext() if resume is None else _termination_as_interruption():
            return body(args)
    except SettingsError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return WRONG_USAGE
    except (CascadeError, OSError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return FAILED
    except KeyboardInterrupt:
        again = "" if resume is None else f" with {resume} to resume"
        sys.stderr.write(f"{parser.prog}: interrupted; run it again{again}\n")
        return 130


@contextmanager
def _termination_as_interruption() -> Generator[None, None, None]:
    """Treat SIGTERM, by which systems and schedulers end a command, like Ctrl-C: what is done is written down.

    A forked child process ends at once: nnU-Net ends the processes of its pools by this signal and waits for them.
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


class _AboveProgressBars(logging.Handler):
    """Write log lines so that a progress bar on the screen stays whole."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


def set_up_logging() -> None:
    """Show this package's log on standard error."""
    handler = _AboveProgressBars()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("nnunet_cascade")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def device_name(text: str) -> str:
    """Check the value of -device: nnU-Net's names; a number may follow cuda."""
    if _DEVICE.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is none of cpu, cuda, cuda:N and mps")


def chosen_device(args: argparse.Namespace) -> str:
    """Return the device asked for, or the best one of this machine."""
    import torch

    count = torch.cuda.device_count()
    device: str = args.device or ("cuda" if count else "cpu")
    require_cuda(device, count)
    return device


def require_cuda(device: str, count: int) -> None:
    """Raise if a CUDA device is asked for that does not exist among `count` devices."""
    kind, _, number = device.partition(":")
    if kind == "cuda" and int(number or 0) >= count:
        found = f"found {count} CUDA devices, counted from 0" if count else "no CUDA device found"
        raise SettingsError(f"-device {device}: {found}; use -device cpu, or another number")


def cuda_devices() -> int:
    """Count CUDA devices as PyTorch does. PyTorch is loaded in another process, and only if there is a driver."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    program = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    found = subprocess.run(program, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter
    return int(found.stdout) if found.stdout.strip().isdecimal() else 0


def report_cases(failed: int, total: int, report: Path, *notes: str) -> int:
    """Print how many cases are done and where the details are, and return the exit code."""
    print("; ".join([f"{total - failed} of {total} cases done", *notes, f"details: {report}"]))
    return FAILED if failed else DONE
