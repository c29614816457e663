"""`import nnunet_cascade`: what it offers, what it costs, and that each name is described and its example runs."""

import ast
import doctest
import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import nnunet_cascade as nnc

# nnU-Net and torch warn about themselves when trainers are looked up.
pytestmark = pytest.mark.filterwarnings("ignore")
WITH_CASCADE = {"Cascade", "CaseResult", "Prediction", "load_cascade", "read_spec"}
DESCRIBED = [name for name in nnc.__all__ if name != "__version__"]
ERRORS = [name for name in nnc.__all__ if name.endswith("Error")]


@pytest.mark.parametrize("name", DESCRIBED)
def test_every_name_can_be_imported_and_is_described(name):
    assert inspect.getdoc(getattr(nnc, name)).splitlines()[0].endswith((".", ";", ":", ","))
    assert name in dir(nnc)


def test_a_name_that_is_none_of_them_is_no_attribute_and_the_version_is_that_of_the_package():
    with pytest.raises(AttributeError, match="'nnunet_cascade' has no attribute 'predict'"):
        _ = nnc.predict
    assert nnc.__version__ == version("nnunet-cascade")


def test_type_checkers_see_the_names_that_there_are():
    tree = ast.parse(Path(nnc.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name))
    seen = {f"{node.module}.{alias.name}" for node in block.body for alias in node.names}
    homes = {
        name: next((m for m, names in nnc._HOMES.items() if name in names.split()), "errors") for name in nnc.__all__
    }
    assert seen == {f"nnunet_cascade.{home}.{name}" for name, home in homes.items()}


def test_nothing_is_imported_before_it_is_used():
    program = """
import sys, nnunet_cascade
assert not {"numpy", "torch", "nnunetv2", "nnunet_cascade.errors"} & set(sys.modules)
from nnunet_cascade import CascadeError, __version__
assert not {"numpy", "torch"} & set(sys.modules)
from nnunet_cascade import Grid, AnatomySettings, CascadeSpec, LungSource
assert not {"torch", "monai", "nnunetv2.training"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_error_is_a_cascade_error_and_a_built_in_one():
    for name in ERRORS:
        error = getattr(nnc, name)
        assert issubclass(error, nnc.CascadeError)
        assert name == "CascadeError" or issubclass(error, (ValueError, RuntimeError, TypeError))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in WITH_CASCADE else []) for name in DESCRIBED]
)
def test_the_examples_run(name, example_names):
    described = getattr(nnc, name)
    names = example_names(with_cascade=name in WITH_CASCADE)
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    tests = finder.find(described, name, module=sys.modules[described.__module__], globs=names)
    for test in tests:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
    if name not in ERRORS or name == "CascadeError":
        assert any(test.examples for test in tests if test.name == name)
