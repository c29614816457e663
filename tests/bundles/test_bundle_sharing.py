"""A bundle that goes out says what it is and nothing of this machine; one that comes in is tried before it is there."""

import contextlib
import json
import shutil
import zipfile
from dataclasses import replace

import pytest
import torch
from builders import malicious_files as evil
from builders.malicious_files import NESTED, change_json

from nnunet_cascade.bundles import sharing
from nnunet_cascade.bundles.archive import write_archive
from nnunet_cascade.bundles.bundle import load_cascade, read_spec
from nnunet_cascade.bundles.card import CardFacts
from nnunet_cascade.bundles.manifest import listed, to_manifest
from nnunet_cascade.bundles.sharing import check_bundle, export_bundle, install_bundle
from nnunet_cascade.errors import BundleError, CascadeError, SettingsError

PATHS = [
    "see /home/jane/data", "C:\\Users\\jane", "\\\\server\\share\\x", "~/data/x", "file:///data", "at=/mnt/a/b",
    "host:/home/j/x", "see:/home/j/x", "[/home/j/x]", "`/home/j/x`", "</mnt/p/x>", "{/home/j/x}", "x|/home/j/x",
    "~jane/cases/x", "jane@host:cases/x", "smb://srv/jane/x", "../jane/x", "(D:/x)",
]  # fmt: skip
NO_PATHS = [
    "https://example.org/~jane/a/b", "1/2 of them", "mm/s and/or ml", "3 mm / 5 mm", "~40/50 cases", "<b>x</b></i>",
    "jane@example.org: ask", "https://doi.org/10.1000/182",
]  # fmt: skip
FACTS = CardFacts(license="CC BY 4.0", training_data="four phantoms | of this package")
# nnU-Net warns where its variables are not set, MONAI on import.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def zipped(made):
    """The same as a zip."""
    export_bundle(made, made.with_name("tiny.zip"), FACTS)
    return made.with_name("tiny.zip")


@pytest.fixture
def packed(bundle, tmp_path):
    """Zip the bundle to break with a manifest that says what is in it, as a stranger would."""

    def pack():
        files = {path.relative_to(bundle).as_posix(): path for path in bundle.rglob("*") if path.is_file()}
        manifest = to_manifest({name: listed(path) for name, path in files.items()}, {})
        write_archive(tmp_path / "evil.zip", {**files, "manifest.json": json.dumps(manifest).encode()})
        return tmp_path / "evil.zip"

    return pack


@pytest.fixture
def untried(monkeypatch):
    """Models are not loaded before an export, where it is about texts."""
    monkeypatch.setattr("nnunet_cascade.bundles.sharing.load_cascade", lambda *_, **__: None)


def contents(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def refused(path, target, told):
    """A zip is refused in one line, and nothing is left."""
    before = set(target.parent.iterdir())
    with pytest.raises(BundleError, match=told) as caught:
        install_bundle(path, target)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert set(target.parent.iterdir()) == before


class TestExport:
    def test_the_same_bundle_gives_the_same_bytes_and_the_manifest_says_what_it_is(self, made, zipped, tmp_path):
        export_bundle(shutil.copytree(made, tmp_path / "elsewhere"), tmp_path / "tiny.zip", FACTS)
        assert (tmp_path / "tiny.zip").read_bytes() == zipped.read_bytes()
        inside = contents(zipped)
        manifest = json.loads(inside["manifest.json"])
        assert (manifest["licence"], manifest["training_data"]) == (FACTS.license, FACTS.training_data)
        assert set(manifest["files"]) == set(inside) - {"manifest.json"}
        assert "nnunetv2" in manifest["versions"]

    def test_nothing_of_training_and_of_this_machine_is_inside(self, tiny_cascade, tmp_path):
        """A bundle of an earlier release has the checkpoints as training left them."""
        bundle = shutil.copytree(tiny_cascade.bundle, tmp_path / "b")
        (bundle / "manifest.json").unlink(missing_ok=True)
        path = bundle / "stage2" / "fold_0" / "checkpoint_final.pth"
        content = torch.load(tiny_cascade.model(2) / "fold_0" / path.name, weights_only=False)
        content["init_args"]["dataset_json"]["training"] = ["/home/jane/imagesTr/Jane_Doe.nii.gz"]
        torch.save(content, path)
        change_json(bundle / "stage2" / "dataset.json", lambda d: d.update(training=["/home/jane/Jane_Doe.nii.gz"]))
        cases = {"varying": {"command": ["-m", "/home/jane/b"]}, "cases": {"Jane_Doe": {}}}
        (bundle / "calibration.json").write_text(json.dumps({"temperature": 1.2, **cases}))
        (bundle / "stray.txt").write_text("Jane Doe")
        export_bundle(bundle, tmp_path / "b.zip", FACTS)
        inside = contents(tmp_path / "b.zip")
        assert not any(word in each for each in inside.values() for word in (b"Jane", b"jane", str(tmp_path).encode()))
        assert json.loads(inside["calibration.json"]) == {"temperature": 1.2}

    def test_a_path_in_a_text_is_refused_and_what_is_no_path_is_not(self):
        for text in PATHS:
            with pytest.raises(BundleError, match=r"notes\.txt holds .* a path of a computer; expected none"):
                sharing._require_nothing_of_this_machine({"notes.txt": f"a\n{text}\n".encode()})
        sharing._require_nothing_of_this_machine({"notes.txt": "\n".join(NO_PATHS).encode()})

    @pytest.mark.parametrize(
        ("name", "content", "told"),
        [
            ("notes.txt", "München\n".encode("latin-1"), r"notes\.txt is no text in UTF-8"),
            ("provenance.json", b"{{", r"provenance\.json cannot be read as text or JSON"),
            ("provenance.json", NESTED.encode(), r"provenance\.json cannot be read as text or JSON"),
            ("provenance.json", b" " * (1 << 24) + b"{}", r"provenance\.json is longer than 16777216 bytes"),
            ("calibration.json", b"[]", r"calibration\.json holds list; expected a JSON object"),
            ("provenance.json", b'{"a": "/home/jane/x", "a": [1]}', r"provenance\.json holds '/home/jane/x'"),
        ],
        ids=["latin", "broken", "nested", "long", "list", "a path that is named twice and read once"],
    )
    @pytest.mark.usefixtures("untried")
    def test_broken_texts_are_refused_in_one_line(self, bundle, tmp_path, name, content, told):
        (bundle / name).write_bytes(content)
        with pytest.raises(CascadeError, match=told) as caught:
            export_bundle(bundle, tmp_path / "b.zip", FACTS)
        assert "\n" not in str(caught.value)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]

    def test_lung_masks_of_this_machine_are_refused(self, bundle, tmp_path):
        change_json(bundle / "cascade.json", lambda spec: spec["lungs"].update(kind="folder", path="lungs"))
        with pytest.raises(BundleError, match="a place on one machine"):
            export_bundle(bundle, tmp_path / "b.zip", FACTS)

    def test_a_missing_or_changed_model_is_refused_and_no_file_is_overwritten(self, bundle, made, zipped, tmp_path):
        with pytest.raises(BundleError, match="is there already"):
            export_bundle(made, zipped, FACTS)
        (bundle / "stage2" / "fold_1" / "checkpoint_final.pth").unlink()
        changed = shutil.copytree(made, tmp_path / "changed")
        (changed / "stage2" / "plans.json").write_text((changed / "stage2" / "plans.json").read_text() + "\n")
        for folder, told in ((bundle, "is missing"), (changed, "was changed after the bundle was made")):
            with pytest.raises(BundleError, match=told):
                export_bundle(folder, tmp_path / "b.zip", FACTS)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "changed"]

    def test_licence_and_training_data_have_to_be_said(self):
        for name in ("license", "training_data"):
            with pytest.raises(SettingsError, match=f"{name} is empty"):
                CardFacts(**{"license": "x", "training_data": "y", name: " "})


class TestCard:
    def test_it_says_what_the_bundle_is(self, zipped, tiny_cascade):
        card = contents(zipped)["MODEL_CARD.md"].decode()
        assert card.startswith("# tiny\n\nResearch software, not a medical device.")
        assert "- License: CC BY 4.0\n- Training data: four phantoms | of this package" in card
        assert "- a | note" in card
        crops = len(list((tiny_cascade.roi_raw / "labelsTr").iterdir()))
        assert f"| UncertaintyROITrainer | PlainConvUNet | 6 × 6 × 6 | 16 × 16 × 16 | tumor | {crops} | 2 × 1 |" in card
        assert "None were given." in card
        assert "--trust_checkpoint" not in card

    def test_it_has_the_figures_of_an_evaluation_and_no_case(self, made, tmp_path):
        dice = {"mean": {"value": 0.625, "n": 4, "bca": {"low": 0.5, "high": 0.75}, "percentile": None}}
        recall = {"value": None, "n": 0, "bca": None, "percentile": None}
        methods = {"a|b": {"cases": ["Jane"], "metrics": {"dice": dice}, "pooled": {"lesion_recall": recall}}}
        (tmp_path / "evaluation.json").write_text(json.dumps({"comparison": {"methods": methods}}))
        export_bundle(made, tmp_path / "b.zip", replace(FACTS, figures=tmp_path / "evaluation.json"))
        card = contents(tmp_path / "b.zip")["MODEL_CARD.md"].decode()
        assert "| a\\|b | 0.625 (0.5 … 0.75; n = 4) | – | – | – | – |" in card
        assert "Jane" not in card

    @pytest.mark.parametrize("text", ["", "[]", NESTED, '{"comparison": {}}', '{"comparison": {"methods": {"a": {}}}}'])
    @pytest.mark.usefixtures("untried")
    def test_figures_that_are_none_are_refused(self, made, tmp_path, text):
        (tmp_path / "evaluation.json").write_text(text)
        with pytest.raises(BundleError, match=r"is no evaluation\.json of nnc-evaluate"):
            export_bundle(made, tmp_path / "b.zip", replace(FACTS, figures=tmp_path / "evaluation.json"))


CHECKPOINT = "stage1/fold_0/checkpoint_final.pth"
PLACE = {"kind": "lungmask", "weights": "/etc/passwd"}
HOSTILE = {
    "code in a checkpoint": (
        lambda bundle, canary: evil.poison_checkpoint(bundle / CHECKPOINT, canary, kind=evil.RunsShell),
        r"stage1.fold_0.checkpoint_final\.pth asks for .*system .*--trust_checkpoint",
    ),
    "plans that name a program": (
        lambda bundle, _: evil.change_configuration(
            bundle / "stage2", lambda c: c["architecture"].update(network_class_name="os.system")
        ),
        "stage2: network_class_name names 'os.system'",
    ),
    "settings that name a place": (
        lambda bundle, _: change_json(bundle / "cascade.json", lambda spec: spec["lungs"].update(PLACE)),
        "lungs.weights names '/etc/passwd', a place on one machine",
    ),
    "settings of a newer version": (
        lambda bundle, _: change_json(bundle / "cascade.json", lambda spec: spec.update(version=9)),
        "bundle version 9",
    ),
}
BROKEN = {
    "cascade.json": (None, NESTED.encode(), b"\xff\xfe{}"),
    "stage1/dataset.json": (None, b'{"a":' * 200_000),
    "stage1/plans.json": (NESTED.encode(),),
    "stage2/fold_1/checkpoint_final.pth": (None,),
    "notes.txt": (b"\xff\xfe",),
    "provenance.json": (b"{{{{",),
    "calibration.json": (b"[]",),
}
"""What stands in a file; None: the file is missing."""


class TestInstall:
    def test_checking_leaves_nothing_and_what_was_packed_is_installed_and_loads(self, zipped, tmp_path):
        assert check_bundle(zipped) == read_spec(zipped.with_name("bundle"))
        assert list(tmp_path.iterdir()) == []
        install_bundle(zipped, tmp_path / "b")
        files = [path for path in (tmp_path / "b").rglob("*") if path.is_file()]
        assert {str(path.relative_to(tmp_path / "b")): path.read_bytes() for path in files} == contents(zipped)
        assert [path.name for path in tmp_path.iterdir()] == ["b"]
        assert load_cascade(tmp_path / "b", device=torch.device("cpu")).stage1 is not None

    @pytest.mark.parametrize("kind", ["folder", "link", "dead link"])
    def test_a_target_that_is_there_is_refused(self, zipped, tmp_path, kind):
        folder = tmp_path / ("b" if kind == "folder" else "victim")
        if kind != "dead link":
            folder.mkdir()
        if kind != "folder":
            (tmp_path / "b").symlink_to(folder)
        with pytest.raises(BundleError, match="is there already"):
            install_bundle(zipped, tmp_path / "b")
        assert kind == "dead link" or list(folder.iterdir()) == []

    def test_a_place_that_cannot_be_made_is_refused(self, zipped, made, tmp_path):
        (tmp_path / "file").touch()
        for name in ("none/b", "..", "file/b"):
            with pytest.raises(BundleError, match=r"cannot be made|is there already"):
                install_bundle(zipped, tmp_path / name)
        for act in (lambda place: install_bundle(zipped, place), lambda place: export_bundle(made, place, FACTS)):
            with pytest.raises(BundleError, match="expected a name without a NUL"):
                act(tmp_path / "a\0b")

    @pytest.mark.parametrize(("change", "reason"), HOSTILE.values(), ids=HOSTILE)
    def test_a_hostile_bundle_is_refused(self, bundle, packed, canary, tmp_path, change, reason):
        change(bundle, canary)
        refused(packed(), tmp_path / "b", reason)
        assert not canary.exists()

    @pytest.mark.parametrize(
        ("name", "content"), [(name, each) for name, of in BROKEN.items() for each in of], ids=lambda it: str(it)[:40]
    )
    def test_a_broken_file_or_none_is_refused_by_its_name(self, bundle, packed, tmp_path, name, content):
        (bundle / name).unlink(missing_ok=True)
        if content is not None:
            (bundle / name).write_bytes(content)
        refused(packed(), tmp_path / "b", name.rsplit("/", maxsplit=1)[-1])

    @pytest.mark.parametrize("deep", [100, 400, 900])
    def test_what_is_nested_too_deep_for_a_part_of_the_work_is_taken_or_refused(self, bundle, packed, deep):
        change_json(bundle / "stage1" / "plans.json", lambda plans: plans.update(more=None))
        text = (bundle / "stage1" / "plans.json").read_text()
        (bundle / "stage1" / "plans.json").write_text(text.replace("null}", "[" * deep + "]" * deep + "}"))
        with contextlib.suppress(BundleError):
            check_bundle(packed())

    def test_whatever_else_a_bundle_makes_stumble_is_its_fault(self, zipped, tmp_path, monkeypatch):
        monkeypatch.setattr("nnunet_cascade.bundles.sharing.load_cascade", {}.__getitem__)
        refused(zipped, tmp_path / "b", "TypeError: ")
        with pytest.raises(BundleError, match="TypeError: "):
            check_bundle(zipped)

    def test_an_honest_trainer_of_a_third_party_needs_trust_at_every_step(self, bundle, canary, tmp_path, monkeypatch):
        evil.write_trainer(tmp_path / "theirs", canary)
        monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path / "theirs"))
        evil.rename_trainer(bundle / "stage1", "TheirTrainer")
        with pytest.raises(BundleError, match="TheirTrainer"):
            export_bundle(bundle, tmp_path / "b.zip", FACTS)
        export_bundle(bundle, tmp_path / "b.zip", FACTS, trusted=True)
        assert "was packed with `--trust_checkpoint`" in contents(tmp_path / "b.zip")["MODEL_CARD.md"].decode()
        canary.rmdir()
        refused(tmp_path / "b.zip", tmp_path / "c", "trainer_name names 'TheirTrainer'")
        assert not canary.exists()
        install_bundle(tmp_path / "b.zip", tmp_path / "c", trusted=True)
        assert load_cascade(tmp_path / "c", device=torch.device("cpu"), trusted=True).stage1 is not None
