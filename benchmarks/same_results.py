"""Two folders of results, of two versions of the package in one environment: does anything but words differ?

    python benchmarks/same_results.py BEFORE AFTER

Files are compared by their names below the folders. NIfTI and unknown files are compared bit for bit once they are
unpacked; JSON by its values; tables cell by cell; DICOM element by element, pixels included; PNG by its pixels; weights
by their tensors; zip files member by member; pages by the numbers in their tables. `result_files.py` lists what may
differ, and names that have changed. The exit status is 0 if nothing differs, 1 if something does, 2 if no file is
compared.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from result_files import Context, Differences, compare_files, kind_of

LEFT_OUT = ("logs/*",)
"""Files that are not compared, such as what commands say on the screen."""
_COLUMNS = ("compared", "equal", "differing", "only before", "only after")
_SHOWN = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    args = parser.parse_args(argv)
    for folder in (args.before, args.after):
        if not folder.is_dir():
            parser.error(f"{folder} is no folder; give two folders of results")
    return compare_folders(args.before, args.after)


def compare_folders(before: Path, after: Path) -> int:
    """Compare two folders, print a table and the first differences, and return the exit status."""
    old, new, context = files_below(before), files_below(after), Context((before, after))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    found: dict[str, Differences] = {}
    for name in sorted({*old, *new}):
        if name in old and name in new:
            differences = compare_files(name, old[name].read_bytes(), new[name].read_bytes(), context)
            counted = ("compared", "differing" if differences else "equal")
        else:
            counted = ("only before" if name in old else "only after",)
            differences = [*counted]
        counts[kind_of(name)[0]].update(counted)
        found |= {name: differences} if differences else {}
    print_table(counts)
    print_differences(found)
    return int(bool(found)) if any(count["compared"] for count in counts.values()) else 2


def files_below(root: Path) -> dict[str, Path]:
    """Return the files that are compared, by their names below a folder."""
    paths = (path for path in root.rglob("*") if path.is_file())
    names = {path.relative_to(root): path for path in paths}
    return {name.as_posix(): path for name, path in names.items() if not any(name.match(left) for left in LEFT_OUT)}


def print_table(counts: Mapping[str, Counter[str]]) -> None:
    """Print how many files of each kind are equal."""
    print(f"| files | {' | '.join(_COLUMNS)} |\n|---|{'---:|' * len(_COLUMNS)}")
    total = sum(counts.values(), Counter[str]())
    for kind, count in (*sorted(counts.items()), ("all", total)):
        print(f"| {kind} | {' | '.join(str(count[column]) for column in _COLUMNS)} |")


def print_differences(found: Mapping[str, Differences]) -> None:
    """Print the first differences of each file."""
    for name, differences in found.items():
        print(f"\n{name}: {len(differences)} difference(s)")
        print("\n".join(f"  {text}" for text in differences[:_SHOWN]))


if __name__ == "__main__":
    sys.exit(main())
