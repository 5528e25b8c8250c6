"""Who is timed after whom, between what pauses, and what is measured again."""

from __future__ import annotations

import collections
import functools
import itertools
import threading
import time

import pytest

from fastconv.bench import conv, peers, timing
from fastconv.problem import ConvProblem

SHORT = timing.Effort(rounds=3, warm_up=0, slot=0, rest=0)


def pairs(order: list[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise(order))


@pytest.mark.parametrize("count", range(2, 9))
def test_each_follows_each_equally_often(count: int) -> None:
    """And over a first few rounds no pair comes more than once oftener than another, up to an odd
    count's mirrored rows.
    """
    square = count * (1 + count % 2)
    orders = list(itertools.islice(timing.orders(count), 3 * square))
    assert all(sorted(order) == list(range(count)) for order in orders)
    for begin in range(0, len(orders), square):
        told = collections.Counter(
            pair for order in orders[begin : begin + square] for pair in pairs(order)
        )
        assert set(told.values()) == {1 + count % 2}
        assert len(told) == count * (count - 1)
    assert orders == list(itertools.islice(timing.orders(count), 3 * square))
    if count > 2:
        assert orders != list(itertools.islice(timing.orders(count, seed=1), 3 * square))


def test_measure_draws_the_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a rotation the first would be followed by the second in each round but one."""
    called: list[str] = []
    entries = [
        timing.Entry(name, "torch", functools.partial(called.append, name)) for name in "abcd"
    ]
    monkeypatch.setattr(timing, "busy_elsewhere", lambda: lambda: 0.0)
    timing.measure(entries, timing.Effort(rounds=4, warm_up=0, slot=0, attempts=1))
    turns = [name for name, _ in itertools.groupby(called)]
    # A peer that ends a round and begins the next makes one group of two.
    followers = collections.Counter(itertools.pairwise(turns))
    assert all(followers[pair] in (1, 2) for pair in itertools.permutations("abcd", 2))
    assert all(len(entry.samples) == 4 for entry in entries)


def waits_for_a_thread_that_spins() -> bool:
    end = time.perf_counter() + 0.1

    def spin() -> None:
        while time.perf_counter() < end:
            sum(range(100))

    thread = threading.Thread(target=spin)
    thread.start()
    timing.park(limit=10)
    waited = time.perf_counter() >= end
    thread.join()
    return waited


def test_parking_waits_for_threads_that_spin() -> None:
    """A thread that a busy machine leaves without a core looks asleep: seldom thrice."""
    assert any(waits_for_a_thread_that_spins() for _ in range(3))


def test_parking_ends_where_threads_never_sleep() -> None:
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(100))

    thread = threading.Thread(target=spin)
    thread.start()
    begin = time.perf_counter()
    timing.park(limit=0.05)
    assert time.perf_counter() - begin >= 0.05
    stop.set()
    thread.join()


def test_runtimes_are_parked_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between peers of different runtimes, and only there."""
    events: list[str] = []
    monkeypatch.setattr(timing, "park", lambda: events.append("park"))
    entries = [
        timing.Entry(name, name[0], functools.partial(events.append, name))
        for name in ("t1", "t2", "o1")
    ]
    timing.measure(entries, timing.Effort(rounds=6, warm_up=0, slot=0, attempts=1))
    told = [name for name, _ in itertools.groupby(events)]
    assert told.pop() == "park"  # what is measured ends with the last one's threads asleep
    for before, after in itertools.pairwise(told):
        assert "park" in (before, after) or before[0] == after[0]
    for before, between, after in zip(told, told[1:], told[2:], strict=False):
        assert between != "park" or before[0] != after[0]


@pytest.mark.parametrize(
    ("foreign", "want"),
    [
        ([0.0, 0.0, 0.0], (0.0, 1)),
        ([0.5, 0.05, 0.0], (0.05, 2)),
        ([0.5, 0.3, 0.4], (0.3, 3)),
    ],
)
def test_a_busy_neighbour_is_waited_out(
    foreign: list[float], want: tuple[float, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least disturbed attempt is kept, with its samples."""
    watched = iter(foreign)
    monkeypatch.setattr(timing, "busy_elsewhere", lambda: functools.partial(next, watched))
    monkeypatch.setattr(timing.Entry, "spread", 1.0)
    ticks = itertools.count(1)
    monkeypatch.setattr(timing, "_repeat", lambda call, least, seconds: float(next(ticks)))
    entries = [timing.Entry(name, "torch", lambda: None) for name in "ab"]
    quality = timing.measure(entries, SHORT)
    assert (quality.foreign_cores, quality.attempts) == want
    kept = foreign.index(quality.foreign_cores)
    # Each attempt takes three rounds of two, each a warm-up and a sample.
    samples = sorted(entries[0].samples + entries[1].samples)
    assert samples == [12.0 * kept + 2 * number for number in range(1, 7)]
    assert (quality.doubt > 1) == (want[0] > timing.FOREIGN_CORES)


def test_an_implausible_spread_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler's slice in some samples, of ours or of the fastest other; a slow third does not
    count.
    """
    monkeypatch.setattr(timing, "busy_elsewhere", lambda: lambda: 0.0)
    times = {
        "ours": [1.0] * 9,
        "fast": [1.0, 8.0, 1.0, 8.0, 8.0] + [1.0] * 5,
        "slow": [2.0, 9.0] * 9,
    }
    entries = [timing.Entry(name, "torch", functools.partial(str, name)) for name in times]
    drawn = {name: iter(values) for name, values in times.items()}

    def repeat(call: timing.Call, at_least: int, seconds: float) -> float:
        return next(drawn[call()]) if at_least == 3 else 0.0

    monkeypatch.setattr(timing, "_repeat", repeat)
    quality = timing.measure(entries, SHORT)
    assert (quality.attempts, quality.spread) == (3, 1.0)
    assert entries[1].samples == [1.0] * 3


@pytest.mark.parametrize("regime", peers.REGIMES)
def test_nothing_is_looked_up_in_a_timed_call(regime: peers.Regime) -> None:
    """Operands and functions are bound beforehand, for all alike: no Python of ours runs in it."""
    operands = conv.PART.operands(ConvProblem(N=1, C=4, H=6, W=6, K=4, R=3, S=3))
    for peer in conv.field("fprop", regime):
        prepared = peer.make(operands, "fprop")
        if not isinstance(prepared, str):
            assert isinstance(prepared.call, functools.partial), peer.name
            assert not prepared.call.keywords
