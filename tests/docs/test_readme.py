"""What the README promises is there."""

import re
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_every_command_in_the_readme_is_installed_and_every_installed_one_is_in_it():
    named = set(re.findall(r"\bnnc-[a-z-]+", README))
    installed = {entry.name for entry in entry_points(group="console_scripts") if entry.name.startswith("nnc-")}
    assert named == installed


def test_every_linked_page_is_there():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert all((ROOT / link).is_file() for link in links)


def test_every_dependency_has_its_reason():
    design = (ROOT / "docs" / "design.md").read_text()
    table = design[design.index("## Dependencies") :]
    project = (ROOT / "pyproject.toml").read_text().partition("[project.scripts]")[0]
    listed = re.findall(r'^    "([A-Za-z0-9-]+)["><!=]', project, flags=re.MULTILINE)
    assert len(listed) > 15
    assert [name for name in listed if name not in table] == []
