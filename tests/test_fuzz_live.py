"""Broken bytes at a real broker: it judges them as its machine does, and nobody else notices."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from subprocess import Popen
from typing import cast

import pytest
import zmq
from fake_ports import FakePort
from keyring import free_ports
from processes.cluster import Cluster, wait_for

import fuzz
import fuzz_targets
import zbus
from zbus.broker.daemon import Daemon
from zbus.broker.sections import LimitsSection, ListenSection
from zbus.broker.settings import Settings
from zbus.protocol.codec import decode, encode
from zbus.protocol.limits import FRAMES_MAX
from zbus.protocol.message import Bye, Cause, Fault, Heartbeat, Hello, Item, Parcel, Request, Role
from zbus.transport.port import Network, Port

pytestmark = pytest.mark.real
SEED = 8
CASES = 1_500
CONNECTIONS = 600
GROWTH_MAX_KIB = 32 * 1_024
Verdict = list[tuple[object, ...]]
"""What a sender was told, in order: kinds, and the cause, code or name in them."""

SIGNATURE = b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f"
GREETING = SIGNATURE + b"\x03\x00NULL" + bytes(16 + 1 + 31)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
WIRE = (
    GREETING + READY + b"\x00\x05ZBP\x01\x91",
    GREETING + READY + b"\x01\x03abc\x00\x00",
    GREETING + READY + b"\x02\xff\xff\xff\xff\xff\xff\xff\xffabc",
    GREETING + b"\x04\xff" + bytes(40),
    SIGNATURE + b"\x01\x05" + b"\x01\x00\x05hello",
    b"\x01\x00\x05hello\x7f" * 9,
    b"GET / HTTP/1.1\r\nHost: zbus\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32),
)
"""ZMTP as it should be, up to some point; and what else comes to an open port."""


# -- the same verdicts -------------------------------------------------------------------------


class _Routers:
    """A network whose ports the test fills: the broker's machine, and no sockets."""

    def __init__(self) -> None:
        self.ports: list[FakePort] = []

    def bind_router(self, *endpoints: str) -> Port:
        self.ports.append(FakePort())
        return self.ports[-1]

    bind_pull = bind_router


class Pure:
    """The broker without sockets, at one instant."""

    def __init__(self) -> None:
        listen = ListenSection(frontend=("a",), backend=("b",), pipe=("c",))
        settings = Settings(listen=listen, bounds=LimitsSection(restart_settle_s=0.0))
        network = _Routers()
        tokens = itertools.count(1 << 61)
        self._daemon = Daemon(settings, cast(Network, network), tokens, 0.0)
        self._daemon.open()
        self._frontend = network.ports[0]

    def judge(self, messages: Sequence[fuzz_targets.Frames], route: bytes) -> Verdict:
        """What this stranger is told for these."""
        for frames in messages:
            # More frames than a message may have come as none: the rule of a Port.
            self._frontend.received.append((route, frames if len(frames) <= FRAMES_MAX + 1 else []))
            self._daemon.step(0.0)
        said, self._frontend.sent = self._frontend.said(route), []
        return told([item for items in said for item in items])


class Real:
    """A broker's process behind a DEALER that keeps no rule, a new one each time."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._context = zmq.Context()

    def judge(self, messages: Sequence[fuzz_targets.Frames], last: str) -> Verdict:
        """What it is told for these, until the Fault for ``last``."""
        dealer = self._context.socket(zmq.DEALER)
        try:
            dealer.set(zmq.RCVTIMEO, 10_000)
            dealer.connect(self._endpoint)
            for frames in messages:
                dealer.send_multipart(frames)
            items: list[Item] = []
            while not any(isinstance(item, Fault) and item.source == last for item in items):
                items += [parcel.item for parcel in decode(list(dealer.recv_multipart()))]
            dealer.send_multipart(encode([Parcel(Bye(Cause.CLOSED, ""))]))
            return told(items)
        finally:
            dealer.close(1_000)

    def close(self) -> None:
        self._context.term()


def told(items: Sequence[Item]) -> Verdict:
    """The verdict in what a broker said; heartbeats come with time, and tokens are random."""
    verdict: Verdict = []
    for item in items:
        kind = type(item).__name__
        if isinstance(item, Bye):
            verdict.append((kind, item.cause, item.text))
        elif isinstance(item, Fault):
            verdict.append((kind, item.source, item.number, item.code, item.executed, item.text))
        elif not isinstance(item, Heartbeat):
            verdict.append((kind,))
    return verdict


def cases() -> Iterator[tuple[int, list[fuzz_targets.Frames]]]:
    """A number, and what a stranger says: every second one after a good Hello, and all with a
    good Hello and a request to nobody at last, so that there is an end to wait for."""
    corpus = fuzz.corpus_of("message")
    inputs = itertools.chain(corpus, fuzz.Mutator(corpus, SEED).inputs())
    broken = filter(None, map(fuzz_targets.frames_of, inputs))
    for number, frames in enumerate(islice(broken, CASES)):
        first = [said(Hello(f"known-{number}", Role.ENGINE, 1, (), 8, b""))] if number % 2 else []
        last = f"last-{number}"
        ask = Request(last, 1, 1, "none", "nobody", 60_000, 0, 1, (), "", b"", 0)
        yield number, [*first, frames, said(Hello(last, Role.ENGINE, 1, (), 8, b"")), said(ask)]


def said(item: Item) -> fuzz_targets.Frames:
    return encode([Parcel(item)])


def test_p13_a_real_broker_judges_as_its_machine_does(cluster: Cluster) -> None:
    """Accepted, sent away with this cause, refused with this code or ignored: 1,500 broken
    messages through a DEALER and a real ROUTER, and the same ones by hand."""
    broker = cluster.broker("--restart-settle", "0s", "--log-level", "error")
    pure, real = Pure(), Real(cluster.frontend)
    seen: set[tuple[object, ...]] = set()
    try:
        for number, messages in cases():
            expected = pure.judge(messages, b"%d" % number)
            assert expected[-1][:2] == ("Fault", f"last-{number}")
            verdict = real.judge(messages, f"last-{number}")
            assert verdict == expected, (number, [[*map(bytes, each)] for each in messages])
            seen.add(tuple(each[:2] if each[0] == "Bye" else each[0] for each in verdict[:-2]))
    finally:
        real.close()
    assert broker.poll() is None
    causes = {each[1] for verdict in seen for each in verdict if isinstance(each, tuple)}
    assert {Cause.HELLO_FIRST, Cause.MALFORMED, Cause.VERSION} <= causes
    assert ("Welcome",) in seen, "nothing that a known peer said was ignored"
    assert len(seen) >= 10


# -- raw bytes ---------------------------------------------------------------------------------


def hurl(places: Sequence[Path | int]) -> None:
    """Broken beginnings of ZMTP, one connection each, at these sockets and ports in turn; the
    newest fifty stay open and say nothing more."""
    opened: list[socket.socket] = []
    inputs = itertools.chain(WIRE, fuzz.Mutator(WIRE, SEED).inputs())
    for place, raw in zip(itertools.cycle(places), islice(inputs, CONNECTIONS), strict=False):
        family = socket.AF_INET if isinstance(place, int) else socket.AF_UNIX
        door = socket.socket(family, socket.SOCK_STREAM)
        door.settimeout(5.0)
        door.connect(("127.0.0.1", place) if isinstance(place, int) else str(place))
        opened.append(door)
        with suppress(ConnectionError):  # cut off while it was still speaking
            door.sendall(raw)
        if len(opened) > 50:
            opened.pop(0).close()
    for door in opened:
        door.close()


def rss_kib(process: Popen[bytes]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def test_p13_raw_bytes_at_every_door_hurt_nobody(cluster: Cluster) -> None:
    """600 connections that speak broken ZMTP, HTTP or TLS: the same process goes on, hardly any
    larger, and every request of the others is replied meanwhile."""
    port = free_ports(1)[0]
    doors = ("--frontend", cluster.frontend, "--frontend", f"tcp://127.0.0.1:{port}", "--insecure")
    broker = cluster.broker(*doors)
    cluster.actor("server", "server")
    engine = cluster.actor("engine", "engine-0", rate=50, seconds=6, timeout=5)
    wait_for(lambda: len(cluster.events("engine-0", "end")) > 50, 20.0, "load")
    before = rss_kib(broker)
    run = cluster.place / "run"
    hurl([port, run / "frontend", run / "backend", run / "pipe"])
    assert len(cluster.events("engine-0", "begin")) < 300, "nobody was there to notice"
    assert engine.wait(40.0) == 0, cluster.logs()
    ends = [entry.rest.split()[0] for entry in cluster.events("engine-0", "end")]
    assert ends == ["reply"] * 300
    assert broker.poll() is None
    assert rss_kib(broker) - before <= GROWTH_MAX_KIB
    with zbus.connect(cluster.frontend, timeout=10.0) as bus:
        assert bus.request("zbus.ping", timeout=5.0)
    wait_for(lambda: len(os.listdir(f"/proc/{broker.pid}/fd")) < 60, 10.0, "the descriptors")
