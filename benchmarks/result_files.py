"""How files of results are compared, by kind, and what may differ between two versions of the package."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import zip_longest
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

RENAMED_KEYS: dict[str, str] = {
    "uncertainty.samples": "uncertainty.total_samples",
}
"""Keys of JSON files, old to new, with dots between the levels, such as "uncertainty.samples" to
"uncertainty.total_samples". A key matches the end of the path to a value, at any depth: this one also matches
`cases.phantom_3000.uncertainty.samples`. Lists are no level of their own. What lies below a key goes with it."""

RENAMED_WORDS: dict[str, str] = {"lungs_elsewhere": "lungs_misplaced"}
"""Values, old to new, wherever they are a word of a key, of a text or of a table's cell: flags, measures, reasons, such
as "lungs_elsewhere" to "lungs_misplaced". Renamed keys and columns are looked up with the new words."""

RENAMED_COLUMNS: dict[str, str] = {}
"""Columns of CSV and TSV files, old to new."""

NEW_KEYS = frozenset({"version", "notes"})
"""Keys of JSON files, with dots between the levels, that only the new ones may have."""

VARYING_KEYS = frozenset(
    {
        *("varying", "predicted_at", "settings.prediction", "settings.record", "results.sha256_of_records"),
        "files.MODEL_CARD.md.sha256",  # its words
    }
)
"""Keys of JSON files that are left out with all below them, spelled as in `RENAMED_KEYS`."""

VARYING_COLUMNS: frozenset[str] = frozenset()
"""Columns of CSV and TSV files that are left out."""

VARYING_UIDS = frozenset(
    {
        *("SOPInstanceUID", "MediaStorageSOPInstanceUID", "SeriesInstanceUID", "ReferencedSOPInstanceUID"),
        "DimensionOrganizationUID",
    }
)
"""DICOM keywords of UIDs that follow from a record with its times. Each must take the place of one other."""

VARYING_ELEMENTS = frozenset({"SoftwareVersions"})
"""DICOM keywords that are left out; dates and times are left out by their type."""

_DATES = frozenset({"DA", "TM", "DT"})
_DIGIT = re.compile(r"\d")


@dataclass(slots=True)
class Context:
    """What a comparison knows besides the two files.

    Attributes:
        roots: The two folders; texts may name them.
        uids: Which UID took whose place, old to new.
        old_uids: The same, new to old.
    """

    roots: tuple[Path, Path]
    uids: dict[str, str] = field(default_factory=dict[str, str])
    old_uids: dict[str, str] = field(default_factory=dict[str, str])

    def may_replace(self, uid: str, other: str) -> bool:
        """Tell whether a new UID takes the place of this old one, and of no other."""
        return self.uids.setdefault(uid, other) == other and self.old_uids.setdefault(other, uid) == uid

    def text(self, text: str, side: int) -> str:
        """Return a text without its folder, and on the old side, which is 0, with the new words."""
        text = text.replace(str(self.roots[side].resolve()), "ROOT")
        for old, new in () if side else RENAMED_WORDS.items():
            text = re.sub(rf"(?<![\w-]){re.escape(old)}(?![\w-])", new, text)
        return text


Differences = list[str]
Compare = Callable[[bytes, bytes, Context], Differences]
Values = Iterator[tuple[str, Any]]
"""The values in a file, each with the path to it."""


def compare_bytes(before: bytes, after: bytes, _context: Context) -> Differences:
    """Compare files of which nothing is known."""
    return [] if before == after else [f"{len(before)} and {len(after)} bytes that differ"]


def compare_values(old: Values, new: Values) -> Differences:
    """Compare values of the same path."""
    before, after = dict(old), dict(new)
    both = [path for path in before if path in after]
    return [
        *(f"{path}: only before" for path in before if path not in after),
        *(f"{path}: only after" for path in after if path not in before),
        *(f"{path}: {_short(before[path])} and {_short(after[path])}" for path in both if before[path] != after[path]),
    ]


def _short(value: Any) -> str:
    return str(value)[:80]


def compare_images(before: bytes, after: bytes, _context: Context) -> Differences:
    """Compare NIfTI files with their headers; gzip's own header does not count."""
    old, new = gzip.decompress(before), gzip.decompress(after)
    if old == new:
        return []
    arrays = [np.asanyarray(nibabel.Nifti1Image.from_bytes(content).dataobj) for content in (old, new)]
    described = [f"shape {array.shape} of {array.dtype}" for array in arrays]
    if described[0] != described[1]:
        return [" and ".join(described)]
    count = np.count_nonzero(_bits(arrays[0]) != _bits(arrays[1]))
    return [f"{count} of {arrays[0].size} voxels differ" if count else "headers differ"]


def _bits(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")


def compare_json(before: bytes, after: bytes, context: Context) -> Differences:
    """Compare values by the keys that lead to them; 1 and 1.0 differ."""
    found = compare_values(*(json_values(json.loads(it), context, side) for side, it in enumerate((before, after))))
    return [difference for difference in found if difference not in {f"{key}: only after" for key in NEW_KEYS}]


def json_values(
    value: Any, context: Context, side: int, keys: tuple[str, ...] = (), path: tuple[str, ...] = ()
) -> Values:
    """List the values of a JSON file, on the old side by their new names.

    Args:
        value: As `json` reads it.
        context: Of the comparison.
        side: 0 before, 1 after.
        keys: Those that lead to the value, by their old names.
        path: The same by their new names, and with places in lists.

    Yields:
        Path and value; an empty list or object is a value too.
    """
    if isinstance(value, dict) and value:
        for key, below in value.items():
            way = (*keys, context.text(key, side))
            if _ending(way, VARYING_KEYS) is None:
                yield from json_values(below, context, side, way, _renamed_path(path, way, side))
    elif isinstance(value, list) and value:
        for place, below in enumerate(value):
            yield from json_values(below, context, side, keys, (*path[:-1], f"{''.join(path[-1:])}[{place}]"))
    else:
        yield ".".join(path), context.text(repr(value), side)


def _renamed_path(path: tuple[str, ...], way: tuple[str, ...], side: int) -> tuple[str, ...]:
    """Return a path with one more key, the last of the way, by its new name."""
    old = None if side else _ending(way, RENAMED_KEYS.keys())
    if old is None:
        return (*path, way[-1])
    return (*path[: len(path) - old.count(".")], *RENAMED_KEYS[old].split("."))


def _ending(way: tuple[str, ...], names: AbstractSet[str]) -> str | None:
    """Return the name, with dots between its levels, that ends the way; None if there is none."""
    return next((tail for start in range(len(way)) if (tail := ".".join(way[start:])) in names), None)


def compare_tables(before: bytes, after: bytes, context: Context) -> Differences:
    """Compare CSV and TSV files: columns in their order, and each cell."""
    old, new = (_rows(content.decode(), context, side) for side, content in enumerate((before, after)))
    if old[0] != new[0] or len(old) != len(new):
        return [f"{len(old)} lines of {old[0]} and {len(new)} lines of {new[0]}"]
    return [
        f"line {line}, {column}: {one!r} and {other!r}"
        for line, pair in enumerate(zip(old, new, strict=True), start=1)
        for column, one, other in zip_longest(old[0], *pair)
        if one != other
    ]


def _rows(content: str, context: Context, side: int) -> list[list[str]]:
    """Return the rows of a table, on the old side with the new names, without the columns that vary."""
    text = context.text(content, side)
    header, *table = list(csv.reader(io.StringIO(text), delimiter="\t" if "\t" in text else ",")) or [[]]
    names = [name if side else RENAMED_COLUMNS.get(name, name) for name in header]
    kept = [place for place, name in enumerate(names) if name not in VARYING_COLUMNS]
    return [[row[place] for place in kept if place < len(row)] for row in (names, *table)]


def compare_dicom(before: bytes, after: bytes, context: Context) -> Differences:
    """Compare DICOM objects element by element: pixels, frames, contours and measurements."""
    old, new = (dcmread(io.BytesIO(content)) for content in (before, after))
    differences = compare_values(_elements(old, context, 0), _elements(new, context, 1))
    others = dict(_uids(new))
    pairs = ((path, uid, others[path]) for path, uid in _uids(old) if path in others)
    return differences + [
        f"{path}: {other} took the place of {uid}, but one of them has another partner elsewhere"
        for path, uid, other in pairs
        if not context.may_replace(uid, other)
    ]


def _elements(dataset: Dataset, context: Context, side: int) -> Values:
    """List what may not vary; of UIDs that may, that they are there."""
    for path, element in _flat(dataset):
        if element.VR == "UI" and element.keyword in VARYING_UIDS:
            yield path, "a UID"
        elif element.VR not in _DATES and element.keyword not in VARYING_ELEMENTS:
            value = element.value
            yield path, value if isinstance(value, bytes) else context.text(str(value), side)


def _uids(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """List the UIDs that may vary."""
    for path, element in _flat(dataset):
        if element.VR == "UI" and element.keyword in VARYING_UIDS:
            yield path, str(element.value)


def _flat(dataset: Dataset, path: str = "") -> Iterator[tuple[str, Any]]:
    """List all elements by their path."""
    meta = getattr(dataset, "file_meta", None) or ()
    for element in (*meta, *dataset):
        name = f"{path}.{element.keyword or element.tag}"
        if element.VR != "SQ":
            yield name, element
            continue
        for place, item in enumerate(element.value):
            yield from _flat(item, f"{name}[{place}]")


def compare_pictures(before: bytes, after: bytes, _context: Context) -> Differences:
    """Compare pictures by their pixels."""
    old, new = (np.asarray(Image.open(io.BytesIO(content)).convert("RGBA")) for content in (before, after))
    if old.shape != new.shape:
        return [f"{old.shape} and {new.shape} pixels"]
    count = np.count_nonzero((old != new).any(axis=-1))
    return [f"{count} of {old[..., 0].size} pixels differ"] if count else []


def compare_weights(before: bytes, after: bytes, context: Context) -> Differences:
    """Compare a checkpoint's tensors and all else in it but nnU-Net's log, which has times."""
    import torch  # noqa: PLC0415 - heavy, and few files need it

    old, new = (torch.load(io.BytesIO(content), map_location="cpu", weights_only=False) for content in (before, after))
    return compare_values(_weights(old, context, 0), _weights(new, context, 1))


def _weights(value: Any, context: Context, side: int, path: str = "") -> Values:
    if isinstance(value, (Mapping, list, tuple)):
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, below in pairs:
            if key != "logging":
                yield from _weights(below, context, side, f"{path}.{key}")
    elif hasattr(value, "numpy"):
        yield path, (str(value.dtype), tuple(value.shape), value.numpy().tobytes())
    else:
        yield path, context.text(repr(value), side)


class _Cells(HTMLParser):
    """Collect the cells of a page's tables."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = [""]
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser's own
        if tag in ("td", "tr"):
            self._inside = tag == "td"
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "td"

    def handle_data(self, data: str) -> None:
        self.cells[-1] += data if self._inside else ""


def compare_pages(before: bytes, after: bytes, context: Context) -> Differences:
    """Compare HTML and Markdown by the cells of their tables that hold a digit; words may change."""
    old, new = (cells(context.text(content.decode(), side)) for side, content in enumerate((before, after)))
    pairs = zip_longest(old, new, fillvalue="nothing")
    return [f"cell {place}: {one!r} and {other!r}" for place, (one, other) in enumerate(pairs) if one != other]


def cells(text: str) -> list[str]:
    """Return the cells of a page's tables that hold a digit, without headers."""
    if text.lstrip().startswith("<"):
        parser = _Cells()
        parser.feed(text)
        found = parser.cells
    else:
        found = [cell for line in text.splitlines() if line.startswith("|") for cell in line.split("|")]
    return [" ".join(cell.split()) for cell in found if _DIGIT.search(cell)]


def compare_archives(before: bytes, after: bytes, context: Context) -> Differences:
    """Compare the members of zip files, each as the file it is."""
    old, new = (zipfile.ZipFile(io.BytesIO(content)) for content in (before, after))
    names = (set(old.namelist()), set(new.namelist()))
    found = [f"{name}: only {'before' if name in names[0] else 'after'}" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        found += [f"{name}: {text}" for text in compare_files(name, old.read(name), new.read(name), context)]
    return found


def ignore(_before: bytes, _after: bytes, _context: Context) -> Differences:
    """Compare nothing: both files are there."""
    return []


KINDS: dict[str, tuple[str, Compare]] = {
    ".nii.gz": ("NIfTI", compare_images),
    ".json": ("JSON", compare_json),
    ".csv": ("tables", compare_tables),
    ".tsv": ("tables", compare_tables),
    ".dcm": ("DICOM", compare_dicom),
    ".png": ("PNG", compare_pictures),
    ".pth": ("weights", compare_weights),
    ".zip": ("zip", compare_archives),
    ".html": ("pages: tables", compare_pages),
    ".md": ("pages: tables", compare_pages),
    **dict.fromkeys((".txt", ".log", ".css", ".js", ".pdf", ".svg"), ("words: they are there", ignore)),
}
"""What to call files by their endings, and how they are compared."""


def kind_of(name: str) -> tuple[str, Compare]:
    """Return what a file is, and how it is compared."""
    return next((kind for ending, kind in KINDS.items() if name.endswith(ending)), ("others", compare_bytes))


def compare_files(name: str, before: bytes, after: bytes, context: Context) -> Differences:
    """Compare two files of one name; if one cannot be read, they are equal only if their bytes are."""
    compare = kind_of(name)[1]
    try:
        # Equal objects tell which UID stays in its place.
        return [] if before == after and compare is not compare_dicom else compare(before, after, context)
    except Exception as error:  # noqa: BLE001 - a file may hold anything
        return [f"cannot be read ({type(error).__name__}: {error}), and the bytes differ"]
