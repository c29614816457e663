"""Commands of nnU-Net, run one after the other, watched, and logged."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nnunet_cascade._startup import register
from nnunet_cascade.errors import StepFailedError
from nnunet_cascade.machine import training_environment

_log = logging.getLogger(__name__)
_EPOCH = re.compile(r"Epoch (\d+)\s*$")
_TAIL_LINES = 12


def run_nnunet(command: str, arguments: Sequence[str], *, log: Path, title: str, epochs: int | None = None) -> None:
    """Run one of nnU-Net's commands to its end.

    Args:
        command: Such as `nnUNetv2_train`; the one of this Python's environment.
        arguments: Of the command.
        log: File to append its output to.
        title: What it does, for the progress bar.
        epochs: How many epochs it will train, or None if it trains none.

    Raises:
        StepFailedError: It did not succeed; the message holds its last lines.
    """
    register()
    log.parent.mkdir(parents=True, exist_ok=True)
    tail: list[str] = []
    with (
        log.open("a") as file,
        subprocess.Popen(  # noqa: S603 - a fixed command of this environment, without a shell
            [*_program(command), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **training_environment(), "PYTHONUNBUFFERED": "1"},
        ) as process,
        tqdm(desc=title, total=epochs, unit="epoch" if epochs else "line", mininterval=1.0) as bar,
    ):
        for line in process.stdout or ():
            file.write(line)
            tail = [*tail, line.rstrip()][-_TAIL_LINES:]
            _advance(bar, line, counts_epochs=epochs is not None)
    if process.returncode != 0:
        shown = "\n  ".join(tail)
        raise StepFailedError(f"{title}: {command} ended with {process.returncode}; its log is {log}\n  {shown}")


def _advance(bar: Any, line: str, *, counts_epochs: bool) -> None:
    epoch = _EPOCH.search(line)
    if not counts_epochs:
        bar.update()
    elif epoch is not None:
        bar.update(int(epoch.group(1)) - bar.n)
    elif "Training done" in line:
        bar.update((bar.total or bar.n) - bar.n)


def _program(command: str) -> list[str]:
    """Find a command next to this Python, so that a user's PATH cannot lead to another environment."""
    script = Path(sys.executable).parent / command
    if not script.is_file():
        raise StepFailedError(
            f"{command} is not installed beside {sys.executable}; install nnunetv2 in this environment"
        )
    return [sys.executable, str(script)]
