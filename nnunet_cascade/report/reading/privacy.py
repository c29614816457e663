"""Texts without the paths in them: folders and DICOM files are often named after patients."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

HIDDEN = "[path]"
_FILE = r"\.(?:nii(?:\.gz)?|dcm|ima|json|npz|zip)"
_BEGIN = r"(?<![\w.<])(?:[A-Za-z]:[\\/]|/|\\\\)"
_ENDS = r":;,()\"'"
_PATH = re.compile(
    rf"{_BEGIN}\S*?{_FILE}(?![\w.])"  # up to a known ending
    rf"|{_BEGIN}[^\n:;()\"']*?{_FILE}(?![\w.])"  # the same with spaces inside
    # a folder, whose name may hold some spaces
    rf"|{_BEGIN}[^\s{_ENDS}]*(?: (?:[^\s/\\{_ENDS}]+ ){{0,2}}[^\s/\\{_ENDS}]*[/\\][^\s{_ENDS}]*)*",
    re.IGNORECASE,
)


def without_paths(text: str, known: Iterable[str | Path] = ()) -> str:
    """Return a text with `[path]` in place of every absolute path.

    Args:
        text: A message, of this package or of another one.
        known: Paths that may stand in it, with whatever spaces, absolute or not; what follows them goes too.
    """
    for path in sorted({str(path) for path in known if len(str(path)) > 1}, key=len, reverse=True):
        if path in text:
            text = re.sub(rf"{re.escape(path)}(?:[/\\][^\n:;,()\"']*?{_FILE}(?![\w.])|[/\\]\S*)?", HIDDEN, text)
    return _PATH.sub(HIDDEN, text)
