"""Where imports may point: the floors of the house, and which rooms may use which library.

Rules of this room:

* Imports run down: a room imports rooms of its own floor or of lower ones, and never itself by
  way of others. An import inside a function or for types only counts like any other.
* A new room is written into ``ROOMS`` before it gets an import.
* Up to ``PURE_FLOOR`` a room is a pure machine, table or word: time, randomness and the outside
  come in as arguments, so that a simulation replays byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator

from house import Finding, House

ROOMS = {
    1: "errors failure protocol.limits",
    2: "explain protocol.message protocol.topics transport.port",
    3: (
        "protocol.admission protocol.answerer protocol.asker protocol.attachment protocol.budget"
        " protocol.choice protocol.codec protocol.conveyor protocol.credit protocol.deadlines"
        " protocol.effect protocol.lanes protocol.liveness protocol.memory protocol.notices"
        " protocol.objects protocol.outboxes protocol.relay protocol.streams"
        " protocol.policy protocol.quarantine"
        " protocol.requests protocol.roster protocol.switchboard protocol.tickets"
    ),
    4: "protocol.broker protocol.session",
    5: (
        "broker.descriptors broker.forms broker.heap broker.keys broker.ledger broker.lines"
        " broker.origins broker.rules"
        " broker.sections"
        " broker.units"
        " peer.arguments peer.arrays peer.body peer.call peer.coroutines peer.crew"
        " peer.dispatcher"
        " peer.forks peer.handover peer.lull peer.pace peer.packing peer.pool peer.register"
        " peer.reports peer.rota peer.slot peer.unpacking"
        " transport.address transport.bell transport.endpoints transport.grip transport.guard"
        " transport.library transport.monitor transport.profile"
        " transport.sockets transport.turn"
    ),
    6: (
        "broker.instance broker.logs broker.notify broker.sample broker.settings broker.status"
        " broker.zap"
        " peer.counters peer.credentials peer.driver peer.link peer.naming peer.quick"
    ),
    7: (
        "broker.daemon broker.doorkeeper broker.governor broker.life"
        " peer.aio peer.channel peer.peer peer.serving"
    ),
    9: (
        "demo.cast demo.checks demo.digits demo.events demo.ledger demo.model demo.parts demo.plan"
        " demo.story demo.training demo.warden demo.witness"
    ),
    10: "__main__ demo.engine demo.server demo.stray",
}
"""The rooms of each floor, below ``zbus``. An ``__init__`` that is not empty is a room, too."""
FLOORS = {f"zbus.{room}": floor for floor, rooms in ROOMS.items() for room in rooms.split()}
FLOORS["zbus"] = 10
WINGS = {"zbus.engine": 8, "zbus.testing": 8, "zbus.cli": 9, "zbus.nvflare": 9}
"""Packages whose rooms all stand on one floor."""

PURE_FLOOR = 4
NOT_PURE = frozenset(
    "asyncio datetime logging os random secrets selectors signal socket subprocess threading time"
    " uuid zmq".split()
)

_BODIES = ("zbus.peer.body", "zbus.peer.packing", "zbus.peer.unpacking")
_ITEMS = ("zbus.protocol.codec", "zbus.protocol.message")
ONLY_IN: dict[str, tuple[str, ...]] = {
    "click": ("zbus.cli",),
    "hdrh": ("zbus.cli.bench",),
    "hypothesis": ("zbus.testing",),
    "msgpack": _BODIES,
    "msgspec": ("zbus.broker.settings", *_BODIES, *_ITEMS),
    "nvflare": ("zbus.nvflare",),
    "numpy": ("zbus.demo", "zbus.peer.arrays", "zbus.testing"),
    "pickle": (),
    "pytest": ("zbus.testing",),
    "random": ("zbus.testing",),
    "rich": ("zbus.cli",),
    "secrets": ("zbus.broker", "zbus.peer"),
    "sklearn": ("zbus.demo.digits",),
    "zmq": (
        "zbus.broker.keys",
        "zbus.broker.zap",
        "zbus.nvflare.connections",
        "zbus.transport.guard",
        "zbus.transport.library",
        "zbus.transport.monitor",
        "zbus.transport.profile",
        "zbus.transport.sockets",
    ),
    "zmq.asyncio": (),
    "zmq.devices": (),
}
"""A library, and the rooms or packages that may import it; nobody where there are none."""


def imports_run_down(house: House) -> Iterator[Finding]:
    """Every room has a floor, and imports rooms of its own floor or lower ones."""
    for module, imported in house.arrows.items():
        path, floor = house.rooms[module].path, floor_of(module)
        if floor is None:
            yield Finding(path, 1, "floors", f"{module} is not in the table of floors")
            continue
        for name, line in imported.items():
            below = floor_of(name)
            if below is not None and below > floor:
                text = f"floor {floor} imports {name} of floor {below}"
                yield Finding(path, line, "floors", text)


def no_circles(house: House) -> Iterator[Finding]:
    """No room imports itself by way of others."""
    for module, imported in house.arrows.items():
        for name, line in imported.items():
            if module in _reachable(name, house.arrows):
                text = f"{module} and {name} import each other"
                yield Finding(house.rooms[module].path, line, "circle", text)


def libraries_keep_to_their_rooms(house: House) -> Iterator[Finding]:
    """A library is imported only where the table says, and by no pure room from outside."""
    for module, source in house.rooms.items():
        for line, name in house.imports(source):
            if reason := _ban_on(name, module):
                yield Finding(source.path, line, "ban", reason)


def floor_of(module: str) -> int | None:
    """The floor a room stands on; None for one that is not in the table."""
    for wing, floor in WINGS.items():
        if _within(module, wing):
            return floor
    return FLOORS.get(module)


def _ban_on(name: str, module: str) -> str | None:
    if (floor_of(module) or PURE_FLOOR + 1) <= PURE_FLOOR and name.partition(".")[0] in NOT_PURE:
        return f"{module} is pure and imports {name}"
    for library, rooms in ONLY_IN.items():
        if _within(name, library) and not any(_within(module, room) for room in rooms):
            return f"{name} is for {' and '.join(rooms) or 'nobody'}"
    return None


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _reachable(start: str, arrows: dict[str, dict[str, int]]) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting.extend(arrows[module])
    return seen
