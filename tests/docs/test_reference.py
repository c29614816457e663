"""The reference pages in the repository are those that the code describes."""

import dataclasses
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from nnunet_cascade.cli.commands import COMMANDS, module_of

DOCS = Path(__file__).parents[2] / "docs"
_FOUND = spec_from_file_location("make_reference", DOCS / "make_reference.py")
make_reference = module_from_spec(_FOUND)
_FOUND.loader.exec_module(make_reference)
KINDS = [kind for _, kinds in make_reference._KINDS for kind in kinds]


@pytest.mark.parametrize("name", make_reference.PAGES)
def test_a_page_is_current(name):
    page = (DOCS / "reference" / name).read_text()
    assert page == make_reference.PAGES[name](), "run `make reference`"


def section_of(name, title):
    return (DOCS / "reference" / name).read_text().split(f"\n### {title}\n")[1].split("\n### ")[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_described_with_all_its_options(command):
    section = section_of("commands.md", command)
    actions = module_of(command).build_parser()._actions
    expected = {(action.option_strings or [action.metavar])[0] for action in actions} - {"-h", "--version"}
    assert {name.rstrip(",") for name in re.findall(r"^- `([^ `]+)", section, re.MULTILINE)} == expected


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_setting_is_explained(kind):
    section = section_of("settings.md", kind.__name__)
    assert re.findall(r"^- `(\w+)` \(`[^`]+`.*?\): .", section, re.MULTILINE) == [
        field.name for field in dataclasses.fields(kind)
    ]


def test_names_in_a_text_are_no_markup():
    marked = make_reference._marked
    assert marked("folder of <case>_0000.nii.gz, or one") == "folder of `<case>_0000.nii.gz`, or one"
    assert marked("with --tune (or -gt); * stands for any") == "with `--tune` (or `-gt`); `*` stands for any"
    assert marked("preset `paper` of 1 - 2") == "preset `paper` of 1 - 2"
