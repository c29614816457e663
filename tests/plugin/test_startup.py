import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_cascade._startup import SWITCH, VARIABLE, plugin_folder, register, start

CHECKOUT = Path(__file__).parents[2]
LINE = (CHECKOUT / "startup" / "pth.txt").read_text().splitlines()[-1]


def run_line():
    """Run the line of the .pth as `site` does."""
    exec(LINE)  # noqa: S102 - our own line


@pytest.fixture(params=[run_line, start, register], ids=["pth", "start", "register"])
def registration(request, monkeypatch):
    """Each way to register; the package is the only one on the path."""
    monkeypatch.setattr(sys, "path", ["/nowhere", str(CHECKOUT)])
    monkeypatch.delenv(SWITCH, raising=False)
    return request.param


def set_before(monkeypatch, value):
    if value is None:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, value.replace(":", os.pathsep).replace("ours", plugin_folder()))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, ["ours"]),
        ("", ["ours"]),
        ("/a", ["/a", "ours"]),
        ("/a:/b", ["/a", "/b", "ours"]),
        ("/a:ours", ["/a", "ours"]),
        ("ours:/a", ["ours", "/a"]),
    ],
)
def test_our_folder_comes_after_the_users_own(before, after, registration, monkeypatch):
    set_before(monkeypatch, before)
    registration()
    assert os.environ[VARIABLE].replace(plugin_folder(), "ours").split(os.pathsep) == after
    registration()
    assert os.environ[VARIABLE].replace(plugin_folder(), "ours").split(os.pathsep) == after


@pytest.mark.parametrize("before", [None, "/a"])
@pytest.mark.parametrize("at_start", [run_line, start])
def test_the_switch_turns_the_registration_at_start_off(at_start, before, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(CHECKOUT)])
    monkeypatch.setenv(SWITCH, "1")
    set_before(monkeypatch, before)
    at_start()
    assert os.environ.get(VARIABLE) == before


def test_the_line_does_nothing_where_the_package_is_not_found(monkeypatch):
    monkeypatch.setattr(sys, "path", ["/nowhere"])
    monkeypatch.delenv(VARIABLE, raising=False)
    run_line()
    assert VARIABLE not in os.environ


def test_nnunet_meets_exactly_one_module_in_the_plugin_folder():
    assert [module.name for module in pkgutil.iter_modules([plugin_folder()])] == ["nnunet_cascade_trainers"]


def test_the_line_imports_nothing_that_an_interpreter_start_does_not():
    code = "import os, sys; before = set(sys.modules); exec(sys.argv[1]); print(sorted(set(sys.modules) - before))"
    # -S: as at the moment when site has just begun, with only what the interpreter itself needs
    command = [sys.executable, "-S", "-E", "-c", code, f"sys.path.append({str(CHECKOUT)!r}); {LINE}"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[]\n"


def test_the_startup_file_names_a_function_that_exists():
    assert (CHECKOUT / "startup" / "start.txt").read_text() == f"nnunet_cascade._startup:{start.__name__}\n"
