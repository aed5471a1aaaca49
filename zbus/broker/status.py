"""What a broker says of itself, as plain values: the answers on topics below ``zbus.``.

    zbus.ping     {"broker", "version"}
    zbus.status   {"broker", "version", "draining", "uptime_s", "peers", "requests", "counts", ...}
    zbus.peers    [{"name", "role", "attached", "topics", "asked", "holds", "window",
                   "waiting_bytes"}]
    zbus.topics   {topic: [server, ...]}
    zbus.poison   [{"number", "topic", "quarantined", "deaths", "refused", "digest", "bytes"}]
    zbus.poison.release.NUMBER   that row, which is there no longer; None if it was not

Never a body, a token, a session or a routing id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from zbus.errors import NoHandler
from zbus.protocol.broker import Broker
from zbus.protocol.quarantine import Suspect
from zbus.protocol.roster import Peer

__all__ = ["answer_to"]

_POISON = "zbus.poison"
_RELEASE = f"{_POISON}.release."


def answer_to(topic: str, broker: Broker, shell: Mapping[str, Any]) -> Any:
    """The body of the reply on one of the broker's topics.

    ``shell`` is what the machine does not know: version, uptime, what the daemon counted.

    Raises:
        NoHandler: the broker has no such topic.
    """
    if topic == "zbus.ping":
        return {"broker": f"{broker.incarnation:016x}", "version": shell["version"]}
    if topic == "zbus.status":
        return _status(broker, shell)
    if topic == "zbus.peers":
        return [_peer(peer) for peer in sorted(broker.roster, key=lambda peer: peer.name)]
    if topic == "zbus.topics":
        return dict(sorted(broker.roster.topics().items()))
    if topic == _POISON:
        return [_suspect(each) for each in broker.switchboard.quarantine.suspects.values()]
    if topic.startswith(_RELEASE):
        return _released(topic.removeprefix(_RELEASE), broker)
    raise NoHandler(f'the broker has no topic "{topic}"')


def _status(broker: Broker, shell: Mapping[str, Any]) -> dict[str, Any]:
    counts: Counter[str] = broker.switchboard.counts + broker.conveyor.counts
    return {
        "broker": f"{broker.incarnation:016x}",
        "draining": broker.switchboard.draining,
        "peers": len(broker.roster),
        "requests": len(broker.switchboard.tickets),
        "lanes": len(broker.conveyor.lanes),
        "topics": len(broker.roster.topics()),
        "waiting_bytes": broker.roster.budget.used,
        "waiting_bytes_most": broker.roster.budget.used_most,
        "quarantined": sum(
            suspect.quarantined for suspect in broker.switchboard.quarantine.suspects.values()
        ),
        "counts": dict(sorted(counts.items())),
        **shell,
    }


def _peer(peer: Peer) -> dict[str, Any]:
    return {
        "name": peer.name,
        "role": peer.role.name.lower(),
        "attached": peer.route is not None,
        "topics": sorted(peer.topics),
        "asked": len(peer.asked),
        "holds": len(peer.holds),
        "window": peer.window,
        "waiting_bytes": peer.backlog.waiting,
    }


def _suspect(suspect: Suspect) -> dict[str, Any]:
    return {
        "number": suspect.number,
        "topic": suspect.topic,
        "quarantined": suspect.quarantined,
        "deaths": [
            {"peer": name, "epoch": epoch, "asked_by": source}
            for (name, epoch), source in suspect.deaths.items()
        ],
        "refused": suspect.refused,
        "digest": suspect.digest.hex(),
        "bytes": suspect.size,
    }


def _released(number: str, broker: Broker) -> dict[str, Any] | None:
    suspect = broker.switchboard.quarantine.release(number)
    return None if suspect is None else _suspect(suspect)
