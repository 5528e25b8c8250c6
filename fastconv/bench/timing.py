"""Interleaved timing: every peer in every round, in turn, so that drift and neighbours touch all
alike.
"""

from __future__ import annotations

import ctypes
import dataclasses
import statistics
import time
from collections.abc import Callable

from fastconv.bench.peers import Call, Peer

#: libgomp's workers spin for about 10 ms after a call, onnxruntime's for about 35: let them park.
PAUSE = {"torch": 0.012, "onnxruntime": 0.040, "ncnn": 0.012}


def keep_freed_memory() -> bool:
    """Makes malloc keep what is freed, for this process; whether it could (glibc's alone can).

    Outputs of megabytes otherwise go back to the system after one call and are faulted in, page by
    page, in the next: up to twice the time of a layer, and charged to whichever peer the heap's
    state happens to hit.
    """
    trim_threshold, mmap_threshold = -1, -3  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # 32 MiB is the largest threshold that glibc takes.
    return bool(mallopt(mmap_threshold, 32 << 20)) and bool(mallopt(trim_threshold, (1 << 31) - 1))


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long one layer is measured: rounds, and per round and peer the seconds of warm-up and of
    timing.

    After ``limit`` seconds no further round begins, except that there are three at least.
    """

    rounds: int = 7
    warm_up: float = 0.004
    slot: float = 0.012
    limit: float = 4.0


QUICK = Effort(rounds=5, warm_up=0.002, slot=0.006, limit=1.5)


@dataclasses.dataclass
class Entry:
    """A peer's call on a layer and its samples in seconds, one a round."""

    peer: Peer
    call: Call
    samples: list[float] = dataclasses.field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def percentile(self, percent: int) -> float:
        ordered = sorted(self.samples)
        return ordered[round((len(ordered) - 1) * percent / 100)]


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


def measure(entries: list[Entry], effort: Effort) -> float:
    """Fills the samples of every entry; the cores that other processes used meanwhile."""
    foreign = busy_elsewhere()
    runtime = None
    begin = time.perf_counter()
    for number in range(effort.rounds):
        if number >= 3 and time.perf_counter() - begin > effort.limit:
            break
        turn = number % len(entries)
        for entry in entries[turn:] + entries[:turn]:
            if runtime not in (None, entry.peer.runtime):
                time.sleep(PAUSE.get(str(runtime), 0.012))
            runtime = entry.peer.runtime
            with entry.peer.scope():
                _repeat(entry.call, 2, effort.warm_up)
                entry.samples.append(_repeat(entry.call, 3, effort.slot))
    return foreign()
