"""`nnc-export-bundle` and `nnc-install-bundle`: words, files and exit codes, without any model."""

import zipfile

import pytest

from nnunet_cascade.bundles.bundle import available_folds
from nnunet_cascade.cli import export_bundle, install_bundle, make_bundle


@pytest.fixture
def evil(tmp_path):
    """A zip that would write beside the folder it is unpacked to."""
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../evil", b"x")
    return tmp_path / "evil.zip"


def test_a_bundle_for_others_says_its_licence_and_training_data(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        export_bundle.main([str(tmp_path)])
    assert stop.value.code == 2
    assert "required: -o, --license, --training_data" in capsys.readouterr().err
    arguments = [str(tmp_path), "-o", str(tmp_path / "b.zip"), "--license", " ", "--training_data", "phantoms"]
    assert export_bundle.main(arguments) == 2
    assert "license is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [[], ["--check", "-o", "b"], *(["--check", "--max_gb", number] for number in ("0", "nan", "inf"))]
)
def test_installing_takes_a_folder_or_checks(options, evil, capsys):
    assert install_bundle.main([str(evil), *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("options", [["--check"], ["-o", "TARGET"]])
def test_a_refused_zip_is_one_line_and_leaves_nothing(options, evil, tmp_path, capsys):
    target = tmp_path / "folder" / "b"
    target.parent.mkdir()
    assert install_bundle.main([str(evil), *(str(target) if word == "TARGET" else word for word in options)]) == 1
    error = capsys.readouterr().err
    assert error == f"nnc-install-bundle: {evil} holds '../evil', which leaves the folder; it is refused\n"
    assert list(target.parent.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.zip", "folder"]


@pytest.mark.parametrize("fold", ["²", "../x", "-1"])
def test_a_fold_that_is_no_number_is_wrong_usage(fold, tmp_path, capsys):
    arguments = ["-o", str(tmp_path / "b"), "--stage1", str(tmp_path), "--stage2", str(tmp_path)]
    assert make_bundle.main([*arguments, f"--stage1_folds={fold}"]) == 2
    assert 'folds are numbers from 0 or "all"' in capsys.readouterr().err


def test_folders_of_folds_that_are_no_numbers_are_left_out(tmp_path):
    for fold in ("0", "²", "10", "all", "x"):
        (tmp_path / f"fold_{fold}").mkdir()
        (tmp_path / f"fold_{fold}" / "a.pth").touch()
    assert available_folds(tmp_path, "a.pth") == (0, 10)
