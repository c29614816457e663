"""Measure the structure of the package: circles, reach of small modules, sizes of folders, modules and functions.

Exit 1 if a bound is broken; `make lint` runs it. Lazy imports count like all others.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path

import grimp

PACKAGE = "nnunet_cascade"
ROOT = Path(__file__).parents[1]
SMALL = {"scans.scans": 15, "case_folders.case_record": 5}
"""Modules that must stay cheap to understand, and how many other modules each may reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number and the largest value that is allowed, or infinity for a number that is only told."""

    name: str
    found: float
    bound: float = inf

    def __str__(self) -> str:
        """Return one row of the table."""
        verdict = "ok" if self.found <= self.bound else "TOO LARGE"
        limit = "" if self.bound == inf else f"{self.bound:>8g}  {verdict}"
        return f"{self.name:<58} {self.found:>8g} {limit}".rstrip()


def main() -> int:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    sources = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / PACKAGE).rglob("*.py"))}
    figures = [*_imports(), *_sizes(sources)]
    print(f"{'':<58} {'found':>8} {'bound':>8}")
    print("\n".join(map(str, figures)))
    return int(any(figure.found > figure.bound for figure in figures))


def _imports() -> Iterator[Figure]:
    graph = grimp.build_graph(PACKAGE)
    packages = {PACKAGE, *(module.rpartition(".")[0] for module in graph.modules)}
    circles = sum(len(graph.nominate_cycle_breakers(package)) for package in sorted(packages & graph.modules))
    yield Figure(name="imports to remove until no module or folder is in a circle", found=circles, bound=0)
    for module, bound in SMALL.items():
        reached = graph.find_upstream_modules(f"{PACKAGE}.{module}") - packages
        yield Figure(name=f"modules that {module} reaches", found=len(reached), bound=bound)


def _sizes(sources: dict[Path, str]) -> Iterator[Figure]:
    lines = {path: len(text.splitlines()) for path, text in sources.items()}
    folders = Counter[str]()
    for path, count in lines.items():
        folders[path.relative_to(ROOT / PACKAGE).parts[0]] += count
    largest, of_largest = folders.most_common(1)[0]
    total = sum(lines.values())
    yield Figure(
        name=f"share of the largest folder, {largest}, in %", found=round(100 * of_largest / total, 1), bound=12
    )
    yield Figure(name="lines of the package", found=total)
    longest = max(lines, key=lambda path: lines[path])
    yield Figure(name=f"lines of the longest module, {longest.name}", found=lines[longest], bound=400)
    name, length = max(((name, length) for text in sources.values() for name, length in _functions(text)), key=_length)
    yield Figure(name=f"lines of the longest function, {name}", found=length, bound=60)
    tests = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "tests").rglob("*.py"))
    yield Figure(name="lines of the tests", found=tests)


def _functions(text: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def _length(function: tuple[str, int]) -> int:
    return function[1]


if __name__ == "__main__":
    raise SystemExit(main())
