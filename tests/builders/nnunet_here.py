"""nnU-Net's own commands in this process: starting one takes longer than its work on tiny data."""

import sys
import warnings
from contextlib import redirect_stdout
from importlib.metadata import entry_points
from multiprocessing.context import SpawnContext
from multiprocessing.pool import ThreadPool

import pytest
import torch
from nnunetv2.training.logging.nnunet_logger import MetaLogger


def use_threads(patch):
    """Let nnU-Net's pools be of threads: a process takes seconds to start."""
    patch.setattr(SpawnContext, "Pool", lambda _, workers: ThreadPool(workers))


def run_here(command, *arguments, log):
    """Run a command to its end; what it prints is appended to a file."""
    (entry,) = entry_points(group="console_scripts", name=command)
    log.parent.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, log.open("a") as file, redirect_stdout(file), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nnU-Net and torch warn about themselves
        patch.setattr(sys, "argv", [command, *map(str, arguments)])
        use_threads(patch)
        patch.setattr(torch, "set_num_threads", lambda _: None)
        patch.setattr(MetaLogger, "plot_progress_png", lambda *_: None)  # it takes longer than the epoch it shows
        entry.load()()


def run_nnunet_here(command, arguments, *, log, **_):
    """Stand in for the package's `run_nnunet`."""
    run_here(command, *arguments, log=log)
