"""Measure the structure of the package: circles, reach of small modules, sizes of folders, modules and functions.

Exit 1 if a bound is broken; `make lint` runs it with --structure. Lazy imports count like all others.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grimp

PACKAGE = "nnunet_cascade"
ROOT = Path(__file__).parents[1]
SMALL = {"scans.scans": 15, "case_folders.case_record": 5}
"""Modules that must stay cheap to understand, and how many other modules each may reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number and the largest value that is allowed."""

    name: str
    found: float
    bound: float

    def __str__(self) -> str:
        """Return one row of the table."""
        verdict = "ok" if self.found <= self.bound else "TOO LARGE"
        return f"{self.name:<58} {self.found:>8g} {self.bound:>8g}  {verdict}"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    growing = "leave out the lines of the package and of the tests, which grow with what is added"
    parser.add_argument("--structure", action="store_true", help=growing)
    args = parser.parse_args()
    sources = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / PACKAGE).rglob("*.py"))}
    figures = [*_imports(), *_sizes(sources), *([] if args.structure else _lines(sources))]
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
    longest = max(lines, key=lambda path: lines[path])
    yield Figure(name=f"lines of the longest module, {longest.name}", found=lines[longest], bound=400)
    name, length = max(((name, length) for text in sources.values() for name, length in _functions(text)), key=_length)
    yield Figure(name=f"lines of the longest function, {name}", found=length, bound=60)


def _lines(sources: dict[Path, str]) -> Iterator[Figure]:
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")]
    for name, texts, bound in (("package", sources.values(), 40_900), ("tests", tests, 31_000)):
        yield Figure(name=f"lines of the {name}", found=sum(len(text.splitlines()) for text in texts), bound=bound)


def _functions(text: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def _length(function: tuple[str, int]) -> int:
    return function[1]


if __name__ == "__main__":
    raise SystemExit(main())
