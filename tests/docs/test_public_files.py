"""The files by which the project is built, tested, published and read agree with each other."""

import re
import tomllib
from importlib.metadata import entry_points

from builders.page_snippets import ROOT

README = (ROOT / "README.md").read_text()
WORKFLOWS = "\n".join(path.read_text() for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")))
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def make_targets(text):
    lines = re.findall(r"^(?:\s*(?:- )?run: )?make (.*)$", text, flags=re.MULTILINE)
    return {word for line in lines for word in line.split() if re.fullmatch(r"[a-z][a-z-]*", word)}


def test_workflows_call_all_that_the_gate_calls_and_both_targets_that_exist():
    in_workflows, in_gate = make_targets(WORKFLOWS), make_targets((ROOT / ".ci" / "run").read_text())
    assert len(in_gate) >= 5
    assert in_gate <= in_workflows
    assert {name for name in in_workflows if not re.search(rf"^{name}:", MAKEFILE, re.MULTILINE)} == set()


def test_every_file_names_the_same_pythons():
    declared = sorted(re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"])))
    tested = re.search(r"python: \[(.*?)\]", WORKFLOWS)[1]
    assert re.search(r"^PYTHONS := (.*)$", MAKEFILE, re.MULTILINE)[1].split() == declared
    assert re.findall(r"3\.\d+", tested) == declared
    assert PROJECT["requires-python"] == f">={declared[0]}"


def test_the_citation_has_the_version_of_the_package():
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()


def test_every_command_in_the_readme_is_installed_and_every_installed_one_is_in_it():
    named = set(re.findall(r"\bnnc-[a-z-]+", README))
    installed = {entry.name for entry in entry_points(group="console_scripts") if entry.name.startswith("nnc-")}
    assert named == installed


def test_every_page_that_the_readme_links_is_there():
    links = [link.partition("#") for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [page for page, _, _ in links if not (ROOT / page).is_file()] == []
    for page, _, place in links:
        titles = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.MULTILINE) if place else []
        assert not place or place in {title.lower().replace(" ", "-") for title in titles}, place


def test_every_dependency_has_its_reason():
    table = (ROOT / "docs" / "design.md").read_text().partition("## Dependencies")[2]
    wanted = sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"])
    names = {re.match(r"[A-Za-z0-9-]+", each)[0] for each in wanted} - {PROJECT["name"]}
    assert len(names) > 15
    assert [name for name in sorted(names) if name not in table] == []
