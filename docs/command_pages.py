"""A directive that describes a command by its own parser: `{command} nnc-plan`."""

from __future__ import annotations

import argparse
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_WIDTH = 86


def parser_of(command: str) -> argparse.ArgumentParser:
    """Give the parser of an installed command.

    Raises:
        ValueError: No such command is installed.
    """
    found = list(entry_points(group="console_scripts", name=command))
    if not found:
        raise ValueError(f"no command {command!r} is installed; found a page that describes it; install this package")
    parser: argparse.ArgumentParser = import_module(found[0].module).build_parser()
    return parser


class CommandDirective(SphinxDirective):
    """What `-h` prints, as a page: the words as they are, nothing in them taken for markup."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Give description, usage and options."""
        try:
            parser = parser_of(self.arguments[0])
        except (ValueError, ImportError) as error:
            raise self.error(str(error)) from error
        # The width of the terminal in which the site is built is no part of it.
        kind: Any = parser.formatter_class
        parser.formatter_class = partial(kind, width=_WIDTH)
        usage = parser.format_usage()
        shown = nodes.literal_block(usage, usage, language="text")
        return [nodes.paragraph(text=parser.description or ""), shown, *_options(parser)]


def _options(parser: argparse.ArgumentParser) -> list[nodes.Node]:
    formatter = parser._get_formatter()  # noqa: SLF001 - argparse gives a single option's words no other way
    listed = nodes.definition_list(classes=["options"])
    for action in parser._actions:  # noqa: SLF001
        if action.help == argparse.SUPPRESS or action.dest == "help":
            continue
        names = formatter._format_action_invocation(action)  # noqa: SLF001
        said = formatter._expand_help(action) if action.help else ""  # noqa: SLF001
        required = " Required." if action.required and action.option_strings else ""
        term = nodes.term("", "", nodes.literal(text=names))
        meaning = nodes.definition("", nodes.paragraph(text=f"{said[:1].upper()}{said[1:]}.{required}"))
        listed += nodes.definition_list_item("", term, meaning)
    return [listed]


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("command", CommandDirective)
    return {"parallel_read_safe": True}
