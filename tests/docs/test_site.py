"""The site builds without a warning, and all its pages can be reached."""

import html
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from nnunet_cascade.cli.commands import COMMANDS

DOCS = Path(__file__).parents[2] / "docs"


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
def test_every_command_has_a_place_to_link_to(site, command):
    assert f'id="{command}"' in (site / "reference" / "commands.html").read_text()


def test_every_page_can_be_reached_from_the_first(site):
    index = (site / "index.html").read_text()
    pages = [path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md")]
    reached = set(re.findall(r'href="([^"#]+)', index))
    assert [page for page in pages if page not in {*reached, "index.html", "reproduction/reproduction.html"}] == []


def test_names_in_a_help_text_are_no_markup(site):
    assert "RUN/*_stage1.nii.gz" in words_of(site / "reference" / "commands.html")
