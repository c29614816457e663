"""Checksums of the model files that decide a prediction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from nnunet_cascade.bundles.bundle import model_files
from nnunet_cascade.errors import BundleError
from nnunet_cascade.files import sha256_of
from nnunet_cascade.postprocessing.lungs.inputs import weights_checksum
from nnunet_cascade.prediction.spec import CascadeSpec


def model_checksums(bundle: Path, spec: CascadeSpec, *, with_stage1: bool = True) -> dict[str, str]:
    """Return one SHA-256 for the files of each stage that prediction uses: plans, dataset and checkpoints.

    Weights that are given for lungmask are "lungs" next to "stage1" and "stage2".

    Raises:
        BundleError: A file of a stage is missing or cannot be read.
        LungMaskError: The same of lungmask's weights.
    """
    stages: dict[str, list[str]] = {}
    for name in model_files(spec, with_stage1=with_stage1):
        stages.setdefault(name.partition("/")[0], []).append(name)
    sums = {stage: files_checksum(bundle, names) for stage, names in sorted(stages.items())}
    lungs = weights_checksum(spec.lungs)
    return sums if lungs is None else {**sums, "lungs": lungs}


def files_checksum(folder: Path, names: Iterable[str]) -> str:
    """Return one SHA-256 for files of a model by their names below a folder, in whatever order.

    Raises:
        BundleError: One of them is missing or cannot be read.
    """
    lines = [f"{name}\0{_of_model(folder / name)}\n" for name in sorted(names)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _of_model(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read ({error.strerror}); expected a file of a trained model; make the bundle again"
        ) from error
