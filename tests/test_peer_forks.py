"""A fork is told to whoever asked for it, in the child and only there."""

from __future__ import annotations

import gc
import os
import weakref

import pytest

from zbus.peer.forks import Origin


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_p21_a_fork_is_told_in_the_child_only() -> None:
    """Its parent goes on as before."""
    origin = Origin()
    child = os.fork()
    if child == 0:
        os._exit(origin.is_elsewhere)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert not origin.is_elsewhere


def test_who_is_told_is_not_kept_alive() -> None:
    """A closed peer is not kept for the sake of forks."""
    origin = Origin()
    seen = weakref.ref(origin)
    del origin
    gc.collect()
    assert seen() is None
