"""Results on disk: a reader sees the old file or the new one, whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["write_json"]


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Puts ``value`` in the place of what is at ``path``; makes the folder."""
    text = json.dumps(value, indent=1) + "\n"
    if path.is_symlink() or (path.exists() and not path.is_file()):  # /dev/stdout, or a pipe
        path.write_text(text, encoding="utf-8")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)
