"""Checkpoints are numbers: what else a file asks for is refused in one line, whatever it would do."""

import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from builders.evil_pickles import EVIL, kind, scalar, write_pickle

from nnunet_cascade.errors import WeightsError
from nnunet_cascade.networks.checkpoints import is_plain_weight, read_checkpoint, write_checkpoint

READ_ALL = """
import sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from nnunet_cascade.errors import WeightsError
from nnunet_cascade.networks.checkpoints import read_checkpoint
for path in sorted(Path(sys.argv[1]).glob("*.pth")):
    try:
        read_checkpoint(path, if_trusted="x")
    except WeightsError as error:
        print(error, flush=True)
"""
NUMBERS = [
    np.bool_(True), np.int8(-3), np.uint8(200), np.int32(-70_000), np.int64(2**40), np.float16(0.5), np.float32(0.1),
    np.float64(0.1), np.float64("nan"),
]  # fmt: skip


def read(path):
    return read_checkpoint(path, if_trusted="do not")


class TestNumbersOfNumpy:
    @pytest.mark.parametrize("number", NUMBERS, ids=repr)
    def test_they_are_read_as_they_were(self, number, tmp_path):
        torch.save({"best": number, "log": [number, [number]]}, tmp_path / "a.pth")
        found = read(tmp_path / "a.pth")
        for each in (found["best"], found["log"][0], found["log"][1][0]):
            assert type(each) is type(number)
            np.testing.assert_array_equal(each, number)

    @pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_of_every_release_and_order_of_bytes(self, module, order, tmp_path):
        content = np.array(1.5, dtype=f"{order}f8").tobytes()
        write_pickle(tmp_path / "a.pth", scalar(kind(3, order, None, None, None, -1, -1, 0), content, module))
        assert read(tmp_path / "a.pth") == 1.5

    def test_what_makes_numpy_touch_other_memory_is_refused_and_ends_no_process(self, tmp_path):
        for name, value in EVIL.items():
            write_pickle(tmp_path / f"{name}.pth", value)
        done = subprocess.run(
            [sys.executable, "-c", READ_ALL, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert len(lines) == len(EVIL)
        for name, line in zip(sorted(EVIL), lines, strict=True):
            assert line.startswith(f"{tmp_path / name}.pth ")
            assert "numpy" in line.removeprefix(str(tmp_path)) or "NumPy" in line

    def test_arrays_are_refused_by_name(self, tmp_path):
        torch.save({"dice": np.arange(3.0)}, tmp_path / "a.pth")
        with pytest.raises(WeightsError, match=r"asks for numpy\.\S+\._reconstruct when it is read"):
            read(tmp_path / "a.pth")

    def test_what_others_allow_for_their_files_is_not_allowed_and_stays_allowed_for_them(self, tmp_path):
        torch.save({"dice": np.arange(3.0)}, tmp_path / "a.pth")
        theirs = [np._core.multiarray._reconstruct, np.ndarray, np.dtype, type(np.dtype("f8"))]
        with torch.serialization.safe_globals(theirs):
            torch.load(tmp_path / "a.pth", weights_only=True)
            with pytest.raises(WeightsError, match="_reconstruct"):
                read(tmp_path / "a.pth")
            torch.load(tmp_path / "a.pth", weights_only=True)


class TestContainer:
    def test_a_zip_that_only_pytorch_would_open_and_one_that_unpacks_to_more_than_its_size_are_refused(self, tmp_path):
        torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
        content = bytearray((tmp_path / "a.pth").read_bytes())
        with zipfile.ZipFile(tmp_path / "a.pth", "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/data/9", bytes(1 << 20))
        with pytest.raises(WeightsError, match="is compressed"):
            read(tmp_path / "a.pth")
        content[content.index(b"PK\x01\x02") + 6] = 255
        (tmp_path / "a.pth").write_bytes(content)
        with pytest.raises(WeightsError, match=r"cannot be read as weights \(zip file version 25\.5\)"):
            read(tmp_path / "a.pth")


class TestWriting:
    def test_the_same_content_gives_the_same_bytes_under_any_name(self, tmp_path):
        for name in ("a.pth", "another.pt"):
            write_checkpoint(tmp_path / name, {"a": torch.arange(9.0)})
        assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "another.pt").read_bytes()
        assert torch.equal(read(tmp_path / "a.pth")["a"], torch.arange(9.0))

    def test_a_full_disk_is_told_in_one_line_and_leaves_what_was_there(self, tmp_path):
        (tmp_path / "a.pth").write_text("of before")
        resource = pytest.importorskip("resource")  # of POSIX
        before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
        try:
            with pytest.raises(OSError, match=r"too large|cannot be written") as told:
                write_checkpoint(tmp_path / "a.pth", {"a": torch.ones(10_000)})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)
        assert "\n" not in str(told.value)
        assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]
        assert (tmp_path / "a.pth").read_text() == "of before"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (torch.ones(2, 3), True),
        (torch.nn.Parameter(torch.ones(2)), True),
        (torch.ones(4, 4)[1:, ::2], True),
        (torch.ones(0), True),
        (torch.ones(()), True),
        (torch.ones(1).expand(1 << 40), False),
        (torch.ones(2, device="meta"), False),
        (torch.eye(2).to_sparse(), False),
        (np.ones(2), False),
        (1.0, False),
    ],
)
def test_a_weight_has_numbers_of_its_own(value, plain):
    assert is_plain_weight(value) is plain


def test_attributes_of_a_weight_are_never_called():
    weight = torch.nn.Parameter(torch.ones(2))
    weight.numel = weight.detach = weight.untyped_storage = None
    assert is_plain_weight(weight)
