"""Tables and progress for people, by rich: whole lines and no colour where no terminal is."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

__all__ = ["Blocks", "loss", "plain", "progress", "show", "table"]

#: What stands one below the other, an empty line between.
Blocks = list[RenderableType]
#: Wider than any table: what is not a terminal gets every column whole.
_WHOLE = 100_000


def table(header: Iterable[str], body: Iterable[Iterable[str | Text]], left: int = 1) -> Table:
    """Columns as wide as their widest cell; the first ``left`` flush left."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for number, name in enumerate(header):
        if number < left:
            made.add_column(name, overflow="fold")
        else:
            made.add_column(name, justify="right", no_wrap=True)
    for cells in body:
        made.add_row(*cells)
    return made


def loss(text: str, is_one: bool) -> Text:
    """A cell that stands out where it says a loss."""
    return Text(text, style="bold red" if is_one else "")


def plain(blocks: Blocks) -> str:
    """The blocks as text for a file: no colour, no line broken or padded, no box characters."""
    target = io.StringIO()
    console = Console(file=target, width=_WHOLE, color_system=None, highlight=False, markup=False)
    for number, block in enumerate(blocks):
        if number:
            console.print()
        console.print(block, soft_wrap=isinstance(block, str))
    text = target.getvalue().replace("─", "-")  # a table's rule, for whatever reads ASCII alone
    return "\n".join(line.rstrip() for line in text.splitlines())


def show(blocks: Blocks, file: TextIO | None = None) -> None:
    """Prints the blocks, to stdout by default."""
    file = file or sys.stdout
    if not file.isatty():
        print(plain(blocks), file=file)
        return
    console = Console(file=file, highlight=False, markup=False)
    for number, block in enumerate(blocks):
        if number:
            console.print()
        console.print(block)


@contextlib.contextmanager
def progress(total: int, file: TextIO | None = None) -> Iterator[Callable[[str], None]]:
    """A bar on stderr while the body runs; elsewhere than on a terminal a line for each tenth.

    Yields:
        What is called with the name of each of ``total`` things before it is done.
    """
    file = file or sys.stderr
    if not file.isatty():
        yield _lines(total, file)
        return
    bar = Progress(
        TextColumn("{task.description:<34.34}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), console=Console(file=file), transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("", total=total)
        begun = 0

        def step(name: str) -> None:
            nonlocal begun
            bar.update(task, description=name, completed=begun)
            begun += 1

        yield step


def _lines(total: int, file: TextIO) -> Callable[[str], None]:
    done = 0

    def step(name: str) -> None:
        nonlocal done
        if done * 10 // max(total, 1) != (done - 1) * 10 // max(total, 1):
            print(f"{done}/{total} {name}", file=file, flush=True)
        done += 1

    return step
