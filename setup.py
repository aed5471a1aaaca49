"""Builds the package: pure Python, or with ZBUS_COMPILE=1 with the message's way compiled.

Rules:

* The source is the same, and the pure build is the one that everything is written and tested
  for first; the compiled one passes the same tests (``tools/compiled``).
* Compiled is what a message passes on its way: the machines, the turn, the link and who turns it.
  Not the rooms where types are only words (bodies, arguments, settings), where the compiler's
  checks would come before ours, and nothing would be gained.
* Not the bell: a signal's handler runs where Python is interpreted, and every sleep is there.
* What it gains stands in docs/benchmarks.md.
"""

from __future__ import annotations

import os
from pathlib import Path

from setuptools import Extension, setup

MACHINES = Path("zbus/protocol")
TABLES = ("__init__", "effect", "limits", "message")
"""Rooms of the machines that only say what there is."""
ROOMS = """
    transport.sockets transport.turn
    peer.call peer.driver peer.link peer.pace peer.pool peer.quick peer.reports peer.slot
    broker.daemon broker.life
"""


def rooms() -> list[str]:
    """The files to compile."""
    machines = [str(path) for path in MACHINES.glob("*.py") if path.stem not in TABLES]
    return sorted(machines) + [f"zbus/{room.replace('.', '/')}.py" for room in ROOMS.split()]


def extensions() -> list[Extension]:
    """None, unless they are asked for."""
    if os.environ.get("ZBUS_COMPILE", "0") != "1":
        return []
    from mypyc.build import mypycify

    return mypycify(["--ignore-missing-imports", *rooms()], opt_level="3", debug_level="1")


setup(ext_modules=extensions())
