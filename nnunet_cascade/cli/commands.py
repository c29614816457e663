"""All commands, by what they are for; `python -m nnunet_cascade` runs each of them by its name."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType

from nnunet_cascade.cli.common import WRONG_USAGE
from nnunet_cascade.versions import NOTICE

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Data": ("nnc-convert-nsclc-radiomics", "nnc-convert-dicom", "nnc-lung-mask"),
    "Training": (
        "nnc-train-cascade",
        "nnc-plan",
        "nnc-roi-dataset",
        "nnc-cross-validate",
        "nnc-import-weights",
    ),
    "Bundles": ("nnc-make-bundle", "nnc-export-bundle", "nnc-install-bundle"),
    "Prediction": ("nnc-cascade-predict", "nnc-anatomy-filter"),
    "Viewing results": ("nnc-report", "nnc-figure", "nnc-export-dicom"),
    "Evaluation": ("nnc-evaluate", "nnc-calibrate", "nnc-reproduce-paper"),
    "Getting started": ("nnc-demo", "nnc-info"),
}
COMMANDS = tuple(name for names in SECTIONS.values() for name in names)


def module_of(command: str) -> ModuleType:
    """Import the module of a command, such as `nnc-plan`; it has `build_parser` and `main`."""
    return import_module(f"nnunet_cascade.cli.{command.removeprefix('nnc-').replace('-', '_')}")


def summary_of(command: str) -> str:
    """Return what a command does, in one sentence."""
    description: str = module_of(command).build_parser().description
    return description.removesuffix(f" {NOTICE}").partition(". ")[0].removesuffix(".")


def usage() -> str:
    """List the commands with what each does."""
    lines = [f"usage: nnc-COMMAND [-h] …, or python -m nnunet_cascade COMMAND [-h] …\n\n{NOTICE}"]
    for title, names in SECTIONS.items():
        lines += [f"\n{title}:", *(f"  {name:<29}{summary_of(name)}" for name in names)]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command by its name, whole or its last words if these name one command; without a name list all."""
    asked, *rest = [*(sys.argv[1:] if argv is None else argv)] or [""]
    if asked in {"", "-h", "--help"}:
        print(usage())
        return 0 if asked else WRONG_USAGE
    found = [name for name in COMMANDS if name == asked or name.endswith(f"-{asked}")]
    if len(found) != 1:
        expected = ", ".join(found or COMMANDS)
        sys.stderr.write(
            f"python -m nnunet_cascade: {asked!r} names {len(found)} commands; expected one of {expected}\n"
        )
        return WRONG_USAGE
    code: int = module_of(found[0]).main(rest)
    return code
