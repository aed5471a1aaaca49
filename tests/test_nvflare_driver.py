"""The driver for ``zmq://``: found by nvflare, and unmodified cells that talk through it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from brokers import BOUND_S
from nvflare_cells import CellProcess, environment, free_port

pytest.importorskip("nvflare", reason="needs the extra nvflare")

from nvflare.fuel.f3.comm_error import CommError

from zbus.nvflare.driver import ZmqDriver, connecting_to, driver_path, listening_at

pytestmark = pytest.mark.real


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Callable[..., CellProcess]]:
    """Starts cells over zmq, and ends them."""
    with ExitStack() as stack:

        def start(fqcn: str, *urls: str) -> CellProcess:
            made = CellProcess(tmp_path, fqcn, *urls, scheme="zmq")
            stack.callback(made.end)
            return made

        yield start


def agreed(client: CellProcess) -> None:
    """Wait until requests are answered."""
    deadline = time.monotonic() + BOUND_S
    while client.tell(ask=1) != [{"server": "OK"}]:
        assert time.monotonic() < deadline, "the cells do not find each other"


def handled(server: CellProcess, count: int) -> None:
    """Wait until it has handled so many."""
    deadline = time.monotonic() + BOUND_S
    while (seen := server.tell(count=True)["handled"]) != count:
        assert seen < count
        assert time.monotonic() < deadline, f"handled {seen} of {count}"


def test_nvflare_finds_it(tmp_path: Path) -> None:
    """By NVFLARE_COMM_DRIVER_PATH alone, and no driver of nvflare's is in its way."""
    code = (
        "from nvflare.fuel.f3 import communicator as c; c.load_comm_drivers();"
        "print(c.driver_mgr.find_driver_class('zmq').__module__, len(c.driver_mgr.drivers))"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment(scheme),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        for scheme in ("zmq", "tcp")
    ]
    assert found[0].stdout.startswith("zbus.nvflare.driver "), found[0].stderr
    assert "NoneType" in found[1].stderr
    assert environment("zmq")["NVFLARE_COMM_DRIVER_PATH"] == driver_path()
    assert [each for each in os.listdir(driver_path()) if not each.startswith("__")] == [
        "zbus_zmq_driver.py"
    ]


def test_a_pair_of_cells(cell: Callable[..., CellProcess]) -> None:
    """Two processes: aux requests and replies, and fire-and-forget, none lost."""
    url = f"zmq://127.0.0.1:{free_port()}"
    server = cell("server", url)
    client = cell("site-1", url)
    agreed(client)
    before = server.tell(count=True)["handled"]
    assert client.tell(ask=50) == [{"server": "OK"}] * 50
    assert client.tell(fire=100) == [{}] * 100
    handled(server, before + 150)


def test_a_relay_of_three(cell: Callable[..., CellProcess]) -> None:
    """Client job to server job through the server's root, whose listeners are zmq, both."""
    url = f"zmq://127.0.0.1:{free_port()}"
    root = cell("server", url)
    assert root.listener.startswith("zmq://localhost:")
    server = cell("server.job-1", url, root.listener)
    client = cell("site-1.job-1", url)
    agreed(client)
    before = server.tell(count=True)["handled"]
    assert client.tell(ask=50) == [{"server": "OK"}] * 50
    assert client.tell(fire=100) == [{}] * 100
    handled(server, before + 150)
    assert root.tell(count=True)["handled"] == 0


@pytest.mark.parametrize("killed", ["server", "site-1"])
def test_a_killed_process_is_noticed(cell: Callable[..., CellProcess], killed: str) -> None:
    """By the other side, within seconds."""
    url = f"zmq://127.0.0.1:{free_port()}"
    cells = {"server": cell("server", url)}
    cells["site-1"] = cell("site-1", url)
    agreed(cells["site-1"])
    [other] = [name for name in cells if name != killed]
    cells[killed].process.send_signal(signal.SIGKILL)
    began = time.monotonic()
    cells[other].await_event("lost", killed)
    assert time.monotonic() - began < 5.0


@pytest.mark.parametrize(
    ("params", "endpoint"),
    [
        ({"host": "localhost", "port": 7}, "tcp://127.0.0.1:7"),
        ({"host": "LocalHost.", "port": "7"}, "tcp://127.0.0.1:7"),
        ({"host": "127.0.0.3", "port": 7}, "tcp://127.0.0.3:7"),
        ({"host": "10.0.0.1", "port": 7}, "tcp://10.0.0.1:7"),
        ({"host": "0", "port": 7}, "tcp://*:7"),
        ({"host": None, "port": 7}, "tcp://*:7"),
    ],
)
def test_localhost_is_loopback_only(params: dict[str, Any], endpoint: str) -> None:
    """All interfaces only where the host says so."""
    assert listening_at(params) == endpoint
    assert "*" not in connecting_to(params)


def test_urls_and_capabilities() -> None:
    """nvflare chooses the port; localhost listens on 127.0.0.1; TLS is not promised."""
    connect_url, listen_url = ZmqDriver.get_urls("zmq", {"host": "localhost", "port": 7})
    assert (connect_url, listen_url) == ("zmq://localhost:7", "zmq://127.0.0.1:7")
    assert ZmqDriver.capabilities() == {"send_heartbeat": True, "support_ssl": False}
    assert ZmqDriver.supported_transports() == ["zmq"]


def test_a_url_without_port_is_refused() -> None:
    """As bad configuration, and no listener is tried."""
    with pytest.raises(CommError) as caught:
        ZmqDriver().listen(SimpleNamespace(params={"host": "localhost"}))
    assert caught.value.code == CommError.BAD_CONFIG


def test_a_driver_that_was_shut_does_not_begin() -> None:
    """``shutdown`` before ``listen`` counts, too."""
    driver = ZmqDriver()
    driver.shutdown()
    driver.listen(SimpleNamespace(params={"host": "localhost", "port": free_port()}))
