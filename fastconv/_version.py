"""fastconv's version."""

from __future__ import annotations

import importlib.metadata

__all__ = ["version"]


def version() -> str:
    """fastconv's version; "unknown" where it was not installed."""
    try:
        return importlib.metadata.version("fastconv")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
