"""Files that appear whole or not at all, whatever interrupts the writing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Write text beside its name, then rename it; line ends stay as they are.

    Raises:
        OSError: The file cannot be written; one that was there before is as it was.
    """
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        beside.write_text(text, encoding="utf-8", newline="")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON as `write_text` writes text; NaN and infinity are refused, for no other program reads them.

    Raises:
        OSError: The file cannot be written.
        ValueError: A number is not finite.
    """
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
