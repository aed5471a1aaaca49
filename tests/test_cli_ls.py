"""`zbus ls` says who is there and what is served."""

from __future__ import annotations

import json

import pytest
from terminals import Terminals, bus

from zbus.cli.ls import command
from zbus.peer.dispatcher import Dispatcher
from zbus.peer.peer import connect


def columns(here: Terminals, *words: str) -> list[list[str]]:
    result = here.here("ls", *words)
    assert result.exit_code == 0, result.stderr
    return [line.split() for line in result.stdout.splitlines()]


@pytest.mark.real
def test_an_empty_bus_is_told_in_words() -> None:
    """And as empty JSON; whoever asks does not count."""
    with bus() as here:
        assert here.here("ls").stdout == "no peer is attached\n"
        assert here.here("ls", "--topics").stdout == "no topic is served\n"
        assert here.here("ls", "--json").stdout == "[]\n"
        assert here.here("ls", "--topics", "--json").stdout == "{}\n"


@pytest.mark.real
def test_peers_and_topics_are_listed() -> None:
    """In columns, and whole as JSON."""
    dispatcher = Dispatcher()
    for number in range(10):
        dispatcher.add(f"t{number}", lambda body: body)
    with (
        bus() as here,
        connect(f"ipc://{here.place}/frontend", "engine-1"),
        connect(f"ipc://{here.place}/backend", "server", dispatcher=dispatcher, role="server"),
    ):
        titles, engine, server = columns(here)
        assert titles == ["NAME", "ROLE", "ATTACHED", "ASKED", "HOLDS", "SERVES"]
        assert engine == ["engine-1", "engine", "yes", "0", "0"]
        assert " ".join(server) == (
            "server server yes 0 0 t0, t1, t2, t3, t4, t5, t6, t7 and 2 more"
        )
        peers = json.loads(here.here("ls", "--json").stdout)
        assert [peer["name"] for peer in peers] == ["engine-1", "server"]
        assert len(peers[1]["topics"]) == 10
        assert columns(here, "--topics")[:2] == [["TOPIC", "SERVED", "BY"], ["t0", "server"]]
        topics = json.loads(here.here("ls", "--topics", "--json").stdout)
        assert topics["t9"] == ["server"]


def test_the_command_is_called_like_its_room() -> None:
    """So that help and errors name it rightly."""
    assert command.name == "ls"
