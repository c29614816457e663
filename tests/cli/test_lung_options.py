from dataclasses import replace
from pathlib import Path

import pytest

from nnunet_cascade.cli.common import CommandParser
from nnunet_cascade.cli.options import add_device, add_lungs, changed_lungs, lung_source
from nnunet_cascade.errors import SettingsError
from nnunet_cascade.postprocessing.lungs.source import LungSource


def parsed(*argv, with_device=True):
    parser = CommandParser("nnc-test", "Tests.", "nnc-test")
    add_lungs(parser)
    if with_device:
        add_device(parser.options("speed"))
    return parser.parse_args(argv)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ((), {}),
        (("--lung_source", "threshold"), {}),
        (("--lungs", "masks"), {"kind": "folder", "path": Path("masks")}),
        (
            ("--lungs", "masks", "--lung_labels", "12,13,14", "10,11"),
            {"kind": "folder", "path": Path("masks"), "right_labels": (12, 13, 14), "left_labels": (10, 11)},
        ),
        (("--lung_source", "lungmask", "-device", "cpu"), {"kind": "lungmask", "device": "cpu"}),
        (
            ("--lung_source", "lungmask", "--lung_model", "LTRCLobes_R231", "--lung_batch_size", "4"),
            {"kind": "lungmask", "model": "LTRCLobes_R231", "batch_size": 4},
        ),
        (
            ("--lung_source", "lungmask", "--lung_weights", "r231.pth"),
            {"kind": "lungmask", "weights": Path("r231.pth")},
        ),
    ],
)
def test_options_give_the_source(argv, expected):
    assert lung_source(parsed(*argv)) == LungSource(**expected)


def test_a_command_without_a_device_leaves_it_to_lungmask():
    assert lung_source(parsed("--lung_source", "lungmask", with_device=False)).device == "auto"


@pytest.mark.parametrize(
    "argv",
    [
        ("--lungs", "masks", "--lung_source", "threshold"),
        ("--lungs", "masks", "--lung_model", "R231"),
        ("--lung_weights", "r231.pth"),
        ("--lung_source", "threshold", "--lung_batch_size", "4"),
        ("--lung_labels", "1", "2"),
        ("--lungs", "masks", "--lung_labels", "one", "2"),
        ("--lungs", "masks", "--lung_labels", "1", "1"),
        ("--lung_source", "lungmask", "--lung_batch_size", "0"),
    ],
)
def test_contradicting_options_are_refused(argv):
    with pytest.raises(SettingsError):
        lung_source(parsed(*argv))


BUNDLED = LungSource(kind="lungmask", model="R231CovidWeb", weights=Path("covid.pth"))


@pytest.mark.parametrize(
    ("bundled", "argv", "expected"),
    [
        (LungSource(), (), LungSource()),
        (LungSource(), ("-device", "cpu"), LungSource()),
        (LungSource(), ("--lungs", "masks"), LungSource(kind="folder", path=Path("masks"))),
        (BUNDLED, ("--lungs", "masks"), LungSource(kind="folder", path=Path("masks"))),
        (BUNDLED, (), BUNDLED),
        (BUNDLED, ("-device", "cpu"), replace(BUNDLED, device="cpu")),
        (BUNDLED, ("--lung_batch_size", "4"), replace(BUNDLED, batch_size=4)),
        (BUNDLED, ("--lung_source", "lungmask", "--lung_model", "R231"), replace(BUNDLED, model="R231")),
        (BUNDLED, ("--lung_source", "threshold"), LungSource()),
    ],
)
def test_options_change_what_they_name_of_a_bundles_source(bundled, argv, expected):
    assert changed_lungs(bundled, parsed(*argv)) == expected


@pytest.mark.parametrize("further", [(), ("--lung_model", "R231"), ("--lung_source", "lungmask")])
def test_labels_of_ready_masks_are_refused_where_the_bundle_has_a_network(further):
    with pytest.raises(SettingsError, match="--lung_labels names values in ready masks"):
        changed_lungs(BUNDLED, parsed("--lung_labels", "1", "2", *further))


@pytest.mark.parametrize("argv", [("--lung_model", "R231"), ("--lung_labels", "1", "2")])
def test_options_of_another_source_than_the_bundles_are_refused(argv):
    with pytest.raises(SettingsError):
        changed_lungs(LungSource(), parsed(*argv))
