"""Which labels of a `dataset.json` are the tumor, and which channels of a network: names, values and refusals."""

import numpy as np
import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_cascade.dataset_labels import DatasetLabels
from nnunet_cascade.errors import DatasetError, SettingsError

ONE = {"background": 0, "tumor": 1}
NODES = {"background": 0, "primary": 1, "nodes": 2, "heart": 3}
IGNORED = {"background": 0, "primary": 1, "nodes": 2, "ignore": 3}
TWINS = {"background": 0, "tumor": 1, "lesion": 1}
JOINT = {"background": 0, "tumor": [1, 2]}
NESTED = {"background": 0, "whole": [1, 2], "core": 2}
DEEP = {"background": 0, "body": [1, 2, 3], "both": [2, 3], "nodes": [3]}
EQUAL = {"background": 0, "whole": [1, 2], "again": [2, 1]}
SINGLE = {"background": 0, "tumor": [1]}
NUMBERS = {"background": 0, "2": 1, "1": 2}


def read(labels, order=None):
    content = {"labels": labels} if order is None else {"labels": labels, "regions_class_order": order}
    return DatasetLabels.of(content, where="dataset.json")


@pytest.mark.parametrize(
    ("labels", "asked", "values", "names", "channels"),
    [
        (ONE, (), {1}, ("tumor",), (1,)),
        (ONE, ("1",), {1}, ("tumor",), (1,)),
        (SINGLE, (), {1}, ("tumor",), (1,)),
        (NODES, ("primary",), {1}, ("primary",), (1,)),
        (NODES, ("2",), {2}, ("nodes",), (2,)),
        (NODES, ("nodes", "1"), {1, 2}, ("primary", "nodes"), (1, 2)),
        (NODES, ("heart", "primary"), {1, 3}, ("primary", "heart"), (1, 3)),
        (IGNORED, ("1", "2"), {1, 2}, ("primary", "nodes"), (1, 2)),
        (TWINS, ("1",), {1}, ("tumor", "lesion"), (1,)),
        (JOINT, (), {1, 2}, ("tumor",), (0,)),
        (JOINT, ("2", "1"), {1, 2}, ("tumor",), (0,)),
        (NESTED, ("1", "2"), {1, 2}, ("whole",), (0,)),
        (NESTED, ("whole",), {1, 2}, ("whole",), (0,)),
        (NESTED, ("whole", "core"), {1, 2}, ("whole",), (0,)),
        (NESTED, ("2",), {2}, ("core",), (1,)),
        (DEEP, ("2", "3"), {2, 3}, ("both",), (1,)),
        (DEEP, ("3",), {3}, ("nodes",), (2,)),
        (NUMBERS, ("2",), {1}, ("2",), (1,)),
        (NUMBERS, (2,), {2}, ("1",), (2,)),
    ],
)
def test_the_tumor_is_the_union_of_what_is_asked_for(labels, asked, values, names, channels):
    found = read(labels)
    assert found.values_of(asked) == values
    assert found.names_of(values) == names
    assert found.channels_of(values) == channels
    assert found.values_of(names) == values


@pytest.mark.parametrize(
    ("labels", "asked", "message"),
    [
        (NODES, (), "has the labels primary, nodes, heart; say which is tumor by --tumor_label"),
        (NODES, ("4",), "has no label '4'; found primary, nodes, heart"),
        (NODES, ("0",), "has no label '0'"),
        (NODES, ("-1",), "has no label '-1'"),
        (NODES, (4,), "has no label '4'"),
        (NODES, ("primary", "liver"), "has no label 'liver'"),
        (IGNORED, ("3",), "has no label '3'"),
        (JOINT, ("1",), r"no region is exactly 1; found tumor \[1, 2\]"),
        (NESTED, ("1",), r"no region is exactly 1; found whole \[1, 2\], core 2; name that of the tumor"),
        (DEEP, ("1", "3"), "no region is exactly 1, 3"),
        (EQUAL, ("whole",), "several regions are exactly 1, 2"),
    ],
)
def test_what_is_not_one_tumor_is_refused_in_one_line(labels, asked, message):
    found = read(labels)
    with pytest.raises(SettingsError, match=message) as caught:
        found.names_of(found.values_of(asked))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (None, "labels is None; expected numbers by name"),
        ({"tumor": "x"}, "label tumor is 'x'; expected a whole number"),
        ({"tumor": []}, r"label tumor is \[\]"),
    ],
)
def test_labels_that_are_none_are_refused(labels, told):
    with pytest.raises(DatasetError, match=told):
        read(labels)


@pytest.mark.parametrize(("labels", "order"), [(NODES, None), (NESTED, [1, 2]), (DEEP, [1, 2, 3]), (SINGLE, None)])
def test_channels_are_nnunets(labels, order):
    """A network that is sure of the truth gives the tumor by its channels where it is."""
    found, manager = read(labels, order), LabelManager(labels, order)
    assert found.is_region_based == manager.has_regions
    truth = np.array(sorted(found.known)).reshape(-1, 1, 1)
    parts = manager.foreground_regions if manager.has_regions else manager.all_labels
    sure = np.stack([np.isin(truth, part) for part in parts]).astype(np.float32)
    every = frozenset[int]().union(*found.values.values())
    for tumor in (every, *found.values.values()):
        expected = np.isin(truth, list(tumor))
        np.testing.assert_array_equal(sure[list(found.channels_of(tumor))].sum(0) > 0.5, expected)
