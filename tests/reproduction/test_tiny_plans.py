"""What the demonstration and a tiny reproduction train is what users train, but for sizes and lengths."""

import json
import math

import pytest

from nnunet_cascade.nnunet_folders import NNUNET_FOLDERS
from nnunet_cascade.reproduction.demo import DemoRequest, demo_baseline, demo_training
from nnunet_cascade.reproduction.request import ReproductionRequest, baseline_of, training_request
from nnunet_cascade.reproduction.systems import RoiModel
from nnunet_cascade.reproduction.tables import chosen_tables
from nnunet_cascade.reproduction.tiny_plans import cascade_voxels, gradient_voxels
from nnunet_cascade.settings.serialization import to_json
from nnunet_cascade.training.planning import PlanRequest
from nnunet_cascade.training.request import TrainingRequest

SIZES = {"patch_size", "features", "network_size"}
LENGTHS = {
    "epochs",
    "iterations_per_epoch",
    "validation_iterations_per_epoch",
    "save_every",
    "final_validation",
    "mc_samples",
    "folds",
    "recipe",  # that of short trainings, with its learning rate
    "initial_learning_rate",
    "mirroring",  # of longer trainings
}
NAMES = {"bundle", "name", "roi_dataset", "seed", "notes"}


def flat(request):
    """All settings by their paths; lists are values."""

    def walk(value, place):
        if isinstance(value, dict):
            for name, item in value.items():
                yield from walk(item, (*place, name))
        else:
            yield place, value

    return dict(walk(json.loads(json.dumps(to_json(request), default=str)), ()))


def changed(tiny, preset):
    """Paths of what a tiny training sets otherwise than a user's."""
    whole = flat(TrainingRequest.of_preset(tiny.dataset, "bundle", preset=preset, device="cpu"))
    own = flat(tiny)
    return {place for place in own if own[place] != whole.get(place)}


def test_the_demonstration_trains_what_users_train_but_for_sizes_and_lengths(tmp_path):
    places = changed(demo_training(DemoRequest(folder=tmp_path)), "recommended")
    assert {place[-1] for place in places} <= SIZES | LENGTHS | NAMES
    assert ("stage1", "plan", "patch_size") in places


@pytest.mark.parametrize("preset", ["paper", "recommended"])
@pytest.mark.parametrize("size", ["tiny", "full"])
def test_a_reproduction_trains_what_users_train_but_for_what_its_tables_compare(tmp_path, preset, size):
    request = ReproductionRequest(
        folder=tmp_path, tables=chosen_tables([]), size=size, preset=preset, folds=5, device="cpu"
    )
    for model in request.roi_models:
        compared = {"trainer", "margin_mm", "tumor_labels"}
        own = model.preset or preset
        voxels = {"spacing_mm", "grid"} if own == "paper" else set()  # of 1 mm, on phantoms of 3 mm
        allowed = NAMES | compared | (SIZES | LENGTHS | voxels if size == "tiny" else set())
        places = changed(training_request(request, model), own)
        assert {place[-1] for place in places} <= allowed, model


@pytest.mark.parametrize("fine_batch", [2, 3])
def test_the_plain_network_passes_as_many_voxels_with_gradient_as_the_cascade(tmp_path, fine_batch, monkeypatch):
    request = DemoRequest(folder=tmp_path, effort=3.0)
    cascade, plain = demo_training(request), demo_baseline(request, fine_batch)
    voxels = cascade.folds * cascade_voxels(cascade, fine_batch)
    assert voxels == cascade.folds * 6 * 3 * (60 * 2 * 40 * 32 * 48 + 80 * fine_batch * 32**3)
    assert math.isclose(voxels, gradient_voxels(plain), rel_tol=0.01)
    tiny = ReproductionRequest(folder=tmp_path, tables=chosen_tables(["I"]), size="tiny", folds=2, effort=3.0)
    chain = training_request(tiny, RoiModel())
    for name in NNUNET_FOLDERS:
        monkeypatch.setenv(name, str(tmp_path / name))
    assert math.isclose(2 * cascade_voxels(chain), gradient_voxels(baseline_of(tiny)), rel_tol=0.01)  # nothing planned
    planned = tmp_path / "nnUNet_preprocessed" / f"Dataset{chain.roi_dataset}_ROI" / f"{chain.stage2.plan.name}.json"
    planned.parent.mkdir(parents=True)
    planned.write_text(json.dumps({"configurations": {"3d_fullres": {"batch_size": fine_batch}}}))
    assert math.isclose(2 * cascade_voxels(chain, fine_batch), gradient_voxels(baseline_of(tiny)), rel_tol=0.01)
    default = flat(PlanRequest(name="Plain"))
    own = {place[-1] for place, value in flat(plain.plan).items() if value != default.get(place)}
    assert own <= SIZES | LENGTHS | NAMES
