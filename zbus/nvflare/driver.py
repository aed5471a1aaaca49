"""The F3 driver for ``zmq://``: with it, nvflare's unmodified cells talk over ZeroMQ.

Rules:

* nvflare finds it through ``NVFLARE_COMM_DRIVER_PATH``, which is to be ``driver_path()``:
  nvflare imports every file below that path, so it is a directory with one file.
* ``listen`` and ``connect`` block, and are called again by nvflare when they return or raise.
* localhost and 127.x listen on loopback only. There is no TLS here (``support_ssl`` is False).
* Only one driver can have a scheme; nvflare has none of its own for this one.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nvflare.fuel.f3.comm_config import CommConfigurator
from nvflare.fuel.f3.comm_error import CommError
from nvflare.fuel.f3.drivers.base_driver import BaseDriver
from nvflare.fuel.f3.drivers.driver_params import DriverCap, DriverParams
from nvflare.fuel.f3.drivers.net_utils import get_tcp_urls

from zbus.nvflare.connections import Dialer, Line, Listener, Pace

__all__ = ["ZmqDriver", "connecting_to", "driver_path", "listening_at"]

_LOADED = "zbus.nvflare.f3.zbus_zmq_driver"
"""What nvflare finds."""
_SEND_S = 30.0


def driver_path() -> str:
    """The directory for ``NVFLARE_COMM_DRIVER_PATH``."""
    spec = find_spec(_LOADED)
    assert spec is not None, "it is a part of this package"
    assert spec.origin is not None, "it is a file"
    return str(Path(spec.origin).parent)


class ZmqDriver(BaseDriver):
    """One listener or one connection; made by nvflare, without arguments."""

    def __init__(self) -> None:
        super().__init__()
        self._line: Line | None = None
        self._is_shut = False

    @staticmethod
    def supported_transports() -> list[str]:
        """The schemes that it is for."""
        return ["zmq"]

    @staticmethod
    def capabilities() -> dict[str, Any]:
        """nvflare sends its own pings, too; there is no TLS."""
        return {DriverCap.SEND_HEARTBEAT.value: True, DriverCap.SUPPORT_SSL.value: False}

    @staticmethod
    def get_urls(scheme: str, resources: Any) -> tuple[str, str]:
        """Where to connect and where to listen: a free TCP port, as nvflare's own drivers."""
        connect_url, listen_url = get_tcp_urls(scheme, resources)
        return str(connect_url), str(listen_url)

    def listen(self, connector: Any) -> None:
        """Serve whoever connects, until ``shutdown``.

        Raises:
            CommError: the address cannot be had.
        """
        self._turn(Listener(self, connector, _pace()), listening_at(connector.params))

    def connect(self, connector: Any) -> None:
        """Serve one connection until it ends.

        Raises:
            CommError: nobody answers there.
        """
        self._turn(Dialer(self, connector, _pace()), connecting_to(connector.params))

    def shutdown(self) -> None:
        """Say goodbye to all peers, and have ``listen`` or ``connect`` return."""
        self._is_shut = True
        if self._line is not None:
            self._line.end()

    def _turn(self, line: Line, endpoint: str) -> None:
        self.connector = line.connector
        self._line = line
        if self._is_shut:
            line.end()
        line.turn(endpoint)


def listening_at(params: Any) -> str:
    """The endpoint of ZeroMQ to bind: all interfaces only where the host is 0 or empty."""
    host = str(params.get(DriverParams.HOST.value) or "0")
    if host.rstrip(".").lower() == "localhost":
        host = "127.0.0.1"
    return f"tcp://{'*' if host in ('0', '0.0.0.0', '*') else host}:{_port(params)}"


def connecting_to(params: Any) -> str:
    """The endpoint of ZeroMQ to connect to."""
    host = str(params.get(DriverParams.HOST.value) or "127.0.0.1")
    return f"tcp://{'127.0.0.1' if host in ('0', '0.0.0.0') else host}:{_port(params)}"


def _port(params: Any) -> int:
    try:
        return int(params.get(DriverParams.PORT.value))
    except (TypeError, ValueError):
        raise CommError(CommError.BAD_CONFIG, "zmq:// needs a host and a port") from None


def _pace() -> Pace:
    return Pace(send_s=float(CommConfigurator().get_streaming_send_timeout(_SEND_S)))
