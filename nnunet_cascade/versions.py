"""Which versions made a result."""

from __future__ import annotations

import platform
from importlib.metadata import version

_PACKAGES = (
    "nnunet-cascade",
    "nnunetv2",
    "torch",
    "numpy",
    "scipy",
    "SimpleITK",
    "connected-components-3d",
    "lungmask",
)


def versions() -> dict[str, str]:
    """Give the versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version(), **{package: version(package) for package in _PACKAGES}}
