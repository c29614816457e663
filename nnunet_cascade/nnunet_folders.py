"""Where nnU-Net keeps things, as paths, with errors that say which variable to set."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnunet_cascade.errors import DatasetError
from nnunet_cascade.processes import environment

NNUNET_FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
_SMALL_MACHINE = {"nnUNet_def_n_proc": "2", "nnUNet_n_proc_DA": "0"}  # one process draws: same seed, same weights


def nnunet_folder(variable: str) -> Path:
    """Return the folder that one of nnU-Net's variables names.

    Args:
        variable: `nnUNet_raw`, `nnUNet_preprocessed` or `nnUNet_results`.

    Raises:
        DatasetError: The variable is not set.
    """
    value = os.environ.get(variable)
    if not value:
        raise DatasetError(f"{variable} is not set; expected a folder; export {variable}=/your/folder")
    return Path(value)


def dataset_name(dataset_id: int) -> str:
    """Return the full name, such as Dataset501_NSCLCRadiomics, of the dataset with a number.

    Raises:
        DatasetError: No folder of nnU-Net's, or more than one name, has the number.
    """
    nnunet_folder("nnUNet_raw")
    prefix = f"Dataset{dataset_id:03d}_"
    variables = [name for name in NNUNET_FOLDERS if os.environ.get(name)]
    found = {path.name for name in variables for path in nnunet_folder(name).glob(f"{prefix}*") if path.is_dir()}
    if len(found) != 1:
        what = f"{len(found)} datasets {sorted(found)}" if found else "no dataset"
        raise DatasetError(f"{what} named {prefix}… in nnU-Net's folders; expected one; convert your data first")
    return found.pop()


def raw_folder(dataset_id: int) -> Path:
    """Return the raw folder of a dataset; it must hold a dataset.json."""
    folder = nnunet_folder("nnUNet_raw") / dataset_name(dataset_id)
    if not (folder / "dataset.json").is_file():
        raise DatasetError(f"{folder} has no dataset.json; expected an nnU-Net v2 raw dataset")
    return folder


def preprocessed_folder(dataset_id: int) -> Path:
    """Return the preprocessed folder of a dataset, made where it is missing."""
    folder = nnunet_folder("nnUNet_preprocessed") / dataset_name(dataset_id)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def model_folder(dataset_id: int, *, trainer: str, plans: str, configuration: str) -> Path:
    """Return the folder that nnU-Net trains a model into."""
    return nnunet_folder("nnUNet_results") / dataset_name(dataset_id) / f"{trainer}__{plans}__{configuration}"


def roi_target(dataset_id: int, roi_dataset_id: int) -> Path:
    """Return the raw folder that the stage-2 dataset of a dataset gets; it need not be there."""
    source = raw_folder(dataset_id)
    return source.with_name(f"Dataset{roi_dataset_id:03d}_{source.name.split('_', 1)[1]}ROI")


def patient_folds(dataset_id: int) -> list[dict[str, list[str]]]:
    """Read the folds of a dataset from where training reads them.

    Raises:
        DatasetError: There are none.
    """
    path = preprocessed_folder(dataset_id) / "splits_final.json"
    if not path.is_file():
        raise DatasetError(f"{path} is missing; train a fold of stage 1, which makes it, or write your own folds there")
    return json.loads(path.read_text())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DatasetError: The file is missing or holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path} holds {type(content).__name__}; expected a JSON object")
    return content


@contextmanager
def own_nnunet_folders(folder: Path) -> Generator[None, None, None]:
    """Let nnU-Net work below a folder of ours, and give the user's variables back afterwards."""
    for name in NNUNET_FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    with environment({**{name: str((folder / name).resolve()) for name in NNUNET_FOLDERS}, **_SMALL_MACHINE}):
        yield
