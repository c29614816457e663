import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_cascade._startup import VARIABLE, plugin_folder, register

CHECKOUT = Path(__file__).parents[2]


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
def test_our_folder_comes_after_the_users_own(before, after, monkeypatch):
    if before is None:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, before.replace(":", os.pathsep).replace("ours", plugin_folder()))
    register()
    assert os.environ[VARIABLE].replace(plugin_folder(), "ours").split(os.pathsep) == after


def test_registering_again_changes_nothing(monkeypatch):
    monkeypatch.setenv(VARIABLE, "/a")
    register()
    once = os.environ[VARIABLE]
    register()
    assert os.environ[VARIABLE] == once


def test_nnunet_meets_exactly_one_module_in_the_plugin_folder():
    assert [module.name for module in pkgutil.iter_modules([plugin_folder()])] == ["nnunet_cascade_trainers"]


def test_an_interpreter_start_loads_our_two_small_modules_and_nothing_else():
    code = """
import json, os, sys
before = set(sys.modules)
sys.path.append(os.getcwd())
import nnunet_cascade._startup
nnunet_cascade._startup.register()
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    # -S: as at the moment when site has just begun, with only what the interpreter itself needs
    command = [sys.executable, "-S", "-E", "-c", "import os\n" + code]
    found = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout
    assert json.loads(found) == ["nnunet_cascade", "nnunet_cascade._startup"]


def test_both_startup_files_name_a_function_that_exists():
    assert (CHECKOUT / "startup" / "start.txt").read_text() == "nnunet_cascade._startup:register\n"
    line = (CHECKOUT / "startup" / "pth.txt").read_text()
    assert line == "import nnunet_cascade._startup; nnunet_cascade._startup.register()\n"
