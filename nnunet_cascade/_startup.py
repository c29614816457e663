"""Let nnU-Net find our trainers: runs at every interpreter start, so it imports `os` and nothing else."""

import os

VARIABLE = "nnUNet_extTrainer"
"""Where nnU-Net looks for trainers that are not its own: folders joined by `os.pathsep`, read when used."""


def plugin_folder() -> str:
    """Return the folder whose modules nnU-Net is to import."""
    # pathlib would cost every interpreter start more than all the rest
    return os.path.join(os.path.dirname(__file__), "plugin")  # noqa: PTH118, PTH120


def register() -> None:
    """Append our plug-in folder to `nnUNet_extTrainer` in this process.

    The user's own folders stay, and come first. Does nothing where ours is
    listed already. Where the variable is missing or empty, ours is the only one.
    """
    listed = os.environ.get(VARIABLE, "")
    folder = plugin_folder()
    if folder not in listed.split(os.pathsep):
        os.environ[VARIABLE] = f"{listed}{os.pathsep}{folder}" if listed else folder
