"""The fenced blocks of the pages, and the commands in them."""

import argparse
import re
import shlex
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_BLOCK = re.compile(
    r"^(?:<!-- (?P<kind>not run|run by|run on): (?P<words>[^\n]*?) -->\n)?```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    flags=re.MULTILINE | re.DOTALL,
)
_SHELL_WORDS = {"do", "then", "else", "time"}


@dataclass(frozen=True)
class Snippet:
    """A fenced block: where it stands, what it says, and why it is not run here, if it is not."""

    page: str
    line: int
    language: str
    text: str
    kind: str
    words: str

    @property
    def id(self):
        return f"{self.page}:{self.line}"

    @property
    def is_run(self):
        return not self.kind


def snippets_of(path):
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT).as_posix()
    for found in _BLOCK.finditer(text):
        yield Snippet(
            page=name,
            line=text.count("\n", 0, found.start("language")) + 1,
            language=found["language"],
            text=found["text"],
            kind=found["kind"] or "",
            words=found["words"] or "",
        )


SNIPPETS = [snippet for page in PAGES for snippet in snippets_of(page)]


def command_lines(text):
    """Give the lines of a shell block, continued ones as one, without comments and empty ones."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if shlex.split(line, comments=True)]


def simple_commands(line):
    """Give the words of each command of a shell line, without loops around it and assignments before it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands = [[]]
    for word in lexer:
        if set(word) <= set(lexer.punctuation_chars):
            commands.append([])
        else:
            commands[-1].append(word)
    return [words for command in commands if (words := _without_prefixes(command))]


def _without_prefixes(words):
    if words and words[0] == "for":
        return []
    while words and (words[0] in _SHELL_WORDS or re.match(r"[A-Za-z_]\w*=", words[0])):
        words = words[1:]
    return words


class _ParsedError(Exception):
    """Raised when a parser is through with its arguments."""


def parse_as_its_command(words, monkeypatch):
    """Let a command of ours, or of nnU-Net, parse its arguments, and stop it there.

    Raises:
        SystemExit: It refuses them.
    """
    [entry] = entry_points(group="console_scripts", name=words[0])
    if words[0].startswith("nnc-"):
        import_module(entry.module).build_parser().parse_args(words[1:])
        return
    parse = argparse.ArgumentParser.parse_known_args

    def stop_behind(parser, *arguments, **named):
        _, unknown = parse(parser, *arguments, **named)
        if unknown:
            parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        raise _ParsedError

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", stop_behind)
        patch.setattr("sys.argv", list(words))
        command = entry.load()
        with pytest.raises(_ParsedError):
            command()
