"""A broker gives memory back after peers have come or gone, and at no other time."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from itertools import pairwise

import pytest

from zbus.broker.heap import Heap

HOLES = """
import ctypes
from zbus.broker.heap import Heap

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = libc.free.argtypes = None
blocks = [libc.malloc(ctypes.c_size_t(65_536)) for _ in range(1_000)]
for block in blocks:
    ctypes.memset(block, 1, 65_536)
for block in blocks[:-1]:
    libc.free(ctypes.c_void_p(block))

def resident_kib():
    with open("/proc/self/status") as status:
        return int(status.read().partition("VmRSS:")[2].split()[0])

before = resident_kib()
heap = Heap()
heap.look(1, 0.0)
heap.look(1, 2.0)
print(before - resident_kib())
"""


def trims_of(*looks: tuple[int, float]) -> list[float]:
    """At which of these looks, of the changes until then and the time, the heap was trimmed."""
    trims: list[None] = []
    heap, told = Heap(lambda: trims.append(None)), []
    for changes, now in looks:
        before = len(trims)
        heap.look(changes, now)
        told += [now] * (len(trims) - before)
    return told


def test_nothing_is_trimmed_while_nobody_comes_or_goes() -> None:
    """A broker whose peers stay is left alone, for ever."""
    assert trims_of(*((0, float(second)) for second in range(100))) == []
    assert trims_of((7, 0.0), *((7, second / 2) for second in range(1, 100))) == [2.0]


def test_a_storm_is_trimmed_now_and_then_and_once_after_it() -> None:
    """Not at every look, and never before two seconds are over."""
    storm = [(tick, tick / 2) for tick in range(1, 21)]
    calm = [(20, tick / 2) for tick in range(21, 60)]
    told = trims_of(*storm, *calm)
    assert 3 <= len(told) <= 6
    assert all(later - earlier >= 2.0 for earlier, later in pairwise(told))
    assert 10.0 <= told[-1] <= 12.5


def test_memory_between_what_is_used_goes_back_to_the_system() -> None:
    """64 MB that were freed below one block that is used: most of it is gone from the process."""
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("this C library cannot be told to give memory back")
    done = subprocess.run(
        [sys.executable, "-c", HOLES], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) > 48_000


def test_a_c_library_without_the_call_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is raised, and nothing happens."""
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    heap = Heap()
    heap.look(1, 0.0)
    heap.look(1, 10.0)
