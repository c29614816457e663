"""The site builds without a warning and describes every command and every setting."""

import argparse
import dataclasses
import html
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest

from nnunet_cascade.dataset_conversion.settings import ConversionSettings
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.postprocessing.lungs.source import LungSource
from nnunet_cascade.postprocessing.settings import AnatomySettings
from nnunet_cascade.prediction.spec import CascadeSpec, RoiSettings, SamplingSettings, StageSettings
from nnunet_cascade.settings.training import TrainingSettings

DOCS = Path(__file__).parents[2] / "docs"
COMMANDS = sorted(entry.name for entry in entry_points(group="console_scripts") if entry.name.startswith("nnc-"))
SETTINGS = [
    CascadeSpec, StageSettings, AnatomySettings, RoiSettings, SamplingSettings, LungSource, TrainingSettings,
    ConversionSettings, PhantomSettings,
]  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site, as `make docs` builds it."""
    if any(find_spec(name) is None for name in ("sphinx", "myst_parser", "furo")):
        pytest.skip("the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    options = ["-W", "--keep-going", "-q", "-b", "html", "-d", folder / "doctrees"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, DOCS, folder / "html"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"


def words_of(page):
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text()))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_described_with_all_its_options(site, command):
    page = (site / "reference" / "commands.html").read_text()
    assert f'id="{command}"' in page
    parser = import_module(f"nnunet_cascade.cli.{command.removeprefix('nnc-').replace('-', '_')}").build_parser()
    shown = [o for action in parser._actions if action.help != argparse.SUPPRESS for o in action.option_strings]
    section = html.unescape(re.sub(r"<[^>]+>", "", page.split(f'id="{command}"')[1].split("<section")[0]))
    assert [option for option in shown if option not in ("-h", "--help") and option not in section] == []


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.__name__)
def test_every_setting_is_described(site, settings):
    page = (site / "reference" / "settings.html").read_text()
    start = page.index(f'id="{settings.__module__}.{settings.__name__}"')
    section = page[start : page.index("</dl>\n", page.index("</dt>", start))]
    listed = set(re.findall(r"<strong>(\w+)</strong>", section))
    assert [field.name for field in dataclasses.fields(settings) if field.name not in listed] == []


def test_every_page_can_be_reached_from_the_first(site):
    index = (site / "index.html").read_text()
    pages = [path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md")]
    reached = set(re.findall(r'href="([^"#]+)', index))
    assert [page for page in pages if page not in {*reached, "index.html", "reproduction/reproduction.html"}] == []


def test_names_in_a_help_text_are_no_markup(site):
    assert "RUN/*_stage1.nii.gz" in words_of(site / "reference" / "commands.html")
