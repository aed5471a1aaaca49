"""`zbus poison` shows what killed, and lets it go again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from terminals import Beside, Terminals, bus

from zbus.cli.poison import command
from zbus.errors import Poisoned, TargetLost
from zbus.peer.peer import Peer, connect

SERVER = """
import os, zbus
dispatcher = zbus.Dispatcher()
dispatcher.add("work", lambda body: os._exit(1) if body == "poison" else body)
peer = zbus.connect(role="server", name="server", dispatcher=dispatcher)
print("ready", flush=True)
import threading; threading.Event().wait()
"""


@contextmanager
def server(here: Terminals) -> Iterator[Beside]:
    with here.python(SERVER) as beside:
        assert beside.line() == "ready"
        yield beside


def killed(here: Terminals, engine: Peer) -> type[BaseException] | None:
    """How a request ends that kills its handler's process, which is then started again."""
    with server(here) as beside:
        asked = engine.submit("work", "poison", timeout=20.0)
        assert beside.end() == 1
    with server(here):
        error = asked.exception(20.0)
    return type(error) if error is not None else None


@pytest.mark.real
def test_nothing_is_told_in_words() -> None:
    """And as empty JSON; a number that is not there is wrong usage, in every command."""
    with bus() as here:
        assert here.here("poison", "ls").stdout == "nothing is in quarantine\n"
        assert here.here("poison", "ls", "--json").stdout == "[]\n"
        for word in ("show", "release"):
            result = here.here("poison", word, "7")
            assert result.exit_code == 2
            assert "There is no number 7 in quarantine" in result.stderr


@pytest.mark.real
def test_p12_what_killed_is_listed_shown_and_released() -> None:
    """From two dead processes to a third that is given it, on real processes."""
    with bus() as here, connect(f"ipc://{here.place}/frontend", "engine") as engine:
        assert [killed(here, engine) for _ in range(2)] == [TargetLost, Poisoned]
        with server(here):
            with pytest.raises(Poisoned) as refused:
                engine.request("work", "poison", timeout=20.0)
            assert refused.value.retry_safe
            assert engine.request("work", "fine", timeout=20.0) == "fine"
            titles, row = here.here("poison", "ls").stdout.splitlines()
            assert titles.split() == ["NUMBER", "TOPIC", "STATE", "DIED", "REFUSED"]
            assert row.split() == ["1", "work", "quarantined", "2", "1"]
            (fact,) = json.loads(here.here("poison", "ls", "--json").stdout)
            assert json.loads(here.here("poison", "show", "1", "--json").stdout) == fact
            assert {death["asked_by"] for death in fact["deaths"]} == {"engine"}
            story = here.here("poison", "show", "1").stdout
            assert story.count("server died with it, asked by engine") == 2
            assert f"{fact['bytes']} bytes, digest {fact['digest']}" in story
            result = here.here("poison", "release", "1")
            assert result.stdout == "released: number 1, a request on work\n"
            assert here.here("poison", "release", "1").exit_code == 2
        assert killed(here, engine) is TargetLost
        (fact,) = json.loads(here.here("poison", "ls", "--json").stdout)
        assert (fact["number"], fact["quarantined"], fact["digest"]) == (2, False, "")
        assert "suspect" in here.here("poison", "show", "2").stdout
        assert json.loads(here.here("poison", "release", "2", "--json").stdout) == fact


def test_the_command_is_called_like_its_room() -> None:
    """So that help and errors name it rightly."""
    assert command.name == "poison"
