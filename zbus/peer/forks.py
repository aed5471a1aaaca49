"""Where something was made: a fork must not touch its parent's sockets and threads (P21).

Rules: an origin is told of a fork in the child only, before ``os.fork`` returns there, and is not
kept alive for that.
"""

from __future__ import annotations

import os
import weakref

__all__ = ["Origin"]


class Origin:
    """The process where this was made."""

    def __init__(self) -> None:
        self.is_elsewhere = False
        _origins.add(self)

    def leave(self) -> None:
        """This process is a fork: what was made there is not to be touched here."""
        self.is_elsewhere = True


_origins: weakref.WeakSet[Origin] = weakref.WeakSet()


def _tell() -> None:
    for origin in list(_origins):
        origin.leave()


os.register_at_fork(after_in_child=_tell)
