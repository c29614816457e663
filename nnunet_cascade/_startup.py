"""Register our trainers with nnU-Net, which looks for them in the folders of an environment variable.

`startup/pth.txt` does the same at every interpreter start without importing anything of this package.
"""

import os

VARIABLE = "nnUNet_extTrainer"
"""Folders of trainers, joined by `os.pathsep`; nnU-Net reads it when it needs a trainer."""
SWITCH = "NNC_NO_PLUGIN"
"""Any value turns the registration at interpreter start off; our own commands register in their own processes."""


def plugin_folder() -> str:
    """Return the folder whose modules nnU-Net imports."""
    # pathlib would cost every interpreter start more than all the rest
    return os.path.join(os.path.dirname(__file__), "plugin")  # noqa: PTH118, PTH120


def register() -> None:
    """Append our folder to `nnUNet_extTrainer` in this process and its children.

    The user's own folders stay and come first. A folder that is already listed is not listed again.
    """
    listed = os.environ.get(VARIABLE, "")
    folder = plugin_folder()
    if folder not in listed.split(os.pathsep):
        os.environ[VARIABLE] = f"{listed}{os.pathsep}{folder}" if listed else folder


def start() -> None:
    """Register at interpreter start, unless the user switched that off; Python 3.15 and later call it."""
    if not os.environ.get(SWITCH):
        register()
