"""Triton's interpreter, made quick enough for tests."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from unittest import mock

import numpy as np

from fastconv.testing import triton_rows


@contextlib.contextmanager
def quick_interpreter() -> Iterator[None]:
    """Without its check of every addition for overflow, which triples its time, and without putting
    its own functions in the place of Triton's anew at each call of a function in a kernel, which on
    small tiles doubles it: a launch does, and here what Triton's library is made of.
    """
    from triton.language import standard
    from triton.runtime import interpreter

    if triton_rows.DEVICE == "cuda":
        yield
        return
    builder, function = interpreter.interpreter_builder, interpreter.InterpretedFunction
    options = dataclasses.replace(builder.options, sanitize_overflow=False)
    replaced = interpreter._patch_lang(standard.cdiv.fn)
    with (
        mock.patch.object(builder, "options", options),
        mock.patch.object(
            function, "__call__", lambda self, *given, **named: self.rewrite()(*given, **named)
        ),
        np.errstate(invalid="ignore"),  # lanes past the end compute, and store nothing
    ):
        yield
    replaced.restore()
