import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
LOOK_UP = """
import json, os, pickle, sys
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
found = recursive_find_trainer_class_by_name("UncertaintyROITrainer")
from nnunet_cascade.trainers.stage2 import UncertaintyROITrainer
print(json.dumps({
    "is the class one imports": found is UncertaintyROITrainer,
    "survives pickling": pickle.loads(pickle.dumps(found)) is found,
    "module": found.__module__,
    "file": os.path.realpath(sys.modules[found.__module__].__file__),
}))
"""
VARIABLE = "import json, os; print(json.dumps(os.environ.get('nnUNet_extTrainer')))"
STARTED = "import json, sys; print(json.dumps([name for name in sys.modules if 'nnunet' in name]))"
HEAVY = "import json, sys, nnunet_cascade; print(json.dumps(sorted({'torch', 'numpy', 'nnunetv2'} & set(sys.modules))))"
STARTUP_FILES = ["nnunet_cascade_startup.pth", "nnunet_cascade_startup.start"]

pytestmark = pytest.mark.slow


# An editable one is what all other tests run in.
@pytest.fixture(scope="module", params=["wheel", pytest.param("editable", marks=pytest.mark.long)])
def installed(request, new_environment, wheel):
    """An environment with nnunet-cascade installed, and the folder that then holds the package."""
    environment = new_environment(request.param)
    if request.param == "wheel":
        environment.pip("install", wheel)
        return environment, environment.site_packages.resolve()
    environment.pip("install", "--editable", CHECKOUT)
    return environment, CHECKOUT.resolve()


def test_the_variable_names_our_folder_and_no_other_and_a_child_process_does_not_list_it_again(installed):
    environment, home = installed
    once = environment.answer(VARIABLE)
    assert Path(once).resolve() == home / "nnunet_cascade" / "plugin"
    assert environment.answer(VARIABLE, variables={"nnUNet_extTrainer": once}) == once


def test_what_the_user_exported_is_kept_and_comes_first(installed):
    environment, home = installed
    own = os.pathsep.join(["/one/of/mine", "/another"])
    *first, last = environment.answer(VARIABLE, variables={"nnUNet_extTrainer": own}).split(os.pathsep)
    assert first == ["/one/of/mine", "/another"]
    assert Path(last).resolve() == home / "nnunet_cascade" / "plugin"


def test_the_switch_turns_it_off(installed):
    environment, _ = installed
    assert environment.answer(VARIABLE, variables={"NNC_NO_PLUGIN": "1"}) is None


def test_starting_an_interpreter_imports_nothing_of_the_package_and_its_front_door_nothing_heavy(installed):
    environment, _ = installed
    assert environment.answer(STARTED) == []
    assert environment.answer(HEAVY) == []


def test_nnunet_finds_the_trainer_with_nothing_exported(installed):
    environment, home = installed
    assert environment.answer(LOOK_UP) == {
        "is the class one imports": True,
        "survives pickling": True,
        "module": "nnunet_cascade.trainers.stage2",
        "file": str(home / "nnunet_cascade" / "trainers" / "stage2.py"),
    }


def test_our_startup_files_come_after_the_editable_finder(installed):
    environment, _ = installed
    names = sorted(entry.name for entry in environment.site_packages.iterdir() if entry.suffix in {".pth", ".start"})
    assert [name for name in names if "cascade" in name][-2:] == STARTUP_FILES


# the last of the module: the environment is bare afterwards
def test_uninstalling_leaves_nothing(installed):
    environment, _ = installed
    environment.pip("uninstall", "--yes", "nnunet-cascade")
    assert not list(environment.site_packages.glob("*nnunet*cascade*"))
    assert environment.answer(VARIABLE) is None
