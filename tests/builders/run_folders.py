"""What runs leave, to be compared."""

import json


def contents(folder):
    """Everything in a folder, hidden files too; JSON without what differs from run to run."""
    return {path.name: content(path) for path in folder.iterdir()}


def content(path):
    if path.suffix != ".json":
        return path.read_bytes()
    return {name: value for name, value in json.loads(path.read_text()).items() if name != "varying"}
