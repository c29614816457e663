"""Can the tests fail? Change one thing in the package, run the tests of that part, and see whether they notice.

    python benchmarks/mutations.py                      # the ten changes of KNOWN
    python benchmarks/mutations.py --draw 20 --seed 1   # twenty at random, from every folder of the package in turn

Run it in a checkout of its own: it changes files in place, and changes them back. A change is "killed" if a test fails
with it that passes without it. First run the tests that import the module, in the folder of `tests` that mirrors its
own; if they notice nothing, all tests of that folder. Slow tests only run with --slow, and last. The exit status is 0
if all changes are killed, else 1.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, TESTS = ROOT / "nnunet_cascade", ROOT / "tests"
QUICK, ALL = ("-m", "not slow"), ("-m", "slow or not slow")
_PASSED, _FAILED, _ENDED_EARLY, _NO_TESTS = 0, 1, 2, 5
_MOST_SECONDS = 1800

KNOWN: tuple[tuple[str, str, str], ...] = (
    ("a lung overlap of 1 % less is enough", r"share >= needed - _TOLERANCE", "share >= needed - 0.01"),
    ("no correction for continuity", r"/ 2 - statistic - 0\.5", "/ 2 - statistic"),
    ("merged regions in another order", r"sorted\(\[\*met\[1\], \*places\]\)", "[*places, *met[1]]"),
    ("the spread does not count", r"\+ \w+ \* \(spread or 0\.0\)", "+ 0.0 * (spread or 0.0)"),
    ("changed inputs count as the same", r"(return record is not None) and record\.inputs == .*", r"\1"),
    ("cross-entropy 1 % larger", r"(\(unsure \* batch\.entropy\(\))", r"\1 * 1.01"),
    ("of equal windows the last one stands", r"torch\.where\(weights > before", "torch.where(weights >= before"),
    (
        "a lock's file goes after the lock",
        r"( +with suppress.*\n +Path\(lock\.lock_file.*\n)( +lock\.release.*\n)",
        r"\2\1",
    ),
    ("contours farther apart are of one height", r"(_ONE_HEIGHT_SHARE = )0\.15", r"\g<1>0.45"),
    ("slices are thick from 4 mm on", r"(_THICK_MM = )5\.0", r"\g<1>4.0"),
)
"""What each changes, the one place in the package as a regular expression, and what is put there."""

_OPPOSITES: tuple[tuple[type[ast.AST], type[ast.AST]], ...] = (
    *((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.In, ast.NotIn), (ast.Is, ast.IsNot)),
    *((ast.And, ast.Or), (ast.Add, ast.Sub), (ast.Mult, ast.Div)),
)
OPPOSITE: dict[type[ast.AST], type[Any]] = {one: other for two in _OPPOSITES for one, other in (two, two[::-1])}
"""What is put in the place of each operator."""
_NEVER_LOOKED_INTO = frozenset({"annotation", "returns", "type_params"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One change of one file.

    Attributes:
        path: Of the file.
        line: Where it changes, from 1.
        kind: Of expression.
        what: In a few words.
        content: Of the changed file.
    """

    path: Path
    line: int
    kind: str
    what: str
    content: bytes


def known_mutations() -> Iterator[Mutation]:
    """Find the places of `KNOWN`.

    Raises:
        SystemExit: A place is not there, or not once.
    """
    sources = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    for what, pattern, new in KNOWN:
        found = [(path, match) for path, text in sources.items() for match in re.finditer(pattern, text)]
        if len(found) != 1:
            raise SystemExit(
                f"{what}: found {pattern!r} {len(found)} times in the package; expected it once: mend KNOWN"
            )
        path, match = found[0]
        text = sources[path]
        content = text[: match.start()] + match.expand(new) + text[match.end() :]
        line = text.count("\n", 0, match.start()) + 1
        yield Mutation(path=path, line=line, kind="known", what=what, content=content.encode())


def drawn_mutations(count: int, seed: int) -> Iterator[Mutation]:
    """Draw changes: the folders of the package in turn, in each a kind of expression, then a place of it."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    folders: dict[str, list[Mutation]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        folders[path.relative_to(PACKAGE).parts[0] if path.parent != PACKAGE else ""].extend(mutations_of(path))
    order = [name for name in folders if folders[name]]
    rng.shuffle(order)
    for place in range(count):
        folder = folders[order[place % len(order)]]
        kind = rng.choice(sorted({mutation.kind for mutation in folder}))
        drawn = rng.choice([mutation for mutation in folder if mutation.kind == kind])
        folder.remove(drawn)
        yield drawn


def mutations_of(path: Path) -> list[Mutation]:
    """List what can be changed in a file."""
    source = path.read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: list[Mutation] = []
    for node, changed in changes(ast.parse(source)):
        start = starts[node.lineno - 1] + node.col_offset
        stop = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        what = f"`{ast.unparse(node)}` → `{ast.unparse(changed)}`"
        content = source[:start] + f"({ast.unparse(changed)})".encode() + source[stop:]
        found.append(Mutation(path=path, line=node.lineno, kind=type(node).__name__, what=what, content=content))
    return found


def changes(tree: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """List expressions and what may stand in their place; annotations and texts stay."""
    for name, value in ast.iter_fields(tree):
        for node in value if isinstance(value, list) else [value]:
            if name in _NEVER_LOOKED_INTO or not isinstance(node, ast.AST) or isinstance(node, ast.JoinedStr):
                continue
            changed = changed_expression(node) if isinstance(node, ast.expr) else None
            if isinstance(node, ast.expr) and changed is not None:
                yield node, changed
            yield from changes(node)


def changed_expression(node: ast.expr) -> ast.expr | None:
    """Return the opposite of a comparison or an operator, a constant that is a little larger, or None."""
    changed = deepcopy(node)
    match changed:
        case ast.Compare(left=ast.Name(id="__name__")):
            return None
        case ast.Compare(ops=[operator, *_]):
            changed.ops[0] = OPPOSITE[type(operator)]()
        case ast.BoolOp(op=operator):
            changed.op = OPPOSITE[type(operator)]()
        case ast.BinOp(op=operator) if type(operator) in OPPOSITE and not _is_text(node):
            changed.op = OPPOSITE[type(operator)]()
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            changed.value = value + 1 if isinstance(value, int) else value * 1.1 or 0.1
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return operand
        case _:
            return None
    return changed


def _is_text(node: ast.expr) -> bool:
    """Tell whether a sum is one of texts, or a quotient a path."""
    texts = (part for part in ast.walk(node) if isinstance(part, (ast.Constant, ast.JoinedStr)))
    return any(isinstance(part, ast.JoinedStr) or isinstance(part.value, str) for part in texts)


def tests_of(path: Path) -> tuple[list[str], list[str]]:
    """Return the test files that import a module, and all those of its folder.

    The folder is the one that mirrors the module's own, or the next one above that has tests.
    """
    folder = TESTS / path.parent.relative_to(PACKAGE)
    while not folder.is_dir() or not any(folder.rglob("test_*.py")):
        folder = folder.parent
    files = sorted(folder.glob("test_*.py") if folder == TESTS else folder.rglob("test_*.py"))
    parent, _, name = ".".join(path.relative_to(ROOT).with_suffix("").parts).rpartition(".")
    imported = re.compile(rf"\b{re.escape(parent)}\.{name}\b|from {re.escape(parent)} import [^\n]*\b{name}\b")
    using = [file for file in files if imported.search(file.read_text(encoding="utf-8"))]
    names = {file: str(file.relative_to(ROOT)) for file in files}
    return [names[file] for file in using], list(names.values())


def run_tests(tests: Sequence[str], cache: str, *options: str) -> int:
    """Run tests until the first that fails, and return pytest's exit status; one that never ends has failed."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-o", f"cache_dir={cache}", *options, *tests]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=_MOST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return _FAILED
    if done.returncode not in (_PASSED, _FAILED, _ENDED_EARLY, _NO_TESTS):
        raise SystemExit(f"pytest ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.returncode


def outcome(mutation: Mutation, *, slow: bool) -> str:
    """Return whether the tests kill a change; its file is as before afterwards."""
    using, folder = tests_of(mutation.path)
    status = _NO_TESTS
    for tests, options in [(using, QUICK), (folder, QUICK), *([(folder, ALL)] if slow else [])]:
        if tests:
            status, why = outcome_of(mutation, tests, options)
            if why:
                return why
    return "SURVIVED" if status == _PASSED else "no tests"


def outcome_of(mutation: Mutation, tests: Sequence[str], options: Sequence[str]) -> tuple[int, str]:
    """Run tests on a changed file; return pytest's exit status, and what became of the change if a test failed."""
    before, times = mutation.path.read_bytes(), mutation.path.stat()
    with tempfile.TemporaryDirectory() as cache:
        try:
            mutation.path.write_bytes(mutation.content)
            status = run_tests(tests, cache, *options)
        finally:
            mutation.path.write_bytes(before)
            os.utime(mutation.path, ns=(times.st_atime_ns, times.st_mtime_ns))  # compiled files stay valid
        if status not in (_FAILED, _ENDED_EARLY):
            return status, ""
        without = run_tests(tests, cache, "--last-failed", *options)
        return status, "killed" if without in (_PASSED, _NO_TESTS) else "its tests fail without it"


def main() -> int:
    """Run the script and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", type=int, metavar="N", help="draw so many changes; default: those of KNOWN")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    parser.add_argument("--slow", action="store_true", help="run slow tests too where the others notice nothing")
    parser.add_argument("--list", action="store_true", help="only list the changes")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the file in hand is restored
    mutations = list(drawn_mutations(args.draw, args.seed) if args.draw else known_mutations())
    print("| place | change | outcome |\n|---|---|---|", flush=True)
    counts: dict[str, int] = defaultdict(int)
    for mutation in mutations:
        found = "listed" if args.list else outcome(mutation, slow=args.slow)
        counts[found] += 1
        place = f"{mutation.path.relative_to(ROOT).as_posix()}:{mutation.line}"
        print(f"| {place} | {mutation.what} | {found} |", flush=True)
    print(f"\n{len(mutations)} changes: {', '.join(f'{count} {name}' for name, count in counts.items())}")
    return int(counts.keys() - {"killed", "listed"} != set())


if __name__ == "__main__":
    sys.exit(main())
