"""Keys of a broker and its peers in a directory, and a broker that has them, for tests."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from zbus.broker.keys import add_trust, new_key, read_public, write_pair


class Keyring:
    """``broker`` and every trusted name have a pair here; ``trust`` is whom the broker trusts."""

    def __init__(self, place: Path, trusted: Sequence[str] = ("server", "site-1")) -> None:
        self.place = place
        self.trust = place / "trust"
        self.trust.mkdir(mode=0o700)
        self.make("broker")
        for name in trusted:
            self.make(name)
            add_trust(self.trust, read_public(self.public(name)))

    def make(self, name: str) -> None:
        """A pair that nobody trusts yet."""
        write_pair(self.place, new_key(name))

    def secret(self, name: str) -> Path:
        return self.place / f"{name}.key"

    def public(self, name: str) -> Path:
        return self.place / f"{name}.pub"

    def secret_text(self, name: str) -> str:
        """The secret itself: what must be found nowhere else."""
        return self.secret(name).read_text().partition('secret = "')[2][:40]


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens at just now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
