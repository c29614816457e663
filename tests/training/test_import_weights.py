"""A file of weights becomes a checkpoint that stock nnU-Net starts from."""

import hashlib
import json

import numpy as np
import pytest
import torch
from builders.tiny_plans import write_plans
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

from nnunet_cascade.errors import BundleError, DatasetError, SettingsError, WeightsError
from nnunet_cascade.plugin import nnunet_cascade_trainers
from nnunet_cascade.training.pretrained_weights import import_weights

# MONAI warns on import, nnU-Net where its variables are not set.
pytestmark = pytest.mark.filterwarnings("ignore")
TINY = {"network_size": "tiny", "seed": 5}


@pytest.fixture
def trainer_of(tmp_path, monkeypatch):
    """Trainers as nnU-Net makes them for a plans file, with their network built."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    # nnU-Net tells the kind of its data by their endings, before there is anything to train.
    data = tmp_path / "nnUNet_preprocessed" / "Dataset501_Phantoms" / "nnUNetPlans_3d_fullres"
    data.mkdir(parents=True)
    (data / "case.npz").touch()

    def make(plans, name):
        content = {**json.loads(plans.read_text()), "continue_training": False}
        dataset = json.loads((plans.parent / "dataset.json").read_text())
        kind = getattr(nnunet_cascade_trainers, name)
        trainer = kind(content, "3d_fullres", 0, dataset, torch.device("cpu"))
        trainer.initialize()
        return trainer

    return make


@pytest.fixture
def checkpoint_of(trainer_of, tmp_path):
    """A checkpoint as stock nnU-Net writes one, of a network with other weights; gives its path and the weights."""

    def make(trainer, labels=("tumor",)):
        plans = write_plans(tmp_path / "other", labels=labels, block={**TINY, "seed": 9})
        trained = trainer_of(plans, trainer)
        trained.logger.log("ema_fg_dice", np.float64(0.5), 0)
        trained.save_checkpoint(str(tmp_path / "checkpoint_final.pth"))
        return tmp_path / "checkpoint_final.pth", trained.network.state_dict()

    return make


@pytest.fixture
def swinvit(trainer_of, tmp_path):
    """A file as MONAI's self-supervised pretraining leaves it; gives its path and the network it is from."""
    plans = write_plans(tmp_path / "swin", block={**TINY, "seed": 9})
    trained = trainer_of(plans, "SwinUNETRTrainer").network
    weights = {f"module.{name}".replace("linear", "fc"): value for name, value in trained.swinViT.state_dict().items()}
    weights |= {"module.rotation_head.weight": torch.ones(4, 192), "module.convTrans3d.bias": torch.ones(1)}
    torch.save({"epoch": 1, "state_dict": weights}, tmp_path / "model_swinvit.pt")
    return tmp_path / "model_swinvit.pt", trained.state_dict()


def run(source, plans, trainer, output, *, configuration="3d_fullres", trusted=False):
    return import_weights(
        source, plans=plans, configuration=configuration, trainer=trainer, output=output, trusted=trusted
    )


def equal(found, expected, names):
    return [name for name in names if torch.equal(found[name], expected[name])]


def test_stock_nnunet_starts_swin_unetr_from_a_self_supervised_encoder(swinvit, trainer_of, tmp_path):
    source, trained = swinvit
    plans = write_plans(tmp_path / "mine", block=TINY)
    run(source, plans, "SwinUNETRTrainer", tmp_path / "weights.pth")
    network = trainer_of(plans, "SwinUNETRTrainer").network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    load_pretrained_weights(network, str(tmp_path / "weights.pth"))
    after = network.state_dict()
    inside = [name for name in after if name.startswith("swinViT.")]
    outside = [name for name in after if not name.startswith("swinViT.")]
    assert equal(after, trained, inside) == inside
    assert len(equal(before, trained, inside)) < len(inside)
    # What the file has not is what the trainer's own seed would have given.
    assert equal(after, before, outside) == outside


def test_a_network_without_dropout_and_with_other_labels_starts_one_with_dropout(checkpoint_of, trainer_of, tmp_path):
    source, trained = checkpoint_of("CascadeTrainer", labels=("lung", "heart", "tumor"))
    plans = write_plans(tmp_path / "mine", block=TINY)
    network = trainer_of(plans, "UncertaintyROITrainer").network
    with pytest.raises(AssertionError, match="is missing"):
        load_pretrained_weights(network, str(source))
    imported = run(source, plans, "UncertaintyROITrainer", tmp_path / "weights.pth")
    load_pretrained_weights(network, str(tmp_path / "weights.pth"))
    after = network.state_dict()
    body = [name for name in imported.fitted.taken if "seg_layers" not in name]
    assert equal(after, trained, body) == body
    assert len(body) == len(list(network.parameters())) - len(imported.fitted.of_other_shape)
    assert {each.name.split(".")[1] for each in imported.fitted.of_other_shape} == {"seg_layers"}
    assert imported.fitted.left == imported.fitted.unused == ()


def test_unetr_gets_the_position_embedding_of_the_patch_it_will_train_on(checkpoint_of, trainer_of, tmp_path):
    source, trained = checkpoint_of("UNETRTrainer")
    plans = write_plans(tmp_path / "mine", block=TINY, labels=("a", "b"))  # 20 × 40 × 48 becomes 32 × 48 × 48
    imported = run(source, plans, "DiceCEROIUNETRTrainer", tmp_path / "weights.pth")
    network = trainer_of(plans, "DiceCEROIUNETRTrainer").network
    load_pretrained_weights(network, str(tmp_path / "weights.pth"))
    assert imported.record["patch_size"] == [32, 48, 48]
    assert torch.equal(
        network.state_dict()["vit.patch_embedding.position_embeddings"],
        trained["vit.patch_embedding.position_embeddings"],
    )
    assert [each.name for each in imported.fitted.of_other_shape] == ["out.conv.conv.weight", "out.conv.conv.bias"]


def test_the_checkpoint_says_where_it_comes_from_in_plain_types(swinvit, tmp_path):
    source, _ = swinvit
    imported = run(source, write_plans(tmp_path / "mine", block=TINY), "SwinUNETRTrainer", tmp_path / "weights.pth")
    stored = torch.load(tmp_path / "weights.pth", weights_only=True)
    record = stored["imported_from"]
    assert record == imported.record == json.loads(json.dumps(record))
    assert record["file"] == "model_swinvit.pt"
    assert record["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (record["trainer"], record["plans"], record["seed"]) == ("SwinUNETRTrainer", "nnUNetPlans", 5)
    assert (record["weights_taken"], record["weights"]) == (126, len(stored["network_weights"]))
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]


def test_what_it_wrote_can_be_imported_again(swinvit, tmp_path):
    plans = write_plans(tmp_path / "mine", block=TINY)
    run(swinvit[0], plans, "SwinUNETRTrainer", tmp_path / "first.pth")
    again = run(tmp_path / "first.pth", plans, "SwinUNETRTrainer", tmp_path / "second.pth").fitted
    assert (again.left, again.of_other_shape, again.unused) == ((), (), ())


def test_the_global_generator_is_left_as_it_was(swinvit, tmp_path):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    run(swinvit[0], write_plans(tmp_path / "mine", block=TINY), "SwinUNETRTrainer", tmp_path / "weights.pth")
    assert torch.equal(torch.random.get_rng_state(), before)


def _two_stages(plans):
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["n_stages"] = 2
    return json.dumps(plans)


REFUSED = {
    "weights that fit nowhere": ({}, WeightsError, r"stray\.pt: 0% of the network's encoder.*same architecture"),
    "a missing file": ({"source": "nothing.pt"}, WeightsError, "is no file"),
    "nearly a trainer": (
        {"trainer": "SwinUNETR"},
        SettingsError,
        r"no trainer SwinUNETR; did you mean SwinUNETRTrainer\?",
    ),
    "a trainer in small letters": (
        {"trainer": "uncertaintyroitrainer"},
        SettingsError,
        r"no trainer uncertaintyroitrainer; did you mean UncertaintyROITrainer\? expected one of ",
    ),
    "a trainer like none": ({"trainer": "xyz"}, SettingsError, "no trainer xyz; expected one of .*CascadeTrainer"),
    "no such configuration": (
        {"configuration": "3d_lowres"},
        SettingsError,
        "configuration 3d_lowres; found 3d_fullres",
    ),
    "missing plans": ({"plans": "nnUNetPlan.json"}, DatasetError, r"nnUNetPlan\.json cannot be read"),
    "no plans": (
        {"plans": "dataset.json"},
        DatasetError,
        r"dataset\.json has no configurations; expected a plans file",
    ),
}
BAD_PLANS = {
    "no network can be built from them": (_two_stages, DatasetError, "no network can be built"),
    "nested without end": (lambda _: "[" * 200_000, DatasetError, r"nnUNetPlans\.json cannot be read as JSON"),
    **{
        f"the label manager {name}": (
            lambda plans, name=name: json.dumps({**plans, "label_manager": name}),
            BundleError,
            f"label_manager names '{name}', which would be imported",
        )
        for name in ("recursive_find_python_class", "torch", "softmax_helper_dim0")
    },
}


class TestRefusals:
    """Nothing is written where something is wrong, and what was there stays."""

    @pytest.fixture
    def plans(self, tmp_path):
        return write_plans(tmp_path / "mine", block=TINY)

    @pytest.fixture
    def stray(self, tmp_path):
        torch.save({"state_dict": {"a.weight": torch.ones(3)}}, tmp_path / "stray.pt")
        return tmp_path / "stray.pt"

    @pytest.fixture(autouse=True)
    def output(self, tmp_path):
        (tmp_path / "weights.pth").write_text("of before")
        yield tmp_path / "weights.pth"
        assert (tmp_path / "weights.pth").read_text() == "of before"
        assert not list(tmp_path.glob(".*"))

    @pytest.mark.parametrize(("changed", "error", "reason"), REFUSED.values(), ids=REFUSED)
    def test_a_wrong_argument(self, changed, error, reason, stray, plans, output):
        paths = {key: plans.with_name(value) for key, value in changed.items() if key in {"source", "plans"}}
        with pytest.raises(error, match=reason):
            run(output=output, **{"source": stray, "plans": plans, "trainer": "CascadeTrainer", **changed, **paths})

    def test_plans_without_a_dataset_beside_them(self, stray, plans, output):
        plans.with_name("dataset.json").unlink()
        with pytest.raises(DatasetError, match=r"dataset\.json cannot be read"):
            run(stray, plans, "CascadeTrainer", output)

    def test_plans_that_name_a_network_of_others_unless_they_are_trusted(self, stray, plans, output):
        content = json.loads(plans.read_text())
        content["configurations"]["3d_fullres"]["architecture"]["network_class_name"] = "nowhere.Net"
        plans.write_text(json.dumps(content))
        with pytest.raises(BundleError, match=r"network_class_name names 'nowhere\.Net', which would be imported"):
            run(stray, plans, "CascadeTrainer", output)
        with pytest.raises(DatasetError, match="no network can be built"):
            run(stray, plans, "CascadeTrainer", output, trusted=True)

    @pytest.mark.parametrize(("text", "error", "reason"), BAD_PLANS.values(), ids=BAD_PLANS)
    def test_plans_that_cannot_be_used(self, text, error, reason, stray, plans, output):
        plans.write_text(text(json.loads(plans.read_text())))
        with pytest.raises(error, match=reason):
            run(stray, plans, "CascadeTrainer", output)

    def test_an_output_that_is_no_place_for_a_file(self, stray, plans, output, tmp_path):
        assert output.is_file()
        for wrong in (tmp_path, tmp_path / "nowhere" / "weights.pth"):
            with pytest.raises(SettingsError, match="cannot be written"):
                run(stray, plans, "CascadeTrainer", wrong)

    def test_the_file_itself_is_never_written_over(self, stray, plans):
        before = stray.read_bytes()
        with pytest.raises(SettingsError, match="is where the weights come from"):
            run(stray, plans, "CascadeTrainer", stray.parent / "mine" / ".." / stray.name)
        assert stray.read_bytes() == before
