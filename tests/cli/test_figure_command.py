"""`nnc-figure` on folders of drawn cases: what it writes, what a bad case costs, and how it ends."""

import pytest
from builders.drawn_figures import write_drawn
from matplotlib import rc_context
from PIL import Image

from nnunet_cascade.cli import figure


@pytest.fixture
def run_folder(tmp_path):
    """Results, CTs and labels of two cases, in the folders results, images and labels."""
    for case in ("alpha", "beta"):
        write_drawn(tmp_path, case)
    return tmp_path


def run(folder, *options):
    arguments = ["-i", folder / "results", "-o", folder / "figures", "-np", 1, *options]
    return figure.main([str(argument) for argument in arguments])


def drawn(folder):
    return sorted(path.name for path in (folder / "figures").iterdir())


def size(folder, case):
    with Image.open(folder / "figures" / f"{case}.png") as image:
        return image.size


def test_each_case_gets_a_figure_and_two_at_a_time_give_the_same_files(run_folder, capsys):
    assert run(run_folder) == 0
    assert drawn(run_folder) == ["alpha.png", "beta.png"]
    assert "2 of 2 figures drawn" in capsys.readouterr().out
    alone = {name: (run_folder / "figures" / name).read_bytes() for name in drawn(run_folder)}
    assert run(run_folder, "-np", 2) == 0
    assert {name: (run_folder / "figures" / name).read_bytes() for name in drawn(run_folder)} == alone


def test_a_style_that_matplotlib_was_given_elsewhere_changes_nothing(run_folder):
    assert run(run_folder, "--cases", "alpha") == 0
    plain = (run_folder / "figures" / "alpha.png").read_bytes()
    with rc_context({"font.size": 25, "axes.grid": True, "axes.facecolor": "red", "savefig.bbox": "tight"}):
        assert run(run_folder, "--cases", "alpha") == 0
    assert (run_folder / "figures" / "alpha.png").read_bytes() == plain


def test_truth_widens_and_slices_heighten_the_figure(run_folder):
    run(run_folder, "--cases", "alpha")
    plain = size(run_folder, "alpha")
    assert run(run_folder, "-gt", run_folder / "labels", "--slices", 2, "--cases", "alpha") == 0
    width, height = size(run_folder, "alpha")
    assert width > plain[0] + 200
    assert height > plain[1] + 150


def test_cts_that_moved_are_found_in_the_folder_given(run_folder):
    run(run_folder, "--cases", "alpha")
    known = (run_folder / "figures" / "alpha.png").read_bytes()
    (run_folder / "images").rename(run_folder / "elsewhere")
    assert run(run_folder, "--cases", "alpha") == 0
    assert (run_folder / "figures" / "alpha.png").read_bytes() != known
    assert run(run_folder, "--cases", "alpha", "--images", run_folder / "elsewhere") == 0
    assert (run_folder / "figures" / "alpha.png").read_bytes() == known


def test_a_case_without_a_record_is_drawn_and_figures_can_be_of_another_format(run_folder):
    (run_folder / "results" / "alpha.json").unlink()
    assert run(run_folder, "--format", "pdf") == 0
    assert drawn(run_folder) == ["alpha.pdf", "beta.pdf"]


def test_a_window_may_begin_with_a_minus(run_folder):
    run(run_folder, "--cases", "beta")
    lung = (run_folder / "figures" / "beta.png").read_bytes()
    assert run(run_folder, "--cases", "beta", "--window", "-600,1500") == 0
    assert (run_folder / "figures" / "beta.png").read_bytes() == lung
    assert run(run_folder, "--cases", "beta", "--window", "mediastinum") == 0
    assert (run_folder / "figures" / "beta.png").read_bytes() != lung


def test_a_bad_case_costs_its_figure_only(run_folder, capsys):
    (run_folder / "results" / "alpha.json").write_text("{damaged")
    assert run(run_folder) == 1
    assert drawn(run_folder) == ["beta.png"]
    told = capsys.readouterr()
    assert "1 of 2 figures drawn" in told.out
    (line,) = [line for line in told.err.splitlines() if line.startswith("alpha:")]
    assert "alpha.json is damaged" in line


def test_odd_names_stay_inside_the_folder_and_a_slice_that_a_case_lacks_costs_its_figure(tmp_path, capsys):
    write_drawn(tmp_path, "odd <b> name")
    assert run(tmp_path) == 0
    (name,) = drawn(tmp_path)
    assert name.startswith("odd_b_name-")
    assert run(tmp_path, "--slice", 300) == 1
    assert "the slice at 300 mm lies outside the scan" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--cases", "gamma"), "has no case gamma; found alpha, beta"),
        (("--window", "liver"), "window 'liver'; expected lung, mediastinum, bone, or LEVEL,WIDTH"),
        (("--slices", "0"), "found 0 slices"),
        (("-np", "0"), "-np 0; expected at least 1"),
        (("--tumor_label", "2"), "give their folder with -gt"),
        (("-gt", "nowhere"), "-gt nowhere does not exist"),
        (("-i", "nowhere"), "nowhere is no folder"),
    ],
)
def test_wrong_usage_is_one_line(run_folder, capsys, options, said):
    assert run(run_folder, *options) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1


def test_figures_do_not_go_among_the_images(run_folder):
    assert run(run_folder, "-o", run_folder / "images", "--images", run_folder / "images") == 2


def test_labels_that_are_asked_for_are_the_tumor(run_folder):
    (run_folder / "labels" / "dataset.json").write_text('{"labels": {"background": 0, "tumor": 1, "node": 2}}')
    assert run(run_folder, "-gt", run_folder / "labels", "--tumor_label", "nothing") == 2
    assert run(run_folder, "-gt", run_folder / "labels", "--tumor_label", "tumor") == 0
