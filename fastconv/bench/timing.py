"""Interleaved timing: every peer in every round, each after each other equally often, so that
drift, neighbours and what a call leaves behind in the caches touch all alike.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import random
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

Call = Callable[[], Any]
Scope = Callable[[], contextlib.AbstractContextManager[Any]]

#: Above these a measurement is in doubt, and is taken again: the cores that other processes used
#: meanwhile, and the 80th percentile of a peer's samples over the 20th. On a quiet machine 99 of
#: 100 layers stay under 1.2.
FOREIGN_CORES, SPREAD = 0.1, 1.25


def keep_freed_memory() -> bool:
    """Makes malloc keep what is freed, for this process; whether it could (glibc's alone can).

    Outputs of megabytes otherwise go back to the system after one call and are faulted in, page by
    page, in the next: up to twice the time of a layer, and charged to whichever peer the heap's
    state happens to hit.
    """
    trim_threshold, most_mapped = -1, -4  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # No block by a mapping of its own, however large: a threshold of more than 32 MiB glibc does not take.
    return bool(mallopt(most_mapped, 0)) and bool(mallopt(trim_threshold, (1 << 31) - 1))


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long one layer is measured: rounds, and per round and peer the seconds of warm-up and of
    timing.

    After ``limit`` seconds no further round begins, except that there are three at least. A
    measurement in doubt is taken again after ``rest`` seconds, until there are ``attempts``, or
    until as many times ``limit`` have passed.
    """

    rounds: int = 7
    warm_up: float = 0.004
    slot: float = 0.012
    limit: float = 4.0
    attempts: int = 3
    rest: float = 0.5


QUICK = Effort(rounds=5, warm_up=0.002, slot=0.006, limit=1.5, rest=0.2)


@dataclasses.dataclass
class Entry:
    """A peer's call on a layer and its samples in seconds, one a round.

    Attributes:
        runtime: whose worker threads run the call.
        scope: entered around the calls, not timed.
        keeps: what must live as long as the call.
    """

    name: str
    runtime: str
    call: Call
    scope: Scope = contextlib.nullcontext
    keeps: Any = None
    samples: list[float] = dataclasses.field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def percentile(self, percent: int) -> float:
        ordered = sorted(self.samples)
        return ordered[round((len(ordered) - 1) * percent / 100)]

    @property
    def spread(self) -> float:
        return self.percentile(80) / self.percentile(20)


@dataclasses.dataclass(frozen=True)
class Quality:
    """What is known against a measurement: the cores that other processes used, the samples'
    spread, and how many attempts it took.
    """

    foreign_cores: float
    spread: float
    attempts: int = 1

    @property
    def doubt(self) -> float:
        """Above 1: to be taken again."""
        return max(self.foreign_cores / FOREIGN_CORES, (self.spread - 1) / (SPREAD - 1))


def orders(count: int, seed: int = 0) -> Iterator[list[int]]:
    """Endless orders of ``range(count)``, seeded.

    Rows of Williams' square with its numbers and rows drawn anew each time: in the ``count`` rows
    of a square (twice that for an odd count) every number directly follows every other equally
    often. A rotation would keep each one's predecessor.
    """
    draw = random.Random(seed)
    zigzag = [i // 2 if i % 2 == 0 else count - 1 - i // 2 for i in range(count)]
    rows = [[(place + shift) % count for place in zigzag] for shift in range(count)]
    if count % 2:
        rows += [row[::-1] for row in rows]
    while True:
        names = draw.sample(range(count), count)
        for row in draw.sample(rows, len(rows)):
            yield [names[place] for place in row]


def park(limit: float = 0.25, step: float = 0.002) -> None:
    """Waits until this process's threads sleep, but no longer than ``limit``.

    Worker threads spin for a while after a call: libgomp's for 10 ms, ncnn's for 20, ONNX Runtime's
    for 35 and more on a busy machine. As long as they do, the process's CPU time goes on.
    """
    begin = wall = time.perf_counter()
    quiet = 0
    while quiet < 2 and wall - begin < limit:
        spent, before = time.process_time(), wall
        time.sleep(step)
        wall = time.perf_counter()
        quiet = quiet + 1 if time.process_time() - spent < 0.2 * (wall - before) else 0


def _repeat(call: Call, at_least: int, seconds: float) -> float:
    """Mean seconds of one call over at least so many calls and so long."""
    begin = time.perf_counter()
    calls = 0
    while True:
        call()
        calls += 1
        elapsed = time.perf_counter() - begin
        if calls >= at_least and elapsed >= seconds:
            return elapsed / calls


def busy_elsewhere() -> Callable[[], float]:
    """Starts a watch; the returned function gives the cores that other processes used since. 0
    where unknown.
    """

    def machine() -> float:
        try:
            with open("/proc/stat", encoding="ascii") as file:
                fields = [int(word) for word in file.readline().split()[1:9]]
        except (OSError, ValueError):
            return 0.0
        return (sum(fields) - fields[3] - fields[4]) / 100

    wall, own, all_of_it = time.perf_counter(), time.process_time(), machine()

    def cores() -> float:
        elapsed = time.perf_counter() - wall
        foreign = (machine() - all_of_it) - (time.process_time() - own)
        return max(0.0, foreign / elapsed) if all_of_it and elapsed > 0 else 0.0

    return cores


def _attempt(entries: list[Entry], effort: Effort, seed: int) -> Quality:
    """Fills the samples of every entry anew."""
    foreign = busy_elsewhere()
    for entry in entries:
        entry.samples = []
    runtime = None
    begin = time.perf_counter()
    for number, order in zip(range(effort.rounds), orders(len(entries), seed), strict=False):
        if number >= 3 and time.perf_counter() - begin > effort.limit:
            break
        for entry in (entries[place] for place in order):
            if runtime not in (None, entry.runtime):
                park()
            runtime = entry.runtime
            with entry.scope():
                _repeat(entry.call, 2, effort.warm_up)
                entry.samples.append(_repeat(entry.call, 3, effort.slot))
    park()
    # The first entry and the fastest of the others make the ratio: it is they who must be steady.
    ours, *others = entries
    told = [ours, *sorted(others, key=lambda entry: entry.median)[:1]]
    return Quality(foreign(), max(entry.spread for entry in told))


def measure(entries: list[Entry], effort: Effort) -> Quality:
    """Fills the samples of every entry: of the attempt that least is known against."""
    best: Quality | None = None
    kept: list[list[float]] = []
    attempts, end = 0, time.perf_counter() + effort.attempts * effort.limit
    while attempts < effort.attempts and (best is None or best.doubt > 1):
        if attempts:
            if time.perf_counter() > end:
                break
            time.sleep(effort.rest)
        quality = _attempt(entries, effort, seed=attempts)
        attempts += 1
        if best is None or quality.doubt < best.doubt:
            best, kept = quality, [entry.samples for entry in entries]
    assert best is not None
    for entry, samples in zip(entries, kept, strict=True):
        entry.samples = samples
    return dataclasses.replace(best, attempts=attempts)
