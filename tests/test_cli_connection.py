"""How commands attach, and what somebody who waits at a terminal is told."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest
from keyring import Keyring, free_ports
from terminals import bus, invoke, terminals, until

from zbus.cli import connection
from zbus.cli.connection import as_server, connected, made_up_name, serve_until_told
from zbus.cli.options import PeerOptions
from zbus.errors import BrokerUnreachable
from zbus.peer.channel import Left
from zbus.peer.dispatcher import Dispatcher
from zbus.peer.peer import Peer
from zbus.peer.serving import Stop
from zbus.protocol.topics import check_name


def reaching(endpoint: str, connect_s: float = 10.0) -> PeerOptions:
    return PeerOptions(as_json=False, debug=False, endpoint=endpoint, connect_s=connect_s)


def test_made_up_names_are_good_and_unique() -> None:
    """They keep the grammar and say what they are for."""
    names = {made_up_name("req") for _ in range(100)}
    assert len(names) == 100
    for name in names:
        assert check_name(name)
        assert re.fullmatch(r"zbus-req-\d+-[0-9a-f]{6}", name)


@pytest.mark.real
def test_a_peer_for_one_errand_is_gone_at_its_end() -> None:
    """Also when the errand fails."""
    with bus() as here:
        options = reaching(f"ipc://{here.place}/frontend")
        with connected(options, "test") as peer:
            names = [other["name"] for other in peer.request("zbus.peers", timeout=5)]
            assert names == [peer.name]
        assert not peer.is_open
        with pytest.raises(KeyError), connected(options, "test") as peer:
            raise KeyError
        assert not peer.is_open


@pytest.mark.real
def test_a_server_serves_until_told() -> None:
    """It is ready when it is attached, under the name that was given or one made up."""
    with bus() as here:
        options = reaching(f"ipc://{here.place}/backend")
        for given in ("mine", None):
            stop, names = Stop(), list[str]()

            def ready(peer: Peer, stop: Stop = stop, names: list[str] = names) -> None:
                names.append(peer.name)
                assert peer.is_attached
                stop.give()

            how = as_server(options, Dispatcher(), given, 2)
            assert serve_until_told(how, ready, stop, drain_s=1.0) == Left(0, 0, 0)
            assert names == [how.name]
            assert names == ["mine"] if given else names[0].startswith("zbus-serve-")


@pytest.mark.real
def test_whoever_waits_at_a_terminal_is_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a while, and nobody else is."""
    monkeypatch.setattr(connection, "_QUIET_S", 0.05)
    nowhere = reaching(f"ipc://{tmp_path}/none", 0.5)
    with pytest.raises(BrokerUnreachable), connected(nowhere, "test"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(connection, "is_terminal", lambda stream: stream is sys.stderr)
    with pytest.raises(BrokerUnreachable), connected(nowhere, "test"):
        pass
    assert capsys.readouterr().err == "zbus: waiting for a broker to answer\n"


@pytest.mark.real
def test_whoever_need_not_wait_is_told_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The notice is called off, also where the command itself then takes long."""
    monkeypatch.setattr(connection, "_QUIET_S", 2.0)
    monkeypatch.setattr(connection, "is_terminal", lambda stream: stream is sys.stderr)
    with bus() as here:
        stop = Stop()
        ended = time.monotonic() + 2.2

        def ready(peer: Peer) -> None:
            until(lambda: time.monotonic() > ended, "the notice would be due")
            stop.give()

        how = as_server(reaching(f"ipc://{here.place}/backend"), Dispatcher(), None, 1)
        serve_until_told(how, ready, stop, drain_s=1.0)
    assert capsys.readouterr().err == ""


TCP = "tcp://127.0.0.1:7421"


@pytest.mark.parametrize(
    ("endpoint", "words", "environment", "says"),
    [
        (TCP, ("--key", "a.key"), {}, "--key needs --server-key"),
        (TCP, ("--server-key", "b.pub"), {}, "--server-key needs --key"),
        ("ipc:///x", ("--key", "a.key", "--server-key", "b.pub"), {}, "ipc:///x needs none"),
        ("", ("--key", "a.key", "--server-key", "b.pub"), {}, "/frontend needs none"),
        (TCP, ("--key", "/none.key"), {"ZBUS_SERVER_KEY": "b.pub"}, "/none.key cannot be read"),
        (TCP, ("--server-key", "b.pub"), {"ZBUS_KEY": "/none.key"}, "/none.key cannot be read"),
    ],
)
@pytest.mark.parametrize("command", ["ls", "serve x --echo"])
def test_a_key_that_cannot_be_used_is_said_so(
    command: str,
    endpoint: str,
    words: tuple[str, ...],
    environment: dict[str, str],
    says: str,
) -> None:
    """Before anything is sent: exit code 2 for what does not go together, 78 for a bad file."""
    said = says.replace("frontend", "backend") if command.startswith("serve") else says
    where = ("--endpoint", endpoint) if endpoint else ()
    result = invoke(*command.split(), *where, *words, environment=environment)
    assert said in result.stderr
    assert result.exit_code == (78 if "cannot be read" in says else 2)
    assert result.stdout == ""


@pytest.mark.real
def test_p16_every_command_takes_its_keys_from_its_command_line() -> None:
    """And comes in under the name of its key; a wrong one says which it is."""
    with terminals() as here:
        ring = Keyring(here.place)
        ring.make("stranger")
        front, back, pipe = (f"tcp://127.0.0.1:{port}" for port in free_ports(3))
        config = here.place / "keys.toml"
        doors = {"frontend": front, "backend": back, "pipe": pipe}
        listen = "".join(f'{door} = "{at}"\n' for door, at in doors.items())
        config.write_text(f"[listen]\n{listen}")

        def keys(who: str, at: str, server: str = "broker") -> tuple[str, ...]:
            files = "--key", str(ring.secret(who)), "--server-key", str(ring.public(server))
            return "--endpoint", at, *files

        own = "--key", str(ring.secret("broker")), "--trust", str(ring.trust)
        with (
            here.beside("broker", "--config", str(config), *own) as broker,
            here.beside("serve", "echo", "--echo", *keys("server", back)) as server,
            here.beside("listen", "words", "--count", "1", *keys("server", back)) as listener,
        ):
            assert "ready" in broker.line()
            assert "as server.zbus-serve-" in server.line()
            until(lambda: "as server.zbus-serve-" in listener.errors, "the listener is there")
            ours = keys("site-1", front)
            assert here.here("req", "echo", "hello", *ours).stdout == "hello\n"
            assert here.here("push", "words", "one", *ours).exit_code == 0
            assert "one" in listener.line()
            assert here.here("ping", *ours).exit_code == 0
            assert "server.zbus-serve-" in here.here("ls", *ours).stdout
            stranger = here.here("ls", *keys("stranger", front))
            assert (stranger.exit_code, "is unknown" in stranger.stderr) == (6, True)
            other = here.here("ping", *keys("site-1", front, "stranger"))
            assert (other.exit_code, "wrong server key" in other.stderr) == (6, True)
            twice = (*keys("site-1", front, "stranger"), "--server-key", str(ring.public("broker")))
            assert here.here("ping", *twice).exit_code == 0
