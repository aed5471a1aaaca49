"""Who is in a pool of handlers: its threads, and what is put before them.

Rules: a hand is one thread, a worker of the pool or whoever was adopted by it; what stands in the
queue is a handler with its call, or a mark.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from typing import TypeAlias

from zbus.peer.call import Call
from zbus.peer.dispatcher import Handler

__all__ = ["Hand", "Mark", "Task", "new_worker"]


class Hand:
    """A thread that runs handlers; ``has_turn`` while it is at pushes."""

    __slots__ = ("has_turn", "thread")

    def __init__(self) -> None:
        self.has_turn = False
        self.thread = threading.current_thread()


class Mark(enum.Enum):
    """What stands in the queue beside requests."""

    TURN = 1
    END = 2


Task: TypeAlias = tuple[Handler, Call] | Mark


def new_worker(name: str, work: Callable[[Hand], None]) -> Hand:
    """A hand whose thread, once started, does this work."""
    hand = Hand()
    hand.thread = threading.Thread(target=work, args=(hand,), name=name, daemon=True)
    return hand
