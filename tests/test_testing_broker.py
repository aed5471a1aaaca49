"""The broker of the fixture is a real one, and leaves nothing behind."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import zbus
from zbus.testing.broker import BrokerThread

pytestmark = pytest.mark.real


def test_it_serves_until_it_is_stopped() -> None:
    """Engines and servers attach over ipc; a second stop does nothing."""
    dispatcher = zbus.Dispatcher()
    dispatcher.add("echo", lambda body: body)
    broker = BrokerThread().start()
    try:
        server = zbus.connect(broker.backend, dispatcher=dispatcher, role="server")
        with server, zbus.connect(broker.frontend) as bus:
            assert bus.request("echo", {"a": 1}, timeout=10.0) == {"a": 1}
    finally:
        broker.stop()
        broker.stop()


def test_p24_it_leaves_no_thread_descriptor_or_directory() -> None:
    """However often it is started."""
    BrokerThread().start().stop()  # whatever is made once for all
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(3):
        broker = BrokerThread().start()
        directory = Path(broker.frontend.removeprefix("ipc://")).parent
        assert directory.is_dir()
        broker.stop()
        assert not directory.exists()
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
