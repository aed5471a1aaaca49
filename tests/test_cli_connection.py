"""How commands attach, and what somebody who waits at a terminal is told."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest
from terminals import bus, until

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
