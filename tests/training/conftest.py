"""Datasets as far as planning reads them."""

import json

import pytest


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    """A dataset of whole images, 501, and one of crops of it, 601, as far as planning reads them."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    intensities = {"mean": -300.0, "std": 300.0, "percentile_00_5": -1000.0, "percentile_99_5": 300.0}
    of_whole = {"spacings": [(3.0, 3.0, 3.0)], "shapes_after_crop": [(48, 64, 64)]}
    of_crops = {"spacings": [(3.0, 3.0, 3.0), (1.0, 1.0, 1.0)], "shapes_after_crop": [(40, 40, 40), (60, 60, 60)]}
    for name, content in (("Dataset501_X", of_whole), ("Dataset601_XROI", of_crops)):
        raw, preprocessed = tmp_path / "nnUNet_raw" / name, tmp_path / "nnUNet_preprocessed" / name
        for folder in (raw / "imagesTr", raw / "labelsTr", preprocessed):
            folder.mkdir(parents=True)
        for path in (raw / "imagesTr" / "a_0000.nii.gz", raw / "labelsTr" / "a.nii.gz"):
            path.touch()
        described = {
            "channel_names": {"0": "CT"}, "labels": {"background": 0, "tumor": 1}, "numTraining": 1,
            "file_ending": ".nii.gz", "overwrite_image_reader_writer": "SimpleITKIO",
        }  # fmt: skip
        (raw / "dataset.json").write_text(json.dumps(described))
        properties = {
            "median_relative_size_after_cropping": 1.0,
            "foreground_intensity_properties_per_channel": {"0": intensities},
        }
        (preprocessed / "dataset_fingerprint.json").write_text(json.dumps({**content, **properties}))
    manifest = {"version": 1, "provenance": {"source": "Dataset501_X"}, "rois": {}}
    (tmp_path / "nnUNet_raw" / "Dataset601_XROI" / "roi_manifest.json").write_text(json.dumps(manifest))
    return tmp_path / "nnUNet_preprocessed"
