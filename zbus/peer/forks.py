"""Who must be told that this process is a fork: its sockets and threads are its parent's (P21).

Rules: whoever is told here is not kept alive by it, and hears of a fork in the child only, before
``os.fork`` returns there.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["Forked", "tell_of_forks"]


class Forked(Protocol):
    """What cannot be used after a fork."""

    def disown(self) -> None:
        """This process is a fork: touch nothing that is the parent's, and say so."""


_told: weakref.WeakSet[Forked] = weakref.WeakSet()


def tell_of_forks(whom: Forked) -> None:
    """Call its ``disown`` in every fork of this process, for as long as it lives."""
    _told.add(whom)


def _tell() -> None:
    for whom in list(_told):
        whom.disown()


os.register_at_fork(after_in_child=_tell)
