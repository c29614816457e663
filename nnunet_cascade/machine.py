"""What this machine offers to a worker: processors, their number formats, memory that is given back."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nnunet_cascade.errors import SettingsError, require_type

if TYPE_CHECKING:
    import torch

_THREADS = "OMP_NUM_THREADS"
_CGROUP = Path("/sys/fs/cgroup")
_ARENAS = "2"
_LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def processors() -> int:
    """Return the number of processors this process may use: those it is bound to, within the share of a container."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, _share(_CGROUP))))


def _share(cgroup: Path) -> float:
    """Return how many processors a container is worth (cgroup v2, else v1); infinitely many without a limit."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        except OSError:
            return math.inf
    try:
        processors = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return math.inf
    return processors if processors > 0 else math.inf


def threads_per_worker(workers: int = 1) -> int:
    """Return the number of threads of each worker: OMP_NUM_THREADS where that is set, else its share of the machine."""
    asked = os.environ.get(_THREADS, "").partition(",")[0].strip()
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return max(1, processors() // max(1, workers))


def memory_environment() -> dict[str, str]:
    """Return the variables by which a process that computes on processors takes its memory in large pages.

    The arrays between two layers are handed back to the system and taken anew each time; in pages of
    4 KiB that costs as much as the convolutions do. What the user has set stays. glibc reads it from
    2.35 on, when a process starts; elsewhere it does nothing.
    """
    return {name: os.environ.get(name, value) for name, value in _LARGE_PAGES.items()}


def training_environment() -> dict[str, str]:
    """Return the variables by which one of nnU-Net's commands shares the processors with its own workers.

    nnU-Net gives a training on processors as many threads as there are processors, and its augmentation works beside
    them: threads that spin while they wait for each other then cost several times the time of the step. What the user
    has set stays.
    """
    return {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"), **memory_environment()}


def worker_environment(workers: int, *, threads: int | None = None) -> dict[str, str]:
    """Return the variables of a worker's environment; libraries read them when they are loaded.

    Threads that have no work sleep instead of spinning, for the steps of other cases want their
    processor. glibc shares few pools of memory among threads, else each keeps what
    one case needed. nnU-Net would not use more than eight threads.

    Args:
        workers: That share this machine.
        threads: Of each worker; None takes its share.
    """
    count = str(threads or threads_per_worker(workers))
    chosen = {
        _THREADS: count,
        "OPENBLAS_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": count,
        "nnUNet_def_n_proc": count,
    }
    unless_set = {"OMP_WAIT_POLICY": "passive", "MALLOC_ARENA_MAX": _ARENAS}
    kept = {name: os.environ.get(name, value) for name, value in unless_set.items()}
    return {**chosen, **kept, **memory_environment()}


def take_threads(threads: int | None = None) -> int:
    """Let PyTorch use so many threads in this process, None for what the machine has; gives their number.

    Call it before the first thread computes anything.
    """
    import torch  # noqa: PLC0415 - who asks for an environment needs none

    count = threads or threads_per_worker()
    torch.set_num_threads(count)
    return count


def find_device(device: str | torch.device) -> torch.device:
    """Return a device of this machine.

    Args:
        device: "cpu", "cuda", "cuda:1", "mps" or the like; "auto" is a CUDA device if there is one, else the CPU.

    Raises:
        WrongTypeError: It is neither text nor a device.
        SettingsError: It is no such device, or this machine has none.
    """
    import torch  # noqa: PLC0415

    require_type(device, (str, torch.device), "a str or torch.device", what="device")
    count = torch.cuda.device_count()
    try:
        found = torch.device(("cuda" if count else "cpu") if device == "auto" else device)
    except RuntimeError as error:
        raise SettingsError(f"device {device}: expected auto, cpu, cuda, cuda:N or mps") from error
    if found.type == "cuda" and (found.index or 0) >= count:
        raise SettingsError(f"device {device}: found {count} CUDA devices, counted from 0; choose another or cpu")
    if found.type == "mps" and not torch.backends.mps.is_available():
        raise SettingsError("device mps: found no such device; use cpu")
    return found


def require_precision(precision: Literal["float32", "bfloat16"], device: torch.device) -> None:
    """Raise unless a device computes in a number format as fast as it is meant to.

    Raises:
        SettingsError: bfloat16 is asked of a processor without instructions for it, or of a GPU, where nnU-Net
            chooses for itself.
    """
    if precision == "float32":
        return
    if device.type != "cpu":
        raise SettingsError(f"precision bfloat16 is for processors; on {device} nnU-Net chooses itself: leave it out")
    if not _has_bfloat16():
        raise SettingsError(
            "precision bfloat16: this processor has no instructions for it (avx512_bf16, amx_bf16 or Arm's bf16) and "
            "would be slower; leave it out"
        )


def _has_bfloat16() -> bool:
    import torch  # noqa: PLC0415

    try:
        instructions = Path("/proc/cpuinfo").read_text()
        usable = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001 - PyTorch has no public name for it
    except (OSError, AttributeError, RuntimeError):
        return False
    return "bf16" in instructions and bool(usable)


def give_memory_back() -> None:
    """Hand memory that lies idle in the allocator back to the system, where it is glibc's; else do nothing."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
