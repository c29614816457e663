"""A record goes to JSON and back; what is damaged, older or newer is read as far as it can be, or refused in a line."""

import json
from dataclasses import fields, replace
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunet_cascade.case_folders.case_record import RENAMED, VERSION, CaseRecord, read_record
from nnunet_cascade.case_folders.typed_json import Line
from nnunet_cascade.errors import CascadeError, NewerRecordError, RecordError
from nnunet_cascade.geometry import Box, Grid

LINES = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=8)
GRIDS = st.builds(
    Grid,
    shape=st.tuples(*[st.integers(1, 900)] * 3),
    spacing_mm=st.tuples(*[st.floats(0.1, 10)] * 3),
    origin_mm=st.tuples(*[st.floats(-500, 500)] * 3),
)
BOXES = st.tuples(*[st.integers(0, 90)] * 3).flatmap(
    lambda start: st.builds(
        Box, start=st.just(start), stop=st.tuples(*[st.integers(place + 1, place + 90) for place in start])
    )
)
HOSTILE = (None, 7, -1, "x", [], {}, [None], [[]], {"x": 1}, {"": None}, True, 1e400, "\ud800", [{"box": 3}], 10**400)
NEWER = json.dumps({"version": VERSION + 1})


def values_of(hint):
    """Draw values of a type hint of a record."""
    if get_origin(hint) in {Union, UnionType}:
        return st.none() | st.one_of(*[values_of(option) for option in get_args(hint) if option is not NoneType])
    known = {Line: LINES, str: st.text(max_size=8), int: st.integers(0, 2**40), bool: st.booleans(), Grid: GRIDS}
    known |= {float: st.floats(allow_nan=False, allow_infinity=False), Any: st.none() | st.integers(), Box: BOXES}
    if hint in known:
        return known[hint]
    inner = get_args(hint)
    if get_origin(hint) is tuple:
        if inner[-1] is Ellipsis:
            return st.lists(values_of(inner[0]), max_size=2).map(tuple)
        return st.tuples(*map(values_of, inner))
    if inner:
        return st.dictionaries(st.text(max_size=4), values_of(inner[1]), max_size=2)
    return parts_of(hint)


def parts_of(kind):
    hints = get_type_hints(kind, include_extras=True)
    return st.builds(kind, **{field.name: values_of(hints[field.name]) for field in fields(kind)})


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(parts_of(CaseRecord), st.booleans())
def test_a_record_goes_to_json_and_back(record, strict):
    record = replace(record, version=VERSION)
    assert CaseRecord.from_json(json.loads(json.dumps(record.to_json())), strict=strict) == record


@pytest.mark.parametrize("key", [field.name for field in fields(CaseRecord)])
def test_no_value_of_a_key_ends_a_lenient_reading_and_a_strict_one_gives_one_line(key):
    for value in HOSTILE:
        found = CaseRecord.from_json({"case": "a", key: value})
        assert CaseRecord.from_json(found.to_json()) == replace(found, version=found.version)
        try:
            CaseRecord.from_json({"case": "a", key: value}, strict=True, where="a.json")
        except CascadeError as error:
            assert "\n" not in str(error)  # noqa: PT017 - most values are no error
            assert str(error).startswith("a.json")  # noqa: PT017


@pytest.mark.parametrize("content", HOSTILE)
def test_what_is_not_a_record_tells_nothing(content):
    assert CaseRecord.from_json(content) == CaseRecord(version=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", r"it is \[\]; expected another type"),
        ('{"lesions": [{"volume_ml": "big"}]}', r"lesions\[0\]\.volume_ml is 'big'"),
        ('{"grid": {"shape": [0, 1, 1]}}', "grid is"),
        (NEWER, f"has version {VERSION + 1} of the record; expected {VERSION} at most: update"),
    ],
)
def test_a_strict_reading_names_the_file_and_the_place(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(RecordError, match=message) as raised:
        read_record(tmp_path / "a.json")
    assert str(raised.value).startswith(str(tmp_path / "a.json"))
    assert isinstance(raised.value, NewerRecordError) == (content == NEWER)


def test_a_newer_record_is_read_leniently_as_far_as_it_is_understood():
    found = CaseRecord.from_json({"version": VERSION + 1, "flags": ["lungs_elsewhere"], "wonder": 1})
    assert (found.version, found.flags) == (VERSION + 1, ("lungs_elsewhere",))


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_old_words_are_read_as_new_ones_in_records_without_a_version(old, new):
    *place, word = old.split(".")
    content = {word: 3} if "flags" not in place else [word, "other"]
    for name in reversed(place):
        content = {name: content}
    found = json.dumps(CaseRecord.from_json(content).to_json())
    assert f'"{new}"' in found
    assert f'"{word}"' not in found


def test_text_for_people_is_one_line_and_names_stay_as_they_are():
    found = CaseRecord.from_json({"case": "a  b", "notes": ["two\nlines", 3], "varying": {"image": {"path": "/a  b"}}})
    assert (found.case, found.notes, found.varying.image.path) == ("a  b", ("two lines",), "/a  b")
