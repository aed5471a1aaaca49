"""Engines by name, many in one process: ``python -m processes.herd ENDPOINT NAME COUNT``.

Each is called ``NAME-1`` to ``NAME-COUNT`` and answers ``size`` with the length of what came. Its
process says ``attached`` once all are, and lives until it is killed.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

import zbus


def _size(body: Any) -> int:
    return len(body)


def main() -> None:
    """Attach them all, and wait."""
    endpoint, name, count = sys.argv[1:]
    peers = []
    for number in range(1, int(count) + 1):
        dispatcher = zbus.Dispatcher()
        dispatcher.add("size", _size)
        peers.append(zbus.connect(endpoint, f"{name}-{number}", dispatcher=dispatcher))
    print("attached", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
