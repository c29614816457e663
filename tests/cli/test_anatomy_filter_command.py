"""`nnc-anatomy-filter`: options, exit codes, tables, and tuned settings taken back."""

import csv
import json

import numpy as np
import pytest
from builders.drawn_chests import IN_LEFT, IN_RIGHT, MIDDLE, SPECK, Folders, blocks

from nnunet_cascade.cli import anatomy_filter
from nnunet_cascade.cli.anatomy_filter import anatomy_settings, build_parser, search_space
from nnunet_cascade.errors import SettingsError
from nnunet_cascade.images import read_volume

NEEDED = ["-i", "x", "-ct", "y", "-o", "z"]


@pytest.fixture
def folders(tmp_path):
    found = Folders(tmp_path)
    for name, tumor in (("a", IN_LEFT), ("b", IN_RIGHT)):
        found.write(name, [tumor, SPECK, MIDDLE], [tumor])
    (found["predictions"] / "dataset.json").write_text('{"labels": {"background": 0, "tumor": 1}}')
    return found


@pytest.fixture
def command(folders):
    """Run the command with the drawn lungs; gives the exit code."""

    def run(*options, o="out", ct=None):
        places = ["-i", folders["predictions"], "-ct", ct or folders["images"], "-o", folders.root / o]
        return anatomy_filter.main([str(part) for part in (*places, "--lungs", folders["lung_masks"], *options)])

    return run


def told(folders, name="run.json", o="out"):
    return json.loads((folders.root / o / name).read_text())


class TestFiltering:
    def test_a_folder_gets_masks_records_a_table_and_a_story(self, command, folders, capsys):
        assert command("--top_k", "all") == 0
        np.testing.assert_array_equal(read_volume(folders.root / "out" / "a.nii.gz").array, blocks(IN_LEFT, SPECK))
        assert told(folders)["cases"]["a"] == {
            "status": "done", "candidates": 3, "kept": 2, "dropped": {"outside_lungs": 1}, "before_ml": 11.5,
            "after_ml": 8.125, "lungs_ml": 1820.0, "flags": [],
        }  # fmt: skip
        assert [c["verdict"]["kept"] for c in told(folders, "a.json")["candidates"]] == [True, False, True]
        with (folders.root / "out" / "summary.csv").open() as file:
            assert [(row["case"], row["dropped"]) for row in csv.DictReader(file)] == [
                ("a", "outside_lungs:1"), ("b", "outside_lungs:1")
            ]  # fmt: skip
        out = capsys.readouterr().out
        assert "outside_lungs 1" in out
        assert "2 of 2 cases done" in out

    def test_the_first_alone_is_kept_on_request_and_the_result_can_be_filtered_again(self, command, folders):
        assert command("--top_k", "1") == 0
        assert told(folders)["cases"]["a"]["dropped"] == {"outside_lungs": 1, "top_k": 1}
        places = ["-i", folders.root / "out", "-ct", folders["images"], "-o", folders.root / "again"]
        assert anatomy_filter.main([*map(str, places), "--lungs", str(folders["lung_masks"])]) == 0
        assert told(folders, o="again")["cases"]["a"]["dropped"] == {}

    def test_a_bad_case_is_code_1_and_a_line_of_the_table_and_a_second_run_goes_on_with_it(
        self, command, folders, capsys
    ):
        image = folders["images"] / "a_0000.nii.gz"
        image.rename(image.with_name("aside"))
        assert command() == 1
        found = capsys.readouterr()
        assert "holds no CT of a" in found.out
        assert "holds no CT of a" in found.err
        assert told(folders)["counts"] == {"done": 1, "failed": 1, "left": 0}
        image.with_name("aside").rename(image)
        assert command("--continue_prediction") == 0
        assert told(folders)["varying"]["skipped"] == ["b"]

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (("--settings", "nowhere.json"), "expected the anatomy.json of --tune"),
            (("--settings", "x", "--preset", "paper"), "exclude each other"),
            (("--tumor_label", "lung"), "has no label 'lung'; found tumor"),
            (("--tune", "-gt", "x", "--folds", "1"), "1 folds; expected at least 2"),
            (("-gt", "labels"), "add --tune, or leave them out"),
            (("--try", "min_volume_mm3=0"), "add --tune, or leave them out"),
            (("--set", "rank_by=mean_uncertainty"), "give their folder with --uncertainty"),
            (("--tune",), "give their folder with -gt"),
            (("--tune", "-gt", "x", "--continue_prediction"), "needs all cases at once"),
            (("--tune", "-gt", "x", "--try", "min_volume_mm3=many"), "expected a value such as min_volume_mm3=0"),
        ],
    )
    def test_wrong_usage_is_one_line_and_code_2(self, command, options, reason, capsys):
        assert command(*options) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert reason in error

    def test_folders_that_are_read_from_are_never_written_to(self, command, folders, capsys):
        assert command(o="predictions") == 2
        arguments = ["-i", folders["x"] / "lungs", "-ct", folders["images"], "-o", folders["x"]]
        assert anatomy_filter.main([str(part) for part in arguments]) == 2
        assert capsys.readouterr().err.count("is a folder that is read from") == 2
        assert not (folders["predictions"] / "a.json").exists()

    def test_one_ct_for_many_predictions_is_wrong_usage(self, command, folders, capsys):
        assert command(ct=folders["images"] / "a_0000.nii.gz") == 2
        assert "is one file and -i" in capsys.readouterr().err

    def test_tuned_settings_are_told_and_can_be_taken_back(self, command, folders, capsys):
        assert command("--tune", "-gt", folders["labels"], "--try", "min_volume_mm3=0,500", o="tuned") == 0
        out = capsys.readouterr().out
        assert "true lost" in out
        assert "with a tumor are few" in out
        settings = folders.root / "tuned" / "anatomy.json"
        assert f"--settings {settings}" in out
        assert told(folders, "tuning.json", "tuned")["out_of_fold"]["tuned"]["false_dropped"] == 4
        assert command("--settings", settings) == 0
        assert told(folders)["cases"]["a"]["dropped"] == {"minimum_volume": 1, "outside_lungs": 1}
        assert told(folders)["settings"]["anatomy"] == json.loads(settings.read_text())

    def test_a_case_without_truth_and_splits_that_cannot_be_read_are_code_1(self, command, folders, capsys):
        assert command("--tune", "-gt", folders["labels"], "--splits", folders.root / "none.json") == 1
        assert "expected nnU-Net's splits_final.json" in capsys.readouterr().err
        (folders["labels"] / "b.nii.gz").unlink()
        assert command("--tune", "-gt", folders["labels"]) == 1
        assert "b: " in capsys.readouterr().err


class TestSettings:
    def test_options_go_over_the_preset_and_may_be_given_twice(self):
        options = ["--set", "rescue_distance_mm=7", "--set", "keep_best_if_none=true", "--top_k", "all"]
        found = anatomy_settings(build_parser().parse_args([*NEEDED, "--preset", "paper", *options]))
        assert (found.merge_shape, found.rescue_distance_mm, found.keep_best_if_none) == ("cube", 7.0, True)
        assert found.top_k == "all"

    @pytest.mark.parametrize(("options", "top_k"), [([], "all"), (["--top_k", "2"], 2), (["--set", "top_k=1"], 1)])
    def test_tuning_keeps_all_unless_told(self, options, top_k):
        args = build_parser().parse_args([*NEEDED, "--tune", "-gt", "g", *options])
        assert anatomy_settings(args).top_k == top_k

    def test_what_is_no_settings_file_is_refused(self, tmp_path):
        path = tmp_path / "list.json"
        path.write_text("[]")
        with pytest.raises(SettingsError, match="holds no JSON object"):
            anatomy_settings(build_parser().parse_args([*NEEDED, "--settings", str(path)]))

    def test_values_to_try_replace_the_usual_ones(self):
        space = search_space(["rescue_distance_mm=0,5", "min_lung_overlap=0.5"])
        assert (space.rescue_distance_mm, space.min_lung_overlap) == ((0.0, 5.0), (0.5,))
        assert space.min_volume_mm3 == search_space([]).min_volume_mm3
