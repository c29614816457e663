"""A folder with everything that the pages name: CTs, labels, results, a bundle, a DICOM export, a demonstration."""

import json
import shutil

import numpy as np
from builders.tiny_cascades import COARSE
from scipy.ndimage import gaussian_filter

from nnunet_cascade.images import read_volume, write_image
from nnunet_cascade.phantom.cohort import TEST_SEEDS
from nnunet_cascade.phantom.dicom import write_dicom_cohort

MADE_BEFORE = (
    "nnc-cascade-predict -i IMAGES -o RESULTS -m BUNDLE",
    "nnc-anatomy-filter --tune -gt LABELS -i PREDICTIONS -ct IMAGES -o TUNED",
)
"""Lines that make what other pages begin with; they run once, here."""
_CASES = 2


def make_world(folder, tiny, run_shell):
    """Fill a folder; `run_shell(text, folder)` runs a shell block in it.

    Returns:
        The folder.
    """
    folder.mkdir()
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (folder / name).mkdir()
    _place_images(folder, tiny)
    shutil.copytree(tiny.bundle, folder / "BUNDLE")
    for number in (1, 2):
        (folder / f"MODEL{number}").symlink_to(tiny.model(number), target_is_directory=True)
    _place_demo(folder, tiny)
    run_shell("\n".join(MADE_BEFORE), folder)
    for name in ("RUN", "OTHER", "results_lower"):
        shutil.copytree(folder / "RESULTS", folder / name)
    _draw_cross_validation(folder)
    return folder


def _place_images(folder, tiny):
    for name in ("IMAGES", "LABELS", "PREDICTIONS", "OTHERS", "labelsTr", "nnUNet_raw/Dataset510_Ours/labelsTr"):
        (folder / name).mkdir(parents=True)
    labels = sorted((tiny.raw / "labelsTr").glob("*.nii.gz"))[:_CASES]
    for label in labels:
        image = tiny.raw / "imagesTr" / label.name.replace(".nii.gz", "_0000.nii.gz")
        shutil.copy(image, folder / "IMAGES")
        for name in ("LABELS", "labelsTr", "nnUNet_raw/Dataset510_Ours/labelsTr"):
            shutil.copy(label, folder / name)
        _predict_badly(label, folder)
        lungs = tiny.raw / "lungsTr" / label.name
        (folder / "LUNGS").mkdir(exist_ok=True)
        shutil.copy(lungs, folder / "LUNGS")
    shutil.copy(tiny.test_image, folder / "ct.nii.gz")
    shutil.copy(tiny.test_image, folder / "patient7.nii.gz")
    volume = read_volume(tiny.test_image)
    write_image(volume.array, volume.grid, folder / "scan.nrrd")
    (folder / "evaluation.json").write_text(json.dumps({"comparison": {"methods": {}}}))


def _predict_badly(label, folder):
    """The truth, and a ball that is none: what an nnU-Net without rules leaves."""
    truth = read_volume(label)
    places = np.indices(truth.grid.shape)
    ball = sum((place - 6) ** 2 for place in places) <= 9
    for name in ("PREDICTIONS", "OTHERS"):
        write_image(((truth.array > 0) | ball).astype(np.uint8), truth.grid, folder / name / label.name)


def _draw_cross_validation(folder):
    """Records of a run with probabilities that are worth a calibration: those of the tiny networks are not."""
    drawn = shutil.copytree(folder / "RESULTS", folder / "BUNDLE_cross_validation")
    for label in (folder / "LABELS").iterdir():
        truth, case = read_volume(label), label.name.removesuffix(".nii.gz")
        noise = np.random.default_rng(5).normal(scale=0.08, size=truth.grid.shape)
        probability = np.clip(gaussian_filter((truth.array > 0).astype(float), 1.0) + noise, 0.01, 0.99)
        maps = {"": probability >= 0.5, "_probability": probability, "_roi": np.ones(truth.grid.shape)}
        for suffix, array in maps.items():
            kind = np.float32 if suffix == "_probability" else np.uint8
            write_image(array.astype(kind), truth.grid, drawn / f"{case}{suffix}.nii.gz")


def _place_demo(folder, tiny):
    """What `nnc-demo` leaves, of one patient, and the same patient as somebody's DICOM export."""
    demo = folder / "demo"
    shutil.copytree(tiny.bundle, demo / "bundle")
    raw = demo / "nnUNet_raw" / "Dataset501_Phantoms"
    for name in ("imagesTs", "labelsTs"):
        shutil.copytree(tiny.raw / name, raw / name)
    write_dicom_cohort(demo / "dicom", train_seeds=(), test_seeds=TEST_SEEDS[:1], settings=COARSE)
    shutil.copytree(demo / "dicom", folder / "EXPORT")
    (folder / "EXPORT" / "phantoms.json").unlink()
