"""What a converted dataset says of itself: dataset.json, conversion.json and splits_final.json."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_cascade.case_folders.same_request import require_same_settings
from nnunet_cascade.dataset_conversion.folds import FoldCase, stratified_folds
from nnunet_cascade.dataset_conversion.record import Record
from nnunet_cascade.dataset_conversion.settings import ConversionSettings
from nnunet_cascade.dataset_conversion.writing import RECORDS, is_complete, read_record, remove_unfinished
from nnunet_cascade.dicom.folder import FolderIndex
from nnunet_cascade.errors import DatasetError
from nnunet_cascade.files import write_json
from nnunet_cascade.images import ENDING
from nnunet_cascade.versions import NOTICE, versions

_log = logging.getLogger(__name__)
MANIFEST = "conversion.json"
_FOLDS = "splits_final.json"
_FORMAT = 1


def begin_dataset(dataset: Path, settings: ConversionSettings) -> None:
    """Make sure that a dataset folder is this conversion's, and note the settings before the first case.

    What a killed run left half done is removed.

    Raises:
        DatasetError: The folder holds cases converted otherwise, or images of another origin.
        OSError: It cannot be written.
    """
    manifest = read_record(dataset / MANIFEST)
    if not manifest and not any((dataset / RECORDS).glob("*.json")) and (images := _images(dataset)):
        raise DatasetError(
            f"{dataset} holds images of another origin, such as {images[0].name}; choose another dataset number"
        )
    remove_unfinished(dataset)
    wanted, found = settings.decisive(), manifest.get("settings", {})
    if manifest and _images(dataset):
        advice = "choose another dataset number, or remove it"
        require_same_settings(wanted, found, what=f"{dataset} was converted", advice=advice)
    kept = manifest if all(found.get(name) == value for name, value in wanted.items()) else {}
    dataset.mkdir(parents=True, exist_ok=True)
    write_json(dataset / MANIFEST, {**kept, "format": _FORMAT, "finished": False, "settings": settings.to_json()})


def converted_records(dataset: Path) -> list[Record]:
    """Return the records of all cases whose images and labels are there, in the order of their names."""
    records = (read_record(path) for path in sorted((dataset / RECORDS).glob("*.json")))
    return [record for record in records if is_complete(dataset, record)]


def finish_dataset(
    dataset: Path, settings: ConversionSettings, left_out: Mapping[str, str], index: FolderIndex
) -> list[Record]:
    """Write dataset.json and conversion.json.

    Patients that earlier runs left out and this one was not about keep their reasons.

    Args:
        dataset: nnU-Net raw dataset folder.
        settings: How it was converted.
        left_out: Why cases were left out, by name.
        index: What the download holds.

    Returns:
        The records of all cases of the dataset.

    Raises:
        OSError: A file cannot be written.
    """
    remove_unfinished(dataset)
    converted = converted_records(dataset)
    names = {record["case"] for record in converted}
    earlier: Mapping[str, str] = read_record(dataset / MANIFEST).get("left_out", {})
    reasons = {case: reason for case, reason in earlier.items() if case not in names} | dict(left_out)
    _write_dataset_json(dataset, settings, converted)
    content = {
        "format": _FORMAT,
        "finished": True,
        "notice": NOTICE,
        "versions": versions(),
        "settings": settings.to_json(),
        "licence": settings.licence,
        "converted": {record["case"]: record for record in converted},
        "left_out": dict(sorted(reasons.items())),
        "duplicate_cts": duplicate_cts(converted),
        "unreadable_files_of_nobody": len(index.stray),
        "files_that_are_not_dicom": index.others,
    }
    write_json(dataset / MANIFEST, content)
    _warn(dataset, converted)
    return converted


def duplicate_cts(converted: Sequence[Record]) -> list[list[str]]:
    """Return the names of the cases whose CTs are the same, voxel for voxel."""
    by_hash: dict[str, list[str]] = defaultdict(list)
    for record in converted:
        by_hash[record["ct"]["sha256"]].append(record["case"])
    return [cases for cases in by_hash.values() if len(cases) > 1]


def write_folds(dataset: Path, converted: Sequence[Record], count: int) -> None:
    """Write folds of the training cases, even in the first label's volume, as nnU-Net has them.

    One person's cases, and those of one CT, stay together.

    Raises:
        SettingsError: There are fewer persons than folds.
        OSError: The file cannot be written.
    """
    group = {record["case"]: str(record["group"]) for record in converted}
    for cases in duplicate_cts(converted):
        joined = {group[case] for case in cases}
        group = {case: group[cases[0]] if own in joined else own for case, own in group.items()}
    cases = {
        record["case"]: FoldCase(_first_volume_ml(record), group[record["case"]])
        for record in converted
        if record["split"] == "Tr"
    }
    write_json(dataset / _FOLDS, stratified_folds(cases, count))


def warn_of_other_folds(dataset: Path, converted: Sequence[Record]) -> None:
    """Say so where folds that an earlier run wrote are not those of the training cases."""
    try:
        folds: Any = json.loads((dataset / _FOLDS).read_text(encoding="utf-8"))
        listed = {case for fold in folds for part in ("train", "val") for case in fold[part]}
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError):
        listed = set[str]()
    if listed != {record["case"] for record in converted if record["split"] == "Tr"}:
        _log.warning("%s is not of these training cases; write it anew with --folds, or remove it", dataset / _FOLDS)


def _images(dataset: Path) -> list[Path]:
    return [path for path in sorted(dataset.glob(f"images*/*{ENDING}")) if path.name[0] != "."]


def _warn(dataset: Path, converted: Sequence[Record]) -> None:
    split = {record["case"]: record["split"] for record in converted}
    for cases in duplicate_cts(converted):
        leak = "" if len({split[case] for case in cases}) == 1 else "; some are to train on and some to test on"
        _log.warning("the CTs of %s are the same, voxel for voxel%s", " and ".join(cases), leak)
    known = {f"{record['case']}_0000{ENDING}" for record in converted}
    strangers = [path.name for path in _images(dataset) if path.name not in known]
    if strangers:
        _log.warning(
            "%s holds %d image(s) that no record tells of, such as %s; nnU-Net would take them too: remove them",
            dataset,
            len(strangers),
            strangers[0],
        )


def _write_dataset_json(dataset: Path, settings: ConversionSettings, converted: Sequence[Record]) -> None:
    labels = {"background": 0, **{label.name: value for value, label in enumerate(settings.labels, start=1)}}
    content: dict[str, Any] = {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": sum(record["split"] == "Tr" for record in converted),
        "file_ending": ENDING,
        "name": dataset.name.split("_", 1)[-1],
        "description": settings.description,
        "licence": settings.licence,
        "overwrite_image_reader_writer": "SimpleITKIO",
    }
    write_json(dataset / "dataset.json", content)


def _first_volume_ml(record: Record) -> float:
    return float(next(iter(record["labels"].values()))["volume_ml"])
