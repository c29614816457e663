"""One tiny cascade for the whole session.

nnU-Net plans and trains in this process, for starting each of its commands takes longer than its work; the long
acceptance runs start them as users do. `NNC_TEST_CASCADE` names a folder that keeps the cascade between sessions, for
the loop of a developer; it is made there if it is missing. Remove it after a change of training, bundles or phantoms.
"""

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from builders.cascade_commands import DATASET, ROI_DATASET, TRAIN_CASCADE, digest, run
from builders.nnunet_here import run_here, run_nnunet_here, use_threads

from nnunet_cascade.bundles.bundle import read_spec
from nnunet_cascade.cli import train_cascade
from nnunet_cascade.phantom.cohort import TEST_SEEDS, TRAIN_SEEDS, write_cohort
from nnunet_cascade.phantom.settings import PhantomSettings
from nnunet_cascade.training import pipeline

_FACTS = "tiny_cascade.json"
COARSE = PhantomSettings(spacing_mm=(6.0, 6.0, 6.0), tumors=(1, 2), tumor_radius_mm=(12.0, 20.0))
"""Phantoms of few voxels with tumors that are large in them."""


@dataclass(frozen=True)
class TinyCascade:
    root: Path
    baseline_before: dict

    @property
    def bundle(self):
        return self.root / "bundle"

    @property
    def raw(self):
        return self.root / "nnUNet_raw" / f"Dataset{DATASET}_Phantoms"

    @property
    def roi_raw(self):
        return self.root / "nnUNet_raw" / f"Dataset{ROI_DATASET}_PhantomsROI"

    @property
    def preprocessed(self):
        return self.root / "nnUNet_preprocessed" / f"Dataset{DATASET}_Phantoms"

    def model(self, stage):
        dataset, trainer, plans = {
            1: (self.raw.name, "CascadeTrainer", "nnUNetCascadeCoarsePlans"),
            2: (self.roi_raw.name, "UncertaintyROITrainer", "nnUNetCascadeROIPlans"),
        }[stage]
        return self.root / "nnUNet_results" / dataset / f"{trainer}__{plans}__3d_fullres"

    @property
    def test_image(self):
        return self.raw / "imagesTs" / f"phantom_{TEST_SEEDS[0]}_0000.nii.gz"

    @property
    def test_truth(self):
        return self.raw / "labelsTs" / f"phantom_{TEST_SEEDS[0]}.nii.gz"


def quick_spec(bundle):
    """The settings of a bundle with what `--mc_samples 2 --disable_tta` changes."""
    spec = read_spec(bundle)
    stages = {stage: replace(getattr(spec, stage), mirroring=False) for stage in ("stage1", "stage2")}
    return replace(spec, **stages, sampling=replace(spec.sampling, mc_samples=2))


@pytest.fixture(scope="session")
def nnunet_root(tmp_path_factory):
    """nnU-Net's three folders, named in the environment as long as the session runs."""
    root = tmp_path_factory.mktemp("nnunet")
    names = {name: str(root / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    for folder in names.values():
        Path(folder).mkdir()
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    yield root
    for name, value in before.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(scope="session")
def tiny_cascade(nnunet_root, request):
    """A cascade of two folds trained by `nnc-train-cascade` on four phantoms, after nnU-Net's own planning."""
    kept = Path(os.environ["NNC_TEST_CASCADE"]) if os.environ.get("NNC_TEST_CASCADE") else None
    if kept is None or not (kept / _FACTS).is_file():
        made = _train(nnunet_root, as_users_do=any(item.get_closest_marker("long") for item in request.session.items))
        if kept is None:
            return made
        shutil.copytree(nnunet_root, kept, dirs_exist_ok=True)
        (kept / _FACTS).write_text(json.dumps(made.baseline_before))
    shutil.copytree(kept, nnunet_root, dirs_exist_ok=True)
    return TinyCascade(nnunet_root, json.loads((kept / _FACTS).read_text()))


def _train(nnunet_root, *, as_users_do):
    raw = nnunet_root / "nnUNet_raw" / f"Dataset{DATASET}_Phantoms"
    write_cohort(raw, train_seeds=TRAIN_SEEDS[:4], test_seeds=TEST_SEEDS[:1], settings=COARSE)
    plan = ["nnUNetv2_plan_and_preprocess", "-d", DATASET, "-c", "3d_fullres", "-np", "2", "-npfp", "2"]
    train = ["-o", nnunet_root / "bundle", *TRAIN_CASCADE]
    # nnU-Net's planner refuses the nnUNet_n_proc_DA=0 that the tests train with.
    workers = os.environ.pop("nnUNet_n_proc_DA")
    run(*plan) if as_users_do else run_here(*plan, log=nnunet_root / "plan.log")
    os.environ.update(nnUNet_n_proc_DA=workers)
    stock = digest(nnunet_root / "nnUNet_preprocessed")
    if as_users_do:
        run("nnc-train-cascade", *train)
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline, "run_nnunet", run_nnunet_here)
            use_threads(patch)
            assert train_cascade.main([*map(str, train)]) == 0
    return TinyCascade(nnunet_root, stock)
