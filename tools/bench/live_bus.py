"""The bus as its users have it: broker and server as processes, a client by ``zbus.connect``.

The handler is a real one, and bodies are encoded and decoded at both ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import zbus

__all__ = ["running", "sequential"]

_START_S = 20.0


@contextmanager
def running(place: Path) -> Iterator[str]:
    """A broker and an echo server below ``place``; the frontend's endpoint."""
    environ = os.environ | {"ZBUS_RUNTIME_DIR": str(place)}
    processes = []
    try:
        for command in (["broker"], ["serve", "echo", "--echo"]):
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "zbus", *command],
                    env=environ,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        endpoint = f"ipc://{place}/frontend"
        with zbus.connect(endpoint, timeout=_START_S) as bus:
            bus.wait_served("echo", timeout=_START_S)
        yield endpoint
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def sequential(
    endpoint: str, body: bytes, *, callers_lead: bool = True
) -> Iterator[Iterator[float]]:
    """An endless iterator of round-trip seconds, one request at a time. Without
    ``callers_lead`` the I/O thread turns the link always, and hands every reply over."""
    with zbus.connect(endpoint) as bus, ExitStack() as stack:
        if not callers_lead:
            # A switch for measuring only, so that it is no option of the library.
            driver = bus._channel._driver
            stack.enter_context(mock.patch.object(driver, "_should_stand_by", return_value=False))
        yield _round_trips(bus, body)


def _round_trips(bus: zbus.Peer, body: bytes) -> Iterator[float]:
    while True:
        began = time.perf_counter()
        bus.request("echo", body, timeout=5.0)
        yield time.perf_counter() - began
