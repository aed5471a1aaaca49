"""What a peer is called, in which life, and where its broker is: zbus/peer/naming.py."""

from __future__ import annotations

import os
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.errors import InvalidName
from zbus.peer.naming import another_life, default_endpoint, identify
from zbus.protocol.codec import decode, encode
from zbus.protocol.message import Hello, Parcel, Role
from zbus.protocol.topics import is_name
from zbus.testing import strategies as zst

ROLES = list(Role)


@given(name=zst.names(), role=st.sampled_from(Role), other=zst.names())
def test_the_name_given_is_the_name(name: str, role: Role, other: str) -> None:
    """What the caller says wins over the environment, and the environment over nothing."""
    assert identify(name, role, {"ZBUS_NAME": other}).name == name
    assert identify(None, role, {"ZBUS_NAME": other}).name == other
    assert identify(name, role, {}).role is role


@pytest.mark.parametrize("role", ROLES)
def test_made_up_names_are_valid_and_unique(role: Role) -> None:
    """They begin with the role and the process, and no two are the same."""
    names = [identify(None, role, {"ZBUS_NAME": ""}).name for _ in range(200)]
    assert len(set(names)) == len(names)
    assert all(is_name(name) for name in names)
    assert all(name.startswith(f"{role.name.lower()}-{os.getpid()}-") for name in names)


@given(text=st.text(min_size=1).filter(lambda text: not is_name(text)))
def test_a_name_that_is_not_valid_is_refused(text: str) -> None:
    """Whoever said it, and before anything is sent."""
    with pytest.raises(InvalidName):
        identify(text, Role.ENGINE, {})
    with pytest.raises(InvalidName):
        identify(None, Role.ENGINE, {"ZBUS_NAME": text})


# -- the life ------------------------------------------------------------------------------


def test_p17_an_epoch_grows_and_follows_no_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call has a greater one than the call before, and nobody asks what time of day it is."""

    def no_wall_clock() -> int:
        raise AssertionError("the wall clock was asked")

    for clock in ("time", "time_ns", "localtime", "gmtime"):
        monkeypatch.setattr(time, clock, no_wall_clock)
    epochs = [identify("a", Role.ENGINE, {}).epoch for _ in range(1_000)]
    assert all(later > earlier for earlier, later in pairwise(epochs))
    before = time.monotonic_ns()
    assert before <= identify("a", Role.ENGINE, {"ZBUS_EPOCH": ""}).epoch <= time.monotonic_ns()


@given(epoch=st.integers(0, 2**63 - 1))
def test_a_parent_may_say_the_epoch(epoch: int) -> None:
    """Any number that a Hello can say."""
    assert identify("a", Role.ENGINE, {"ZBUS_EPOCH": str(epoch)}).epoch == epoch


@pytest.mark.parametrize(
    "text", ["x", "-1", "1.5", " 1", "1_0", "0x1", "²", "٣", str(2**63), "9" * 5_000]
)
def test_an_epoch_that_is_no_number_is_refused(text: str) -> None:
    """The error names the variable; nothing of it is guessed."""
    with pytest.raises(InvalidName, match="ZBUS_EPOCH"):
        identify("a", Role.ENGINE, {"ZBUS_EPOCH": text})


def test_each_start_in_one_process_is_another_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parent says the epoch once, and its child may connect twice."""
    monkeypatch.setenv("ZBUS_EPOCH", "7")
    lives = [another_life(identify(name, Role.ENGINE)) for name in "aabbab"]
    assert all(later.epoch > earlier.epoch >= 7 for earlier, later in pairwise(lives))
    assert [life.name for life in lives] == list("aabbab")
    monkeypatch.delenv("ZBUS_EPOCH")
    who = identify("a", Role.ENGINE)
    assert another_life(who) == who


# -- the proof -----------------------------------------------------------------------------


@given(token=st.binary(max_size=256))
def test_the_token_is_the_proof(token: bytes) -> None:
    """Byte for byte as the parent said it, also where it is no text."""
    text = token.decode("utf-8", "surrogateescape")
    assert identify("a", Role.ENGINE, {"ZBUS_TOKEN": text}).proof == token


def test_without_a_token_there_is_no_proof() -> None:
    """An empty variable is no variable."""
    assert identify("a", Role.ENGINE, {}).proof == b""
    assert identify("a", Role.ENGINE, {"ZBUS_TOKEN": ""}).proof == b""


def test_a_token_that_does_not_fit_is_refused_and_not_shown() -> None:
    """It is a secret, so the error counts its bytes and quotes none."""
    with pytest.raises(InvalidName, match="ZBUS_TOKEN has 257 bytes") as caught:
        identify("a", Role.ENGINE, {"ZBUS_TOKEN": "s" * 257})
    assert "ss" not in str(caught.value)


@given(
    name=zst.names(),
    epoch=st.integers(0, 2**64).map(str) | st.text(max_size=3),
    token=st.text(st.characters(codec="utf-8"), max_size=300),
)
def test_whoever_is_identified_can_say_hello(name: str, epoch: str, token: str) -> None:
    """What is not refused here is a Hello that a broker can read."""
    environ = {"ZBUS_EPOCH": epoch, "ZBUS_TOKEN": token}
    try:
        who = identify(name, Role.SERVER, environ)
    except InvalidName:
        return
    hello = Hello(who.name, who.role, who.epoch, (), 1, who.proof)
    assert [parcel.item for parcel in decode(encode([Parcel(hello)]))] == [hello]


# -- the place -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "frontend", "backend"),
    [
        ({"ZBUS_RUNTIME_DIR": "/r"}, "ipc:///r/frontend", "ipc:///r/backend"),
        ({"ZBUS_RUNTIME_DIR": "/r", "ZBUS_ENDPOINT": "ipc:///f"}, "ipc:///f", "ipc:///r/backend"),
        ({"ZBUS_RUNTIME_DIR": "/r", "ZBUS_BACKEND": "ipc:///b"}, "ipc:///r/frontend", "ipc:///b"),
        ({"ZBUS_ENDPOINT": "ipc:///f", "ZBUS_BACKEND": "ipc:///b"}, "ipc:///f", "ipc:///b"),
    ],
)
def test_each_role_has_its_door(environ: dict[str, str], frontend: str, backend: str) -> None:
    """Engines find the frontend and servers the backend, each by its own variable."""
    assert default_endpoint(Role.ENGINE, environ) == frontend
    assert default_endpoint(Role.SERVER, environ) == backend


@pytest.mark.parametrize(("uid", "place"), [(0, "/run/zbus"), (1_000, "/session/zbus")])
def test_the_place_follows_who_we_are(
    monkeypatch: pytest.MonkeyPatch, uid: int, place: str
) -> None:
    """Root's broker is the machine's; anybody else's is that of the session."""
    monkeypatch.setattr(os, "getuid", lambda: uid)
    environ = {"XDG_RUNTIME_DIR": "/session"}
    assert default_endpoint(Role.ENGINE, environ) == f"ipc://{place}/frontend"
