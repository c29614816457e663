"""What a machine is said to offer."""

import os
from types import SimpleNamespace

import pytest
import torch

from nnunet_cascade import machine
from nnunet_cascade.errors import SettingsError


@pytest.fixture
def cores(monkeypatch, tmp_path):
    """A machine of so many processors, without limits of a container, on which nothing is asked for."""

    def of(count, **files):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)), raising=False)
        monkeypatch.setattr(machine, "_CGROUP", tmp_path)
        for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MALLOC_ARENA_MAX"):
            monkeypatch.delenv(name, raising=False)
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_max", ".max").replace("cpu/cfs", "cpu/cpu.cfs")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    return of


def test_workers_share_the_processors_and_have_one_at_least(cores):
    cores(12)
    assert [machine.threads_per_worker(workers) for workers in (1, 2, 5, 99)] == [12, 6, 2, 1]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ({"cpu_max": "200000 100000"}, 2),
        ({"cpu_max": "150000 100000"}, 2),
        ({"cpu_max": "max 100000"}, 8),
        ({"cpu__cfs_quota_us": "300000", "cpu__cfs_period_us": "100000"}, 3),  # of older containers
        ({"cpu__cfs_quota_us": "-1", "cpu__cfs_period_us": "100000"}, 8),
    ],
)
def test_a_container_has_its_share_only(cores, limit, expected):
    cores(8, **limit)
    assert machine.processors() == expected


@pytest.mark.parametrize(("asked", "expected"), [("3", 3), ("5,2", 5), ("0", 6), ("many", 6)])
def test_omp_num_threads_is_each_workers_where_it_is_a_number(cores, monkeypatch, asked, expected):
    cores(12)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert machine.threads_per_worker(2) == expected


def test_threads_of_a_worker_sleep_and_all_libraries_have_equally_many(cores, monkeypatch):
    cores(8)
    made = machine.worker_environment(2)
    assert made["OMP_WAIT_POLICY"] == "passive"
    assert {made[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "nnUNet_def_n_proc")} == {"4"}
    assert machine.training_environment()["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert machine.training_environment()["OMP_WAIT_POLICY"] == "active"
    assert machine.worker_environment(1, threads=3)["OMP_WAIT_POLICY"] == "active"
    assert machine.worker_environment(1, threads=3)["OMP_NUM_THREADS"] == "3"


def test_memory_comes_in_large_pages_unless_the_user_has_chosen(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert machine.worker_environment(1)["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=3")
    assert machine.memory_environment() == {"GLIBC_TUNABLES": "glibc.malloc.check=3"}


def test_float32_is_everywhere_and_bfloat16_is_refused_where_it_is_not(monkeypatch):
    machine.require_precision("float32", torch.device("cpu"))
    monkeypatch.setattr(machine, "_has_bfloat16", lambda: False)
    with pytest.raises(SettingsError, match="no instructions for it"):
        machine.require_precision("bfloat16", torch.device("cpu"))
    monkeypatch.setattr(machine, "_has_bfloat16", lambda: True)
    machine.require_precision("bfloat16", torch.device("cpu"))
    with pytest.raises(SettingsError, match="on cuda:0 nnU-Net chooses itself"):
        machine.require_precision("bfloat16", torch.device("cuda:0"))


@pytest.mark.parametrize(("platform", "trims"), [("linux", [0]), ("darwin", []), ("win32", [])])
def test_memory_is_given_back_by_glibc_alone(monkeypatch, platform, trims):
    called = []
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda _: SimpleNamespace(malloc_trim=called.append))
    monkeypatch.setattr(machine.sys, "platform", platform)
    machine.give_memory_back()
    assert called == trims
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda _: SimpleNamespace())
    machine.give_memory_back()  # another allocator
