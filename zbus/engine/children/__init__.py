"""Engines as child processes: started, watched, aborted with confirmation, and never orphaned.

This is the face of contract section "7", for a parent that starts engines, and of promise P20.
"""

from __future__ import annotations

from zbus.engine.children.abort import Abort, Graces, Step
from zbus.engine.children.child import Ending
from zbus.engine.children.launch import Launch, Restarts
from zbus.engine.children.nursery import Children
from zbus.engine.children.supervised import Supervised
from zbus.peer.handover import Handover, handed_over

__all__ = [
    "Abort",
    "Children",
    "Ending",
    "Graces",
    "Handover",
    "Launch",
    "Restarts",
    "Step",
    "Supervised",
    "handed_over",
]
