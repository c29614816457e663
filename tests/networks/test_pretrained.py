"""Weights of other networks: what they are called there, where they belong here, and what is not taken."""

import argparse
import pickle
import re
from collections import OrderedDict

import numpy as np
import pytest
import torch
from builders.malicious_files import TouchesCanary
from builders.small_unets import SMALL_UNETS, UNET
from torch import nn

from nnunet_cascade.errors import WeightsError
from nnunet_cascade.networks.backbones import BACKBONES, BackboneRequest
from nnunet_cascade.networks.dropout import with_dropout
from nnunet_cascade.networks.pretrained import OtherShape, fit_weights, read_weights

UNETS = tuple(SMALL_UNETS.values())
SWIN, VIT, STAGES = ("swinViT.",), ("vit.",), ("encoder.",)
SSL_HEADS = ("norm", "rotation_head", "contrastive_head", "convTrans3d", "conv.0")
HEADS = {f"{name}.weight": torch.ones(4, 5) for name in SSL_HEADS}


def build(name, *, seed=0, side=64, inputs=1, outputs=2):
    torch.manual_seed(seed)
    channels = {"input_channels": inputs, "output_channels": outputs}
    return BACKBONES[name].build(BackboneRequest(**channels, patch_size=(side,) * 3, size="tiny", dropout=0.1))


def unet(kind=UNETS[0], *, seed=0, dropout=0.0, **changed):
    torch.manual_seed(seed)
    kwargs = {**UNET, "input_channels": 1, "num_classes": 2, **kind[1], **changed}
    if dropout:
        kwargs = {**with_dropout(kwargs, probability=dropout, dimensions=3), "dropout_op": nn.Dropout3d}
    return kind[0](**kwargs)


@pytest.fixture(scope="module")
def swin():
    """A trained Swin UNETR, as it were, and a fresh one."""
    return build("swin_unetr", seed=1), build("swin_unetr", seed=2)


def encoder(network, prefix):
    return {name.removeprefix(prefix): value for name, value in network.state_dict().items() if name.startswith(prefix)}


def renamed(weights, pattern, replacement):
    return {re.sub(pattern, replacement, name): value for name, value in weights.items()}


def beginning(weights, prefix):
    return {prefix + name: value for name, value in weights.items()}


def assert_encoder_of(fitted, network, trained, prefix):
    """The encoder is the trained one to the bit, everything else is as the network had it."""
    own, theirs = network.state_dict(), trained.state_dict()
    assert list(fitted.weights) == list(own)
    for name, value in fitted.weights.items():
        assert torch.equal(value, theirs[name] if name.startswith(prefix) else own[name]), name
    assert any(not torch.equal(theirs[name], own[name]) for name in own if name.startswith(prefix))


class TestSwin:
    """The encoder of Swin UNETR under the names that files in the wild have for it."""

    STYLES = {  # noqa: RUF012 - a table
        "model_swinvit.pt": lambda w: {
            "state_dict": beginning(renamed(w, r"mlp\.linear", "mlp.fc") | HEADS, "module.")
        },
        "SSLHead": lambda w: {"state_dict": beginning(w, "swinViT.") | HEADS},
        "SSLHead on GPUs": lambda w: {"state_dict": beginning(beginning(w, "swinViT.") | HEADS, "module.")},
        "ssl_pretrained_weights.pth": lambda w: {
            "model": beginning(renamed(w, r"^(layers\d\.0\.)", r"\g<1>0."), "encoder.")
            | {"encoder.mask_token": torch.ones(1, 12)}
        },
        "backbone of a Lightning module": lambda w: {
            "epoch": 3,
            "state_dict": beginning(w, "model.backbone.") | beginning(HEADS, "model."),
        },
        "compiled": lambda w: beginning(w, "_orig_mod.swin_vit."),
        "bare": OrderedDict,
    }

    def fitted(self, style, swin, path):
        """Write the trained encoder in a style, and fit what is read into the fresh network."""
        torch.save(self.STYLES[style](encoder(swin[0], "swinViT.")), path)
        return fit_weights(read_weights(path), swin[1], encoder=SWIN)

    @pytest.mark.parametrize("style", STYLES)
    def test_every_style_of_names_lands_in_the_encoder(self, style, swin, tmp_path):
        (trained, fresh), fitted = swin, self.fitted(style, swin, tmp_path / "file.pt")
        assert_encoder_of(fitted, fresh, trained, "swinViT.")
        assert set(fitted.taken) == {name for name in fresh.state_dict() if name.startswith("swinViT.")}
        assert set(fitted.left) == set(fresh.state_dict()) - set(fitted.taken)
        assert fitted.of_other_shape == ()

    def test_heads_of_self_supervision_are_reported_and_no_error(self, swin, tmp_path):
        fitted = self.fitted("model_swinvit.pt", swin, tmp_path / "file.pt")
        assert fitted.unused == tuple(f"state_dict.module.{name}.weight" for name in SSL_HEADS)
        assert (fitted.origin, fitted.place) == ("state_dict.module.", "swinViT.")

    def test_a_fine_tuned_network_lands_but_for_its_head(self, swin):
        trained, fresh = build("swin_unetr", seed=1, outputs=14), swin[1]
        fitted = fit_weights(beginning(trained.state_dict(), "state_dict."), fresh, encoder=SWIN)
        assert_encoder_of(fitted, fresh, trained, tuple(name for name in trained.state_dict() if name[:4] != "out."))
        assert fitted.of_other_shape == (
            OtherShape(name="out.conv.conv.weight", found=(14, 12, 1, 1, 1), expected=(2, 12, 1, 1, 1)),
            OtherShape(name="out.conv.conv.bias", found=(14,), expected=(2,)),
        )
        assert fitted.left == fitted.unused == ()

    def test_what_lies_beside_a_renamed_encoder_lands_too(self, swin):
        trained, fresh = swin
        source = renamed(trained.state_dict(), r"^swinViT\.", "encoder.")
        fitted = fit_weights(beginning(source, "net.module."), fresh, encoder=SWIN)
        assert_encoder_of(fitted, fresh, trained, "")
        assert fitted.left == fitted.unused == ()

    @pytest.mark.parametrize(("in_file", "in_network"), [(1, 2), (3, 1)])
    def test_other_input_channels_are_not_taken_but_all_else_is(self, in_file, in_network):
        trained, fresh = build("swin_unetr", inputs=in_file), build("swin_unetr", inputs=in_network)
        fitted = fit_weights(trained.state_dict(), fresh, encoder=SWIN)
        first = [name for name in fresh.state_dict() if name in {each.name for each in fitted.of_other_shape}]
        layers = ("swinViT.patch_embed.proj", "encoder1.layer.conv1.conv", "encoder1.layer.conv3.conv")
        assert first == [f"{layer}.weight" for layer in layers]
        assert torch.equal(fitted.weights[first[0]], fresh.state_dict()[first[0]])
        assert f"12×{in_file}×2×2×2 in the file, 12×{in_network}×2×2×2 in the network" in str(fitted.of_other_shape[0])

    def test_weights_of_another_width_are_refused_though_their_tables_of_positions_fit(self):
        wide = build("swin_unetr", seed=1)
        narrow = {
            name: value[..., : max(1, value.shape[-1] // 2)]
            if value.is_floating_point() and "table" not in name
            else value
            for name, value in encoder(wide, "swinViT.").items()
        }
        with pytest.raises(WeightsError, match=r"in the file.*in the network\); expected .* size$"):
            fit_weights(narrow, build("swin_unetr"), encoder=SWIN)

    def test_copies_of_a_teacher_are_not_mixed_with_the_students(self, swin):
        trained, fresh = swin
        student = encoder(trained, "swinViT.")
        teacher = {name: torch.zeros_like(value) for name, value in student.items()}
        fitted = fit_weights(beginning(student, "student.") | beginning(teacher, "teacher."), fresh, encoder=SWIN)
        assert_encoder_of(fitted, fresh, trained, "swinViT.")
        assert fitted.unused == tuple(beginning(teacher, "teacher."))


class TestUNETR:
    """The ViT of UNETR, whose position embedding belongs to one patch size."""

    def ssl(self, trained):
        extra = {"conv3d_transpose.weight": torch.ones(96, 16, 4, 4, 4), "patch_embedding.cls_token": torch.ones(1, 96)}
        return {"state_dict": encoder(trained, "vit.") | extra}

    def test_a_self_supervised_vit_lands_in_the_encoder_and_another_patch_costs_its_positions_alone(self, tmp_path):
        trained, fresh = build("unetr", seed=1), build("unetr", seed=2)
        torch.save(self.ssl(trained), tmp_path / "vit.pt")
        fitted = fit_weights(read_weights(tmp_path / "vit.pt"), fresh, encoder=VIT)
        assert_encoder_of(fitted, fresh, trained, "vit.")
        assert fitted.unused == ("state_dict.conv3d_transpose.weight", "state_dict.patch_embedding.cls_token")
        fitted = fit_weights(self.ssl(build("unetr", side=96))["state_dict"], fresh, encoder=VIT)
        assert fitted.of_other_shape == (
            OtherShape(name="vit.patch_embedding.position_embeddings", found=(1, 216, 96), expected=(1, 64, 96)),
        )

    def test_a_linear_patch_embedding_becomes_the_same_as_a_convolution(self, monai):
        torch.manual_seed(0)
        make = monai.networks.nets.ViT
        options = {"in_channels": 2, "img_size": 32, "patch_size": 16, "hidden_size": 24, "mlp_dim": 8, "num_heads": 2}
        linear = make(num_layers=1, proj_type="perceptron", **options).eval()
        convolution = make(num_layers=1, proj_type="conv", **options).eval()
        image = torch.randn(1, 2, 32, 32, 32)
        fitted = fit_weights(linear.state_dict(), convolution, encoder=("",))
        convolution.load_state_dict(fitted.weights)
        with torch.inference_mode():
            assert torch.allclose(convolution(image)[0], linear(image)[0], atol=1e-5)
        assert fitted.left == fitted.of_other_shape == fitted.unused == ()


@pytest.mark.parametrize("name", ["segresnet", "attention_unet"])
def test_encoders_in_several_parts_take_a_whole_network_and_the_encoder_alone(name):
    trained, fresh, prefixes = build(name, seed=1), build(name, seed=2), BACKBONES[name].encoder_prefix
    alone = {key: value for key, value in trained.state_dict().items() if key.startswith(prefixes)}
    assert_encoder_of(fit_weights(alone, fresh, encoder=prefixes), fresh, trained, prefixes)
    whole = fit_weights(beginning(trained.state_dict(), "module."), fresh, encoder=prefixes)
    assert_encoder_of(whole, fresh, trained, "")


@pytest.mark.parametrize("kind", UNETS, ids=["plain", "residual"])
class TestUNets:
    """nnU-Net's own networks, which hold every weight under several names."""

    @pytest.mark.parametrize(("before", "after"), [(0.0, 0.2), (0.2, 0.0), (0.2, 0.1)])
    def test_dropout_or_none_the_weights_are_all_taken(self, kind, before, after):
        trained, fresh = unet(kind, seed=1, dropout=before), unet(kind, seed=2, dropout=after)
        fitted = fit_weights(trained.state_dict(), fresh, encoder=STAGES)
        fresh.load_state_dict(fitted.weights, strict=True)
        image = torch.randn(1, 1, 16, 16, 16)
        with torch.inference_mode():
            for found, expected in zip(fresh.eval()(image), trained.eval()(image), strict=True):
                assert torch.equal(found, expected)
        assert fitted.left == fitted.of_other_shape == fitted.unused == ()

    def test_another_number_of_classes_costs_the_heads_alone(self, kind):
        trained, fresh = unet(kind, seed=1, num_classes=5), unet(kind, seed=2)
        fitted = fit_weights(trained.state_dict(), fresh, encoder=STAGES)
        assert_encoder_of(fitted, fresh, trained, tuple(n for n in trained.state_dict() if "seg_layers" not in n))
        assert all(".seg_layers." in each.name for each in fitted.of_other_shape)
        assert len(fitted.of_other_shape) == 2 * 2

    def test_an_encoder_alone_lands_in_the_encoder_and_its_copy_in_the_decoder(self, kind):
        trained, fresh = unet(kind, seed=1), unet(kind, seed=2)
        fitted = fit_weights(encoder(trained, "encoder."), fresh, encoder=STAGES)
        assert_encoder_of(fitted, fresh, trained, ("encoder.", "decoder.encoder."))
        assert all(name.startswith("decoder.") for name in fitted.left)

    def test_a_network_in_two_dimensions_is_refused_though_its_norms_fit(self, kind):
        flat = unet(kind, conv_op=nn.Conv2d, norm_op=nn.InstanceNorm2d).state_dict()
        with pytest.raises(WeightsError, match="3×3 in the file"):
            fit_weights(flat, unet(kind), encoder=STAGES)

    def test_each_weight_is_told_once_and_the_network_and_the_file_are_left_as_they_were(self, kind):
        trained, fresh = unet(kind, seed=1), unet(kind, seed=2)
        before = {name: value.clone() for name, value in fresh.state_dict().items()}
        fitted = fit_weights(trained.state_dict(), fresh, encoder=STAGES)
        assert len(fitted.taken) == len(list(fresh.parameters())) < len(fitted.weights)
        assert fitted.numbers_taken == fitted.numbers == sum(each.numel() for each in fresh.parameters())
        for value in fitted.weights.values():
            value.detach().zero_()
        assert all(bool(value.any()) for name, value in trained.state_dict().items() if name.endswith("conv.weight"))
        fit_weights(trained.state_dict(), fresh, encoder=STAGES)
        assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())


def test_half_precision_becomes_the_networks():
    halves = {name: value.half() for name, value in unet(seed=1).state_dict().items()}
    fitted = fit_weights(halves, unet(), encoder=STAGES)
    assert {value.dtype for value in fitted.weights.values()} == {torch.float32}
    assert torch.equal(fitted.weights[fitted.taken[0]], halves[fitted.taken[0]].float())


def test_networks_of_another_kind_and_a_norm_of_the_right_size_are_refused(swin):
    for network, prefixes in ((build("unetr"), VIT), (build("segresnet"), ("convInit.",)), (unet(), STAGES)):
        with pytest.raises(WeightsError, match=r"^x\.pt: 0% .* fits by name and shape.*expected"):
            fit_weights(encoder(swin[0], "swinViT."), network, encoder=prefixes, where="x.pt")
    stray = {"stage.norm.weight": torch.ones(96), "stage.norm.bias": torch.ones(96)}
    with pytest.raises(WeightsError, match=r"stage\.norm\.weight.*same architecture"):
        fit_weights(stray, build("unetr"), encoder=VIT)


def test_weights_that_are_not_finite_are_refused():
    source = {name: value.clone() for name, value in unet(seed=1).state_dict().items()}
    source["encoder.stages.1.0.convs.0.conv.weight"][0, 0, 0, 0, 0] = torch.nan
    with pytest.raises(WeightsError, match=r"encoder\.stages\.1\.0\.convs\.0\.conv\.weight is not finite"):
        fit_weights(source, unet(), encoder=STAGES)


def test_a_network_without_an_encoder_of_that_name_is_taken_as_a_whole():
    trained, fresh = unet(seed=1), unet(seed=2)
    assert_encoder_of(fit_weights(trained.state_dict(), fresh, encoder=("backbone.",)), fresh, trained, "")


class TestReading:
    def test_optimizers_numbers_and_logs_are_left_out(self, tmp_path):
        content = {
            "network_weights": {"a.weight": torch.ones(2)},
            "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
            "logging": {"losses": [np.float32(1), np.float64(2)], "dice": [[np.float32(0.5)]]},
            "_best_ema": np.float64(0.5),
            "current_epoch": np.int64(4),
            "init_args": {"device": torch.device("cuda"), "fold": 0},
            "inference_allowed_mirroring_axes": (0, 1, 2),
        }
        torch.save(content, tmp_path / "checkpoint.pth")
        assert list(read_weights(tmp_path / "checkpoint.pth")) == ["network_weights.a.weight"]

    def test_code_and_objects_are_refused_by_name_and_not_run(self, tmp_path):
        code, known = TouchesCanary(tmp_path / "made"), argparse.Namespace(lr=1)
        objects = {r"\w+\.mkdir": code, "argparse.Namespace": known, "torch.nn.modules.linear.Linear": nn.Linear(2, 2)}
        for wanted, content in objects.items():
            torch.save({"state_dict": {"a": torch.ones(2)}, "args": content}, tmp_path / "file.pt")
            told = rf"file\.pt asks for {wanted} .*can run any code; .* save its state_dict alone$"
            with pytest.raises(WeightsError, match=told) as refusal:
                read_weights(tmp_path / "file.pt")
            assert "\n" not in str(refusal.value)
        assert not (tmp_path / "made").exists()

    def test_what_is_no_checkpoint_is_refused_in_one_line(self, tmp_path):
        file = tmp_path / "file.pt"
        torch.save({"a": torch.randn(100, 100)}, file)
        half = file.read_bytes()[: file.stat().st_size // 2]
        for content in (b"", b"<html>Too many downloads</html>", pickle.dumps({"a": 1}, protocol=4), half):
            file.write_bytes(content)
            told = r"file\.pt cannot be read as weights .*expected a PyTorch checkpoint, whole$"
            with pytest.raises(WeightsError, match=told) as refusal:
                read_weights(file)
            assert len(str(refusal.value)) < 400
            assert "\n" not in str(refusal.value)
        for name in ("nothing.pt", "."):
            with pytest.raises(WeightsError, match="is no file"):
                read_weights(tmp_path / name)

    def test_a_file_without_named_weights_is_refused_and_a_dictionary_that_holds_itself_ends(self, tmp_path):
        for content in ({}, {"state_dict": {}}, [torch.ones(2)], torch.ones(2), {0: torch.ones(2)}):
            torch.save(content, tmp_path / "file.pt")
            with pytest.raises(WeightsError, match="holds no weights by name"):
                read_weights(tmp_path / "file.pt")
        content = {"a": torch.ones(2)}
        content["again"] = content
        torch.save(content, tmp_path / "file.pt")
        assert list(read_weights(tmp_path / "file.pt")) == ["a"]
