"""A bundle on real CTs from the command line: time, memory, grid, lungs, flags.

    python benchmarks/real_cts.py BUNDLE   # real CTs below $NNC_REAL_DATA

Each CT is converted by `nnc-convert-nsclc-radiomics` and predicted by `nnc-cascade-predict`, once as it is and
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

from nnunet_cascade.evaluation.overlap import dice
from nnunet_cascade.images import read_volume

CASES = ("LUNG1-001", "LUNG1-002")


def convert(raw: Path) -> Path:
    """Convert the CTs and their GTV-1 to NIfTI with the command line, and give the dataset's folder."""
    arguments = ["-i", os.environ["NNC_REAL_DATA"], "-d", "501", "-np", "2", "--patients", *CASES]
    command = Path(sys.executable).with_name("nnc-convert-nsclc-radiomics")
    subprocess.run([str(command), *arguments], check=True, env={**os.environ, "nnUNet_raw": str(raw)})
    return raw / "Dataset501_NSCLCRadiomics"


def predict(arguments: list[str]) -> tuple[float, float]:
    """Run the command; wall time in seconds and peak resident memory in GiB."""
    begin = time.perf_counter()
    process = subprocess.Popen([str(Path(sys.executable).parent / "nnc-cascade-predict"), *arguments])
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
    rows = [
        "| CT | stage 1 | s | GiB | same grid | lungs, l | kept | tumor, ml | Dice of GTV-1 | flags |",
        "|" + "---|" * 10,
    ]
    with tempfile.TemporaryDirectory() as folder:
        dataset = convert(Path(folder))
        truths = dataset / "labelsTr"
        for case in CASES:
            image = dataset / "imagesTr" / f"{case}_0000.nii.gz"
            for kind, extra in (("predicted", []), ("GTV-1 given", ["--stage1_predictions", str(truths)])):
                output = Path(folder) / f"{case} {kind}"
                cost = predict(["-i", str(image), "-o", str(output), "-m", str(bundle), "-device", "cpu", *extra])
                rows.append(report(case, kind, output, image, truths / f"{case}.nii.gz", cost))
    print("\n".join(rows))


if __name__ == "__main__":
    main()
