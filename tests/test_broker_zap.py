"""The authenticator: zbus/broker/zap.py, judged by hand and asked by ZeroMQ."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from zmq.backend import Context
from zmq.utils import z85

from zbus.broker import zap
from zbus.broker.keys import Trust, new_key
from zbus.broker.zap import Authenticator, Table, judge
from zbus.errors import InternalError

GOOD, GONE, STRANGER = new_key("good"), new_key("gone"), new_key("stranger")
TABLE = Table(Trust({GOOD.fingerprint: "good"}, {GONE.fingerprint: "gone"}))


def question(
    *credentials: bytes,
    mechanism: bytes = b"CURVE",
    address: bytes = b"10.0.0.9",
    domain: bytes = b"zbus",
) -> list[bytes]:
    return [b"1.0", b"1", domain, address, b"", mechanism, *credentials]


def test_p16_only_a_trusted_key_comes_in() -> None:
    """As itself; a revoked one is told apart from one that was never known."""
    for key, status in ((GOOD, b"200"), (GONE, b"500"), (STRANGER, b"400")):
        verdict = judge(question(z85.decode(key.public)), TABLE)
        assert verdict.status == status
        assert verdict.user == (key.public.encode() if key is GOOD else b"")


@pytest.mark.parametrize(
    ("address", "insecure", "comes_in"),
    [
        (b"localhost:%d:0:99" % os.geteuid(), False, True),
        (b"localhost:0:0:99", False, True),
        (b"localhost:12345:0:99", True, False),
        (b"127.0.0.1", False, False),
        (b"127.0.0.1", True, True),
        (b"::1", True, True),
        (b"10.0.0.9", True, False),
        (b"127.0.0.1.evil", True, False),
        (b"", True, False),
    ],
)
def test_p16_without_a_key_only_our_user_comes_in(
    address: bytes, insecure: bool, comes_in: bool
) -> None:
    """Over ipc, as the kernel says; over tcp from loopback, where the operator said so."""
    verdict = judge(question(mechanism=b"NULL", address=address), Table(insecure=insecure))
    assert (verdict.status == b"200") is comes_in
    assert verdict.user == (b"local" if comes_in else b"")


def test_p16_other_domains_and_mechanisms_do_not_come_in() -> None:
    """Not even with a trusted key, or from here."""
    key = z85.decode(GOOD.public)
    for asked in (
        question(key, domain=b""),
        question(key, domain=b"other"),
        question(b"u", b"p", mechanism=b"PLAIN", address=b"localhost:0:0:1"),
        question(key, mechanism=b"NULL", address=b"localhost:0:0:1"),
        question(key[:31]),
        question(),
    ):
        assert judge(asked, TABLE).status == b"400"


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_no_frames_make_it_raise_or_open(frames: list[bytes]) -> None:
    """Whatever is asked, it answers, and lets nobody in."""
    assert judge(frames, TABLE).status in (b"300", b"400", b"500")
    assert judge([b"1.0", b"1", b"zbus", *frames], TABLE).status != b"200"


@pytest.fixture
def context() -> Iterator[Context]:
    made = Context()
    yield made
    made.term()


def asked(context: Context, frames: list[bytes]) -> list[bytes]:
    """What the authenticator of this context answers."""
    socket = zmq.Context(shadow=context.underlying).socket(zmq.REQ)
    try:
        socket.connect(zap.ADDRESS)
        socket.send_multipart(frames)
        assert socket.poll(5_000)
        return socket.recv_multipart()
    finally:
        socket.close(0)


def test_it_answers_in_the_form_of_the_protocol(context: Context) -> None:
    """Also what is no question; and the table in force is the last one it was given."""
    authenticator = Authenticator(context, Table())
    authenticator.start()
    try:
        frames = question(z85.decode(GOOD.public))
        assert asked(context, frames)[:3] == [b"1.0", b"1", b"400"]
        authenticator.table = TABLE
        answer = asked(context, frames)
        assert answer == [b"1.0", b"1", b"200", b"OK", GOOD.public.encode(), b""]
        assert asked(context, [b"?"])[2] == b"300"
        assert authenticator.counts == {b"200": 1, b"300": 1, b"400": 1, b"500": 0}
    finally:
        authenticator.stop()
    assert not authenticator.is_alive


def test_p16_a_judge_that_raises_lets_nobody_in(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers "try again", and lives on."""

    def broken(frames: object, table: object) -> None:
        raise RuntimeError("a bug")

    authenticator = Authenticator(context, TABLE)
    authenticator.start()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(zap, "judge", broken)
            assert asked(context, question())[2] == b"300"
        assert asked(context, question(z85.decode(GOOD.public)))[2] == b"200"
    finally:
        authenticator.stop()


def test_one_that_died_can_be_started_again(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a second one in the same context cannot."""

    def dies(self: Authenticator, socket: object) -> None:
        raise RuntimeError("dead")

    authenticator = Authenticator(context, TABLE)
    with monkeypatch.context() as patch:
        patch.setattr(Authenticator, "_answer_one", dies)
        with suppress(InternalError):  # dead before it was looked at
            authenticator.start()
        while authenticator.is_alive:
            pass
    authenticator.start()
    try:
        assert asked(context, question(z85.decode(GOOD.public)))[2] == b"200"
        with pytest.raises(InternalError):
            Authenticator(context, TABLE).start()
    finally:
        authenticator.stop()
    authenticator.stop()
