"""A bundle on real CTs from the command line: time, memory, grid, lungs, flags.

    python benchmarks/real_cts.py BUNDLE   # real CTs below $NNC_REAL_DATA

Each CT is read through SimpleITK, written as NIfTI and predicted by `nnc-cascade-predict`, once as it is and
once with GTV-1 handed in as stage 1's prediction, so that stage 2 has work. A bundle of the demo was trained
on phantoms: its Dice on real tumors is printed to show that, not to boast.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from skimage.draw import polygon2mask

from nnunet_cascade.evaluation.overlap import dice
from nnunet_cascade.images import read_volume

CASES = ("LUNG1-001", "LUNG1-002")


def read_series(folder: Path) -> sitk.Image:
    """Read the CT series with the most slices below a folder."""
    reader = sitk.ImageSeriesReader()
    names = [
        reader.GetGDCMSeriesFileNames(str(place), series)
        for place in (folder, folder / "image")
        if place.is_dir()
        for series in reader.GetGDCMSeriesIDs(str(place))
    ]
    reader.SetFileNames(max(names, key=len))
    return reader.Execute()


def read_gtv(folder: Path, image: sitk.Image) -> sitk.Image:
    """Rasterise GTV-1 by even-odd parity of its contours in each slice: enough for a trial, not for training."""
    headers = (pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(folder.rglob("*.dcm")))
    structures = next(header for header in headers if header.Modality == "RTSTRUCT")
    number = next(roi.ROINumber for roi in structures.StructureSetROISequence if roi.ROIName.upper() == "GTV-1")
    contours = next(item for item in structures.ROIContourSequence if item.ReferencedROINumber == number)
    mask = np.zeros(image.GetSize()[::-1], dtype=bool)
    for contour in contours.ContourSequence:
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
        indices = np.array([image.TransformPhysicalPointToContinuousIndex(point.tolist()) for point in points])
        mask[round(indices[0, 2])] ^= polygon2mask(mask.shape[1:], indices[:, 1::-1])
    result = sitk.GetImageFromArray(mask.astype(np.uint8))
    result.CopyInformation(image)
    return result


def predict(arguments: list[str]) -> tuple[float, float]:
    """Run the command; wall time in seconds and peak resident memory in GiB."""
    begin = time.perf_counter()
    process = subprocess.Popen([str(Path(sys.executable).parent / "nnc-cascade-predict"), *arguments])  # noqa: S603
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"nnc-cascade-predict ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - begin, usage.ru_maxrss / 2**20


def report(case: str, kind: str, output: Path, image: Path, truth: Path, cost: tuple[float, float]) -> str:
    """Give a table row."""
    record = json.loads((output / f"{case}.json").read_text())
    result = read_volume(output / f"{case}.nii.gz")
    same = read_volume(image).grid.difference(result.grid) is None
    score = dice(read_volume(truth).array > 0, result.array > 0)
    lungs = record["lungs"]["volume_ml"] / 1000 if record["lungs"] else float("nan")
    kept = sum(candidate["verdict"]["kept"] for candidate in record["candidates"])
    cells = (
        case, kind, f"{cost[0]:.0f}", f"{cost[1]:.2f}", "yes" if same else "NO", f"{lungs:.2f}",
        f"{kept}/{len(record['candidates'])}", f"{record['tumor']['volume_ml']:.1f}", f"{score:.3f}",
        " ".join(record["flags"]) or "–",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Predict every case twice and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    bundle: Path = parser.parse_args().bundle
    data = Path(os.environ["NNC_REAL_DATA"])
    rows = [
        "| CT | stage 1 | s | GiB | same grid | lungs, l | kept | tumor, ml | Dice of GTV-1 | flags |",
        "|" + "---|" * 10,
    ]
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            image, truths = Path(folder) / f"{case}_0000.nii.gz", Path(folder) / "gtv"
            truths.mkdir(exist_ok=True)
            ct = read_series(data / case)
            sitk.WriteImage(ct, str(image))
            sitk.WriteImage(read_gtv(data / case, ct), str(truths / f"{case}.nii.gz"))
            for kind, extra in (("predicted", []), ("GTV-1 given", ["--stage1_predictions", str(truths)])):
                output = Path(folder) / f"{case} {kind}"
                cost = predict(["-i", str(image), "-o", str(output), "-m", str(bundle), "-device", "cpu", *extra])
                rows.append(report(case, kind, output, image, truths / f"{case}.nii.gz", cost))
    print("\n".join(rows))


if __name__ == "__main__":
    main()
