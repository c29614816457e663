"""Files that run code when they are read as nnU-Net reads them: each leaves a canary."""

import json
import os
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch


class TouchesCanary:
    """What unpickles by making a folder."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


class RunsShell(TouchesCanary, dict):
    """What looks like a dictionary of weights and asks the shell."""

    def __reduce__(self):
        return os.system, (f"mkdir '{self.canary}'",)


class Evaluates(TouchesCanary):
    def __reduce__(self):
        return eval, (f"__import__('os').mkdir({str(self.canary)!r})",)


EVIL = (TouchesCanary, RunsShell, Evaluates)

TRAINER = """
import pathlib
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

pathlib.Path({canary!r}).mkdir(exist_ok=True)


class TheirTrainer(nnUNetTrainer):
    pass
"""


def poison_checkpoint(path, canary, *, kind=TouchesCanary, key="logging"):
    """Put an object that runs code into a checkpoint, the rest of which is honest."""
    torch.save({**torch.load(path, weights_only=False), key: kind(canary)}, path)


def change_json(path, change):
    """Change a JSON file by a function of its content."""
    content = json.loads(Path(path).read_text())
    change(content)
    Path(path).write_text(json.dumps(content))


def change_configuration(folder, change):
    """Change the one configuration of a model's plans."""
    change_json(folder / "plans.json", lambda plans: change(plans["configurations"]["3d_fullres"]))


def rename_trainer(folder, name):
    """Let every checkpoint of a model name another trainer."""
    for path in folder.glob("fold_*/*.pth"):
        torch.save({**torch.load(path, weights_only=False), "trainer_name": name}, path)


def write_trainer(folder, canary):
    """Write a trainer of a third party's, which leaves a canary when its module is imported."""
    folder.mkdir()
    (folder / "their_trainer.py").write_text(TRAINER.format(canary=str(canary)))


NESTED = "[" * 200_000


def hide_in_checkpoint(path, secret):
    """Put words into a checkpoint wherever PyTorch keeps what is no weight."""
    content = torch.load(path, weights_only=False)
    weights = OrderedDict(content["network_weights"])
    first, second = list(weights)[:2]
    shape, address = weights[first].shape, weights[first].data_ptr()
    around = torch.frombuffer(bytearray(secret * 4000), dtype=torch.float32)
    view = torch.cat([weights[first].flatten(), around])[: shape.numel()].view(shape)
    weights.update({name: view for name, value in weights.items() if value.data_ptr() == address})
    weights[second] = torch.nn.Parameter(weights[second])
    weights[second].origin = secret.decode()
    weights.source = secret.decode()
    torch.save({**content, "network_weights": weights, "extra": secret.decode()}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{path.stem}/data/hidden", secret)
