"""Reading a CT with all its ROIs against peers, and converting two patients with two processes against one.

    NNC_REAL_DATA=... python benchmarks/dicom_conversion.py [--peers FOLDER] [--rounds 5]

Each peer is installed into an environment of its own (they want different versions of pydicom), below FOLDER. Each
reading runs in a fresh process, imports excluded, peers and ours in turn; the median of the rounds counts. The
voxels of the CT must agree; those of the ROIs are printed, for the peers draw masks that are wider than the contours.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pydicom

HERE = Path(__file__).parent / "peers"
PEERS = {
    "rt-utils": ("rt-utils==1.2.7", "rt_utils_reader.py"),
    "DicomRTTool": ("DicomRTTool==6.2.0", "dicomrttool_reader.py"),
    "platipy": ("platipy==0.7.2", "platipy_reader.py"),
}
OURS = "nnunet-cascade"


def make_environment(folder: Path, requirement: str) -> Path:
    """Make a virtual environment with one peer and give its interpreter."""
    python = folder / "bin" / "python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", requirement], check=True)
    return python


def read_once(python: Path, script: str, patient: Path) -> dict[str, Any]:
    """Run one reader in a process of its own."""
    done = subprocess.run(
        [str(python), str(HERE / script), str(patient)], check=True, capture_output=True, text=True, cwd=HERE
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare_readers(peers: Path, patient: Path, rounds: int) -> None:
    """Print seconds, ratio, memory and voxels of each reader."""
    readers = {OURS: (Path(sys.executable), "nnunet_cascade_reader.py")}
    for name, (requirement, script) in PEERS.items():
        readers[name] = (make_environment(peers / name, requirement), script)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in readers}
    for _ in range(rounds):
        for name, (python, script) in readers.items():
            found[name].append(read_once(python, script, patient))
    ours = statistics.median(item["seconds"] for item in found[OURS])
    print(f"\n{patient.name}: CT and all ROIs as arrays, median of {rounds}\n")
    print("| reader | seconds | times ours | peak MiB | CT equal | voxels |")
    print("|---|---:|---:|---:|---|---|")
    for name, items in found.items():
        seconds = statistics.median(item["seconds"] for item in items)
        peak = max(item["peak_mib"] for item in items)
        equal = items[0]["ct_sum"] == found[OURS][0]["ct_sum"]
        print(f"| {name} | {seconds:.2f} | {seconds / ours:.2f} | {peak:.0f} | {equal} | {items[0]['voxels']} |")


def second_patient(source: Path, target: Path) -> None:
    """Copy a patient under another ID and other UIDs."""
    for path in sorted(source.rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        dataset.PatientID = "LUNG1-900"
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            dataset[keyword].value = f"{dataset[keyword].value[:60]}.9"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        for reference in dataset.get("ReferencedFrameOfReferenceSequence", []):
            series = reference.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
            series.SeriesInstanceUID = f"{series.SeriesInstanceUID[:60]}.9"
        target.mkdir(parents=True, exist_ok=True)
        dataset.save_as(target / path.name)


def convert(download: Path, raw: Path, processes: int) -> tuple[float, int]:
    """Convert a download with the command line; give seconds, the start of Python included, and cases."""
    shutil.rmtree(raw, ignore_errors=True)
    command = Path(sys.executable).with_name("nnc-convert-nsclc-radiomics")
    arguments = ["-i", str(download), "-d", "501", "-np", str(processes)]
    begun = time.perf_counter()
    subprocess.run(
        [str(command), *arguments], check=True, capture_output=True, env={**os.environ, "nnUNet_raw": str(raw)}
    )
    seconds = time.perf_counter() - begun
    return seconds, len(list(raw.glob("*/labelsTr/*.nii.gz")))


def compare_processes(patient: Path, rounds: int) -> None:
    """Print the time of two patients with two processes over that of one."""
    with tempfile.TemporaryDirectory() as folder:
        one, two, raw = Path(folder) / "one", Path(folder) / "two", Path(folder) / "raw"
        for download in (one, two):
            shutil.copytree(patient, download / patient.name)
        second_patient(patient, two / "LUNG1-900")
        times: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(rounds):
            for patients, download in ((1, one), (2, two)):
                seconds, cases = convert(download, raw, processes=2)
                if cases != patients:
                    raise SystemExit(f"{cases} cases from {patients} patients")
                times[patients].append(seconds)
        single, double = (statistics.median(times[patients]) for patients in (1, 2))
        print("\nWhole command, DICOM to .nii.gz, two processes\n")
        print(f"1 patient {single:.2f} s, 2 patients {double:.2f} s: {double / single:.2f} times")


def main() -> None:
    """Run both comparisons on LUNG1-001."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "nnc_benchmark_peers")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    patient = Path(os.environ["NNC_REAL_DATA"]) / "LUNG1-001"
    compare_readers(args.peers, patient, args.rounds)
    compare_processes(patient, args.rounds)


if __name__ == "__main__":
    main()
