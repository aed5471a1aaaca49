"""A fork is told to whoever asked for it, in the child and only there."""

from __future__ import annotations

import gc
import os
import weakref

import pytest

from zbus.peer.forks import tell_of_forks


class Told:
    def __init__(self) -> None:
        self.disowned = 0

    def disown(self) -> None:
        self.disowned += 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_p21_a_fork_is_told_in_the_child_only() -> None:
    """Its parent goes on as before."""
    told = Told()
    tell_of_forks(told)
    child = os.fork()
    if child == 0:
        os._exit(told.disowned)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert told.disowned == 0


def test_who_is_told_is_not_kept_alive() -> None:
    """A closed peer is not kept for the sake of forks."""
    told = Told()
    tell_of_forks(told)
    seen = weakref.ref(told)
    del told
    gc.collect()
    assert seen() is None
