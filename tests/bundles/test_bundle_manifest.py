"""What a manifest says of a bundle's files, and what becomes of a bundle whose files are others."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from builders.malicious_files import change_json

from nnunet_cascade.bundles.bundle import load_cascade, make_bundle, model_files, read_spec
from nnunet_cascade.bundles.manifest import (
    ListedFile,
    file_checksums,
    parsed_manifest,
    require_unchanged,
    write_manifest,
)
from nnunet_cascade.errors import BundleError, SettingsError
from nnunet_cascade.files import sha256_of

CPU = torch.device("cpu")
OURS = '{"format": "nnunet-cascade bundle", "format_version": '
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
# nnU-Net warns where its variables are not set, MONAI on import.
pytestmark = pytest.mark.filterwarnings("ignore")


class TestFolder:
    def test_every_file_is_listed_with_length_and_checksum_and_so_where_checkpoints_come_from(self, made, tiny_cascade):
        manifest = json.loads((made / "manifest.json").read_text())
        files = parsed_manifest((made / "manifest.json").read_bytes(), where="it")
        there = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
        assert (manifest["format"], manifest["format_version"]) == ("nnunet-cascade bundle", 1)
        assert set(files) == there - {"manifest.json"}
        for name, file in files.items():
            assert (file.bytes, file.sha256) == ((made / name).stat().st_size, sha256_of(made / name))
        packed = json.loads((made / "provenance.json").read_text())["packed_from"]
        name = "fold_1/checkpoint_final.pth"
        assert packed[f"stage2/{name}"] == sha256_of(tiny_cascade.model(2) / name)
        assert len(packed) == 4

    def test_lists_of_images_are_not_packed(self, tiny_cascade, tmp_path):
        model = shutil.copytree(tiny_cascade.model(1), tmp_path / tiny_cascade.model(1).name)
        content = json.loads((model / "dataset.json").read_text())
        secret = {"training": [{"image": "./imagesTr/Jane_Doe.nii.gz"}], "dataset": {"Jane_Doe": {}}}
        change_json(model / "dataset.json", lambda dataset: dataset.update(secret))
        spec = read_spec(tiny_cascade.bundle)
        make_bundle(tmp_path / "b", stage1=model, stage2=tiny_cascade.model(2), spec=spec)
        packed = json.loads((tmp_path / "b" / "stage1" / "dataset.json").read_text())
        assert packed["labels"] == content["labels"]
        assert not packed.keys() & secret.keys()

    @pytest.mark.parametrize("name", ["stage2/plans.json", "stage1/fold_1/checkpoint_final.pth"])
    def test_a_changed_file_of_a_model_is_refused_before_it_is_read(self, made, tmp_path, name):
        folder = shutil.copytree(made, tmp_path / "b")
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        for act in (require_unchanged, lambda folder: load_cascade(folder, device=CPU)):
            with pytest.raises(BundleError, match=f"{name} was changed after the bundle was made"):
                act(folder)

    def test_settings_may_change_and_a_stage_that_is_not_used_is_not_asked(self, made, tmp_path):
        folder = shutil.copytree(made, tmp_path / "b")
        change_json(folder / "cascade.json", lambda spec: spec["stage2"].update(temperature=1.5))
        require_unchanged(folder)
        assert load_cascade(folder, device=CPU).spec.stage2.temperature == 1.5
        (folder / "stage1" / "plans.json").write_text("{}")
        assert load_cascade(folder, device=CPU, with_stage1=False).stage1 is None

    def test_checksums_that_were_taken_elsewhere_are_enough(self, made):
        checksums = file_checksums(made, model_files(read_spec(made)))
        require_unchanged(made, checksums)
        with pytest.raises(BundleError, match="was changed"):
            require_unchanged(made, {**checksums, "stage2/plans.json": EMPTY})
        with pytest.raises(BundleError, match=r"stage2/fold_7/new\.pth is not in its manifest\.json"):
            require_unchanged(made, {"stage2/fold_7/new.pth": EMPTY})

    def test_a_missing_file_is_named_unless_there_is_no_manifest(self, tmp_path):
        (tmp_path / "stage1").mkdir()
        (tmp_path / "stage1" / "plans.json").write_text("{}")
        write_manifest(tmp_path, {"versions": {}})
        (tmp_path / "stage1" / "plans.json").unlink()
        with pytest.raises(BundleError, match=r"plans\.json is missing"):
            require_unchanged(tmp_path)
        (tmp_path / "manifest.json").unlink()
        require_unchanged(tmp_path)

    def test_settings_and_checksums_are_read_without_pytorch(self):
        imports = "import sys, nnunet_cascade.bundles.bundle, nnunet_cascade.bundles.archive"
        code = f"{imports}; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestParsing:
    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("", "is not JSON"),
            ("[" * 100_000, "is not JSON"),
            ("[]", "is no manifest of a bundle"),
            ('{"format": "zip"}', "is no manifest of a bundle"),
            (f"{OURS}2}}", "format version 2; this release reads version 1; install the release"),
            (f"{OURS}1}}", "lists files as none does"),
            (f'{OURS}1, "files": {{"a": {{}}}}}}', "lists files as none does"),
            (f'{OURS}1, "files": {{"a": 3}}}}', "lists files as none does"),
            (f'{OURS}1, "files": {{"a": {{"b\\nc": 1}}}}}}', "lists files as none does"),
        ],
    )
    def test_what_is_no_manifest_is_refused_in_one_line(self, text, told):
        with pytest.raises(BundleError, match=told) as caught:
            parsed_manifest(text, where="it")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("values", [{"bytes": -1}, {"bytes": 1.0}, {"sha256": EMPTY.upper()}, {"sha256": 3}])
    def test_lengths_and_checksums_are_checked(self, values):
        with pytest.raises(SettingsError, match=next(iter(values))):
            ListedFile(**{"bytes": 0, "sha256": EMPTY, **values})
