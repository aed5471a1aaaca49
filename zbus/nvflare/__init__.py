"""With the extra ``nvflare``: engines for nvflare 2.9's components, and its driver for ``zmq://``.

This is the face: names, and nothing else, each imported when it is first used, so that nvflare's
driver search pays for the driver only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zbus.nvflare.builder import AllowedBuilder
    from zbus.nvflare.client_engine import ClientEngine
    from zbus.nvflare.driver import ZmqDriver, driver_path
    from zbus.nvflare.job_engine import Equipment
    from zbus.nvflare.server_engine import ServerEngine

__all__ = [
    "AllowedBuilder",
    "ClientEngine",
    "Equipment",
    "ServerEngine",
    "ZmqDriver",
    "driver_path",
]

_HOMES = {
    "AllowedBuilder": "zbus.nvflare.builder",
    "ClientEngine": "zbus.nvflare.client_engine",
    "Equipment": "zbus.nvflare.job_engine",
    "ServerEngine": "zbus.nvflare.server_engine",
    "ZmqDriver": "zbus.nvflare.driver",
    "driver_path": "zbus.nvflare.driver",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zbus.nvflare' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
