"""What nnc-cascade-predict asks for by its options, before any model is loaded."""

import json
import shutil
import subprocess
import sys

import pytest
from builders.dicom_downloads import ONE, Ct, write_subject

from nnunet_cascade.cli import cascade_predict, common, options
from nnunet_cascade.cohort import cohort
from nnunet_cascade.cohort.jobs import CaseOutcome
from nnunet_cascade.dicom.ct.writing import CtStorage
from nnunet_cascade.prediction.spec import CascadeSpec


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "cascade.json").write_text(json.dumps(CascadeSpec().to_json()))
    (tmp_path / "in").mkdir()
    for case in ("a", "b", "c"):
        (tmp_path / "in" / f"{case}_0000.nii.gz").touch()
    return tmp_path


@pytest.fixture
def asked(folders, monkeypatch):
    """Give the request that options make, on a computer with so many GPUs."""

    def ask(*options, gpus=0):
        monkeypatch.setattr(cascade_predict, "cuda_devices", lambda: gpus)
        arguments = ["-i", folders / "in", "-o", folders / "out", "-m", folders / "bundle", *options]
        return cascade_predict._request(cascade_predict.build_parser().parse_args([*map(str, arguments)]))

    return ask


def main(folders, *options):
    arguments = ["-i", folders / "in", "-o", folders / "out", "-m", folders / "bundle", *options]
    return cascade_predict.main([*map(str, arguments)])


@pytest.mark.parametrize(
    ("options", "gpus", "workers"),
    [
        ([], 0, ("local", 1, ("cpu",))),
        ([], 3, ("local", 3, ("cuda:0", "cuda:1", "cuda:2"))),
        (["-device", "cpu"], 2, ("local", 1, ("cpu",))),
        (["-device", "mps"], 2, ("local", 1, ("mps",))),
        (["-device", "cuda:1"], 2, ("local", 1, ("cuda:1",))),
        (["-device", "cuda", "--workers", "4"], 2, ("local", 4, ("cuda:0", "cuda:1"))),
        (["-device", "cpu", "--workers", "2"], 2, ("local", 2, ("cpu",))),
        (["--engine", "ray"], 2, ("ray", 1, ("cpu",))),
        (["--engine", "ray", "-device", "cuda", "--workers", "2"], 0, ("ray", 2, ("cuda",))),
    ],
)
def test_there_is_a_worker_per_gpu_else_one_on_the_cpu_unless_others_are_asked_for(asked, options, gpus, workers):
    found = asked(*options, gpus=gpus).workers
    assert (found.engine, found.count, found.devices) == workers


@pytest.mark.parametrize(
    ("device", "gpus", "told"),
    [
        ("cuda:2", 2, "device cuda:2: found 2 CUDA devices, counted from 0"),
        ("cuda", 0, "no CUDA device found; use -device cpu"),
    ],
)
def test_a_gpu_that_is_not_there_is_one_line_with_how_many_there_are(folders, monkeypatch, capsys, device, gpus, told):
    monkeypatch.setattr(cascade_predict, "cuda_devices", lambda: gpus)
    assert main(folders, "-device", device) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0"])
def test_what_is_no_device_is_wrong_usage(folders, capsys, device):
    with pytest.raises(SystemExit) as stop:
        main(folders, "-device", device)
    assert stop.value.code == 2
    assert "none of cpu, cuda, cuda:N and mps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--workers", "0"], "workers must be at least 1"),
        (["--mc_samples", "1"], "mc_samples must be 0 or at least 2"),
        (["-npp", "-1"], "read_ahead must not be negative"),
        (["-nps", "-1"], "write_behind must not be negative"),
        (["-num_parts", "2", "-part_id", "2"], "part_id counts from 0"),
    ],
)
def test_numbers_out_of_range_are_wrong_usage(folders, capsys, options, told):
    assert main(folders, "-device", "cpu", *options) == 2
    assert told in capsys.readouterr().err


def test_options_reach_the_job_and_the_run(asked, folders):
    job = asked().job
    assert (job.precision, job.trusted, job.capacity, job.with_stage1) == ("float32", False, 3, True)
    options = ("--precision", "bfloat16", "--trust_checkpoint", "--sample_batch_size", "4", "-npp", "2", "-nps", "1")
    job = asked(*options, "--stage1_predictions", folders / "masks").job
    assert (job.precision, job.trusted, job.spec.sampling.batch_size) == ("bfloat16", True, 4)
    assert (job.read_ahead, job.write_behind, job.capacity, job.with_stage1) == (2, 1, 4, False)
    request = asked("-num_parts", "2", "-part_id", "1", "--continue_prediction")
    assert (list(request.cases), request.context.share.ending, request.resume) == (["b"], "_part1", True)


@pytest.mark.parametrize("folder", ["in", "bundle"])
def test_results_do_not_go_where_something_is_read(folders, capsys, folder):
    assert main(folders, "-o", folders / folder, "-device", "cpu") == 2
    assert "is a folder that is read from" in capsys.readouterr().err


def test_an_interrupted_command_ends_its_run_which_knows_its_arguments_before_it_says_so(folders, monkeypatch, capsys):
    ended = []

    def interrupted(request):
        assert request.context.command[-2:] == ("-device", "cpu")
        try:
            yield CaseOutcome(case="a", status="done")
        finally:
            ended.append(capsys.readouterr().err)

    monkeypatch.setattr(cohort, "predict_cohort", interrupted)
    monkeypatch.setattr("tqdm.tqdm.update", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(folders, "-device", "cpu") == 130
    assert len(ended) == 1
    assert "interrupted" not in ended[0]


def test_pytorch_is_not_asked_for_gpus_where_there_is_no_driver(monkeypatch):
    def absent(_name):
        raise OSError

    monkeypatch.setattr(common.ctypes, "CDLL", absent)
    monkeypatch.setattr(common.subprocess, "run", None)
    assert common.cuda_devices() == 0


def test_the_command_itself_loads_no_pytorch(folders):
    program = (
        "import sys; from nnunet_cascade.cli import cascade_predict as c; import nnunet_cascade.cohort.cohort\n"
        "c._request(c.build_parser().parse_args(sys.argv[1:])); sys.exit('torch' in sys.modules)"
    )
    arguments = ["-i", folders / "in", "-o", folders / "out", "-m", folders / "bundle", "-device", "cpu"]
    assert subprocess.run([sys.executable, "-c", program, *map(str, arguments)], check=False).returncode == 0


def test_a_model_that_is_missing_is_one_line_and_nothing_is_made(folders, capsys):
    assert main(folders, "-device", "cpu") == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("nnc-cascade-predict: ")
    assert not (folders / "out").exists()


def test_dicom_of_image_files_is_refused_at_once(folders, capsys):
    assert main(folders, "-device", "cpu", "--dicom") == 2
    assert "holds image files, which DICOM objects cannot reference" in capsys.readouterr().err


@pytest.fixture
def series(folders):
    """A series instead of image files, one of overviews, and a file that may be anybody's."""
    shutil.rmtree(folders / "in")
    overview = CtStorage(image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    write_subject(ONE.but(cts=(Ct(seed=1), Ct(name="scout", storage=overview))), folders / "in")
    (folders / "in" / "alone").mkdir()
    (folders / "in" / "alone" / "x.dcm").write_bytes(b"nothing")
    return folders


def test_a_folder_of_dicom_is_cases_and_what_is_none_is_told(asked, series):  # noqa: ARG001 - it is there
    request = asked("--case_names", "patient-id")
    assert list(request.cases) == ["P1"]
    assert request.exports is None
    assert request.told["unreadable_files"] == 1
    assert [left_out["images"] for left_out in request.told["left_out"]] == [8]
    assert next(iter(asked().cases)).startswith("case_")


def test_dicom_without_a_value_is_all_of_it(asked, series):  # noqa: ARG001 - it is there
    pytest.importorskip("highdicom")
    kinds = ["seg", "probability", "uncertainty", "rtstruct", "report"]
    assert asked("--dicom").exports.to_json()["kinds"] == kinds
    assert asked("--dicom", "rtstruct", "seg").exports.to_json()["kinds"] == ["seg", "rtstruct"]


def test_without_highdicom_it_is_refused_before_anything_is_predicted(series, monkeypatch, capsys):
    monkeypatch.setattr(options, "find_spec", lambda _: None)
    assert main(series, "-device", "cpu", "--dicom", "seg") == 1
    assert "nnunet-cascade[dicom]" in capsys.readouterr().err.splitlines()[-1]
    assert not (series / "out").exists()


def test_the_end_says_what_was_left_out_and_that_files_cannot_be_read(series, monkeypatch, capsys):
    monkeypatch.setattr(cohort, "predict_cohort", lambda _request: (CaseOutcome(case="a", status="done") for _ in "a"))
    assert main(series, "-device", "cpu") == 1
    told = capsys.readouterr().out
    assert "1 of 1 cases done; 1 CT series skipped because they are not volumes; 1 unreadable DICOM file(s)" in told
