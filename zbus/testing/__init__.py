"""Testing what runs on the bus: a simulated bus, faults, seeds, and a pytest plugin.

    from zbus.testing import ROUGH, Bus

    with Bus(seed=7, faults=ROUGH) as bus:
        bus.server(dispatcher)
        bus.engine("e1").outcome("job.submit", {"id": 1}, timeout=3600)

Each name is imported when it is first asked for, so that pytest can load the plugin for nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zbus.testing import strategies
    from zbus.testing.broker import BrokerThread
    from zbus.testing.bus import Bus, Violation
    from zbus.testing.faults import PERFECT, ROUGH, Faults
    from zbus.testing.knobs import QUIET, Knobs
    from zbus.testing.pool import Pace
    from zbus.testing.stage import HotLoop
    from zbus.testing.stranger import Stranger
    from zbus.testing.swarm import Scenario, swarm
    from zbus.testing.tally import Tally

__all__ = [
    "PERFECT",
    "QUIET",
    "ROUGH",
    "BrokerThread",
    "Bus",
    "Faults",
    "HotLoop",
    "Knobs",
    "Pace",
    "Scenario",
    "Stranger",
    "Tally",
    "Violation",
    "strategies",
    "swarm",
]

_ROOMS = {
    "broker": "BrokerThread",
    "bus": "Bus Violation",
    "faults": "Faults PERFECT ROUGH",
    "knobs": "Knobs QUIET",
    "pool": "Pace",
    "stage": "HotLoop",
    "stranger": "Stranger",
    "swarm": "Scenario swarm",
    "tally": "Tally",
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name == "strategies":
        return import_module(f"{__name__}.strategies")
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{room}"), name)
