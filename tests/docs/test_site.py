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
    command = [sys.executable, "-m", "sphinx", *options, DOCS, folder / "html"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"


def test_every_command_has_a_place_to_link_to_and_names_in_its_help_are_no_markup(site):
    page = (site / "reference" / "commands.html").read_text()
    assert [command for command in COMMANDS if f'id="{command}"' not in page] == []
    assert "RUN/*_stage1.nii.gz" in html.unescape(re.sub(r"<[^>]+>", "", page))


def test_every_page_can_be_reached_from_the_first(site):
    index = (site / "index.html").read_text()
    pages = [path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md")]
    reached = set(re.findall(r'href="([^"#]+)', index))
    assert [page for page in pages if page not in {*reached, "index.html", "reproduction/reproduction.html"}] == []
