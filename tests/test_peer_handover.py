"""What a parent hands its child, and to nobody else: zbus/peer/handover.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest
from brokers import leaving_nothing
from hypothesis import given
from hypothesis import strategies as st

from zbus.errors import InvalidName
from zbus.peer.handover import HandedKeys, Handover, handed_over, new_token, open_handover
from zbus.peer.naming import another_life, default_endpoint, identify
from zbus.protocol.message import Role
from zbus.testing import strategies as zst

KEYS = HandedKeys("site-1", "public", "very secret", ("server",))
SOME = Handover("site-1", 7, "secret", "job-1", "ipc:///f", "ipc:///b", KEYS)


def environ_of(handover: Handover) -> dict[str, str]:
    """The environment of a child that has it."""
    return {"ZBUS_LAUNCH": open_handover(handover)[1]}


def written(text: bytes) -> dict[str, str]:
    """The environment of a child whose pipe holds this."""
    reading, writing = os.pipe()
    os.write(writing, text)
    os.close(writing)
    return {"ZBUS_LAUNCH": f"{reading}:{os.fstat(reading).st_ino}"}


@given(
    st.builds(
        Handover,
        name=zst.names(),
        epoch=st.integers(0, 2**63 - 1),
        token=st.text(max_size=64),
        job=st.text(max_size=64),
        endpoint=st.text(max_size=107),
        backend=st.text(max_size=107),
        keys=st.none()
        | st.builds(
            HandedKeys,
            name=zst.names(),
            public=st.text(max_size=40),
            secret=st.text(max_size=40),
            servers=st.lists(st.text(max_size=40), min_size=1, max_size=2).map(tuple),
        ),
    )
)
def test_what_is_handed_over_arrives(handover: Handover) -> None:
    """As often as this process asks; and the descriptor is closed."""
    with leaving_nothing():
        environ = environ_of(handover)
        assert handed_over(environ) == handover
        assert handed_over(environ) == handover


def test_the_child_is_who_its_parent_says() -> None:
    """Name, life, proof and endpoints by role; before the environment, after the caller."""
    environ = environ_of(SOME) | {
        "ZBUS_NAME": "other",
        "ZBUS_EPOCH": "3",
        "ZBUS_TOKEN": "other",
        "ZBUS_ENDPOINT": "ipc:///e",
    }
    who = identify(None, Role.ENGINE, environ)
    assert (who.name, who.epoch, who.proof) == ("site-1", 7, b"secret")
    assert identify("mine", Role.ENGINE, environ).name == "mine"
    assert default_endpoint(Role.ENGINE, environ) == "ipc:///f"
    assert default_endpoint(Role.SERVER, environ) == "ipc:///b"


def test_an_endpoint_that_was_not_said_is_the_usual_one() -> None:
    """As without a parent."""
    environ = environ_of(Handover("a", 1)) | {"ZBUS_ENDPOINT": "ipc:///e"}
    assert default_endpoint(Role.ENGINE, environ) == "ipc:///e"


def test_each_connect_of_a_child_is_another_life() -> None:
    """The parent says one epoch, and the child may connect twice."""
    environ = environ_of(SOME)
    first, second = (another_life(identify(None, Role.ENGINE, environ), environ) for _ in "12")
    assert second.epoch > first.epoch >= 7


def test_threads_that_ask_at_once_all_get_it() -> None:
    """Though the pipe can be read once."""
    environ, found = environ_of(SOME), []
    gate = threading.Barrier(8)

    def ask() -> None:
        gate.wait()
        found.append(handed_over(environ))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [SOME] * 8


def test_one_process_takes_it_and_no_other() -> None:
    """Both have variable and descriptor; whoever comes second is nobody's child."""
    reading, place = open_handover(SOME)
    source = "from zbus.peer.handover import handed_over as h; print(h().name if h() else None)"
    said = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", source],
            env=os.environ | {"ZBUS_LAUNCH": place, "PYTHONPATH": os.getcwd()},
            pass_fds=(reading,),
            capture_output=True,
            check=True,
            timeout=30.0,
        )
        said.append(done.stdout.decode().strip())
    os.close(reading)
    assert said == ["site-1", "None"]


def test_a_fork_of_the_child_is_not_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two processes would have one name; the fork's number is another."""
    environ = environ_of(SOME)
    assert handed_over(environ) == SOME
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert handed_over(environ) is None


@pytest.mark.parametrize("place", ["", "x", "3", ":", "-1:5", "9999:1", f"{2**80}:1", "1:x"])
def test_a_place_that_is_none_is_left_alone(place: str) -> None:
    """A variable that came down from elsewhere is no error."""
    assert handed_over({"ZBUS_LAUNCH": place}) is None


def test_a_descriptor_of_somebody_else_is_left_alone() -> None:
    """The number was used again; what is in it is not read, and it stays open."""
    reading, writing = os.pipe()
    os.write(writing, b"theirs")
    other = os.fstat(reading).st_ino + 1
    assert handed_over({"ZBUS_LAUNCH": f"{reading}:{other}"}) is None
    assert os.read(reading, 10) == b"theirs"
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(
    "text",
    [b"{", b"[]", b"7", b'{"name": "a"}', b'{"name": "a", "epoch": "1"}', b"\xff"]
    + [json.dumps({"name": "a", "epoch": epoch}).encode() for epoch in (-1, 2**63, 1.5, True)]
    + [
        json.dumps({"name": "a", "epoch": 1, "keys": keys}).encode()
        for keys in (
            7,
            "keys",
            {},
            {"name": "a", "public": "p", "secret": "s"},
            {"name": "a", "public": "p", "secret": "s", "servers": []},
            {"name": "a", "public": "p", "secret": "s", "servers": [7]},
            {"name": "a", "public": "p", "secret": None, "servers": ["q"]},
        )
    ],
)
def test_what_is_no_handover_is_refused(text: bytes) -> None:
    """It was ours to read, so silence would hide a fault."""
    with pytest.raises(InvalidName, match="ZBUS_LAUNCH"):
        handed_over(written(text))


def test_a_later_parent_may_say_more() -> None:
    """What this version does not know is left out."""
    assert handed_over(written(b'{"name": "a", "epoch": 1, "new": []}')) == Handover("a", 1)


def test_what_a_pipe_does_not_take_at_once_is_refused() -> None:
    """Before a descriptor is opened."""
    with leaving_nothing(), pytest.raises(ValueError, match="4096 fit"):
        open_handover(Handover("a", 1, job="j" * 5_000))


def test_tokens_are_secrets() -> None:
    """No two are the same, each has 128 bits, and none is shown."""
    tokens = {new_token() for _ in range(1_000)}
    assert len(tokens) == 1_000
    assert {len(token) for token in tokens} == {32}
    assert "secret" not in repr(SOME).replace("secret=", "")
