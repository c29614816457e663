"""The documentation site: `make docs`."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

project = "nnunet-cascade"
author = "the authors of nnunet-cascade"
release = version_of("nnunet-cascade")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "nnunet-cascade"
html_show_sphinx = False
html_copy_source = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# Names in docstrings are code; dashes and quotes in options are typed as they are shown.
default_role = "code"
smartquotes = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 100


def shorten_signature(*told: object) -> tuple[str, str | None] | None:
    """Say "..." where a part of the settings has settings of its own: Sphinx cannot parse a factory."""
    signature, returns = told[-2], told[-1]
    if not isinstance(signature, str):
        return None
    return signature.replace("<factory>", "..."), returns if isinstance(returns, str) else None


def setup(app: Sphinx) -> None:
    """Connect what is of this site alone."""
    app.connect("autodoc-process-signature", shorten_signature)
