"""What stands in every result: which versions made it, and what it is not."""

from __future__ import annotations

import platform
from importlib.metadata import version

NOTICE = "Research software, not a medical device. Do not use it for diagnosis or treatment."
PACKAGES = (
    "nnunet-cascade",
    "nnunetv2",
    "torch",
    "numpy",
    "scipy",
    "monai",
    "SimpleITK",
    "pydicom",
    "connected-components-3d",
    "lungmask",
)

__version__ = version("nnunet-cascade")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
