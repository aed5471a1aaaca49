"""Who gets in and what they may do, on real processes: promises P14, P15, P16 and P19."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
import zmq
from keyring import Keyring, free_ports
from processes.cluster import Cluster, wait_for

import zbus
from zbus.broker.keys import add_trust, read_public, read_secret, revoke
from zbus.protocol.codec import decode, encode
from zbus.protocol.message import Hello, Parcel, Role, Welcome

pytestmark = pytest.mark.real
RULES = """
[policy.rules.server]
serve = ["work", "metric", "secret"]
[policy.rules.site-1]
request = ["work", "zbus.*"]
push = ["metric"]
[policy.rules.slow]
request = ["work"]
rate = 2
"""


class Fortress:
    """A broker with keys, behind tcp, and who is trusted there."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.ring = Keyring(cluster.place, ("server", "site-1", "site-2", "slow"))
        self.ring.make("stranger")
        doors = dict(zip(("frontend", "backend", "pipe"), free_ports(3), strict=True))
        self.doors = {door: f"tcp://127.0.0.1:{port}" for door, port in doors.items()}
        self.config = cluster.place / "zbus.toml"
        self.write("")
        self.key_name = "broker"

    def write(self, policy: str) -> None:
        listen = "".join(f'{door} = "{at}"\n' for door, at in self.doors.items())
        self.config.write_text(f"[listen]\n{listen}{policy}")

    def start(self, key: str = "broker", **variables: str) -> Popen[bytes]:
        options = ("--config", self.config, "--key", self.ring.secret(key))
        more = ("--trust", self.ring.trust, "--log-level", "debug")
        return self.cluster.broker(*map(str, (*options, *more)), **variables)

    def connect(self, who: str, name: str | None = None, **options: Any) -> zbus.Peer:
        role = options.get("role", "engine")
        keys = {"key": self.ring.secret(who), "server_key": self.ring.public("broker")}
        door = self.doors["backend" if role == "server" else "frontend"]
        return zbus.connect(door, name, **(keys | options))

    def server(self) -> zbus.Peer:
        dispatcher = zbus.Dispatcher()
        for topic in ("work", "metric", "secret"):
            dispatcher.add(topic, lambda body: body)
        return self.connect("server", "server", dispatcher=dispatcher, role="server")

    def log(self) -> str:
        return "".join(each.read_text() for each in sorted(self.cluster.place.glob("*.log")))


@pytest.fixture
def fortress(cluster: Cluster) -> Fortress:
    return Fortress(cluster)


def refused(fortress: Fortress, who: str, **options: Any) -> str:
    """Why ``connect`` ends in AuthFailed, which it does within 2 s."""
    began = time.monotonic()
    with pytest.raises(zbus.AuthFailed) as caught:
        fortress.connect(who, **options)
    assert time.monotonic() - began < 2.0
    return caught.value.what


def test_p16_connect_says_which_key_is_wrong(fortress: Fortress) -> None:
    """Wrong server key, unknown, revoked, none: each within 2 s; and a good one comes in."""
    ring = fortress.ring
    revoke(ring.trust, "site-2")
    fortress.start()
    with fortress.server(), fortress.connect("site-1") as bus:
        assert bus.request("work", 7, timeout=5.0) == 7
        bus.push("metric", 1)
        assert bus.flush(timeout=5.0) == 0
        assert bus.name.startswith("site-1.")
    assert "wrong server key" in refused(fortress, "site-1", server_key=ring.public("site-2"))
    both = [ring.public("site-2"), ring.public("stranger")]
    assert "wrong server key" in refused(fortress, "site-1", server_key=both)
    assert "unknown" in refused(fortress, "stranger")
    assert "revoked" in refused(fortress, "site-2")
    assert "no security" in refused(fortress, "site-1", key=None)
    assert fortress.log().count("peer_attached") == 2


def test_p16_a_key_is_not_shown_to_a_broker_without_one(fortress: Fortress) -> None:
    """Nor does a peer go on in the clear."""
    fortress.cluster.broker("--config", str(fortress.config), "--insecure")
    why = refused(fortress, "site-1")  # one that hangs up at once may not be heard to have none
    assert "no security" in why or "or none" in why
    with zbus.connect(fortress.doors["frontend"]) as bus:
        assert bus.is_attached


def test_p14_no_other_key_takes_a_name(fortress: Fortress) -> None:
    """Not attached or attached; a newer start of the same key does, and the older is told."""
    fortress.start()
    with pytest.raises(zbus.NameTaken):
        fortress.connect("site-2", "site-1")
    with fortress.connect("site-1", "site-1") as first:
        for name in ("site-1", "site-1.child", "site-11", "server"):
            with pytest.raises(zbus.NameTaken):
                fortress.connect("site-2", name)
        assert first.is_attached
        with fortress.connect("site-1", "site-1"):
            wait_for(lambda: not first.is_open, 5.0, "the older one is told")
            assert isinstance(first.error, zbus.Superseded)


def test_p19_a_revoked_key_is_cut_within_a_second(fortress: Fortress) -> None:
    """And nobody else notices; a reload that is not valid keeps the old and says why."""
    broker = fortress.start()
    with fortress.server(), fortress.connect("site-1") as good:
        victim = fortress.connect("site-2")
        revoke(fortress.ring.trust, "site-2")
        began = time.monotonic()
        broker.send_signal(signal.SIGHUP)
        wait_for(lambda: not victim.is_open, 5.0, "it is cut")
        assert time.monotonic() - began < 1.0
        assert isinstance(victim.error, zbus.NotAuthorized)
        assert good.request("work", 1, timeout=5.0) == 1
        fortress.write("[policy]\nrules = 5\n")
        broker.send_signal(signal.SIGHUP)
        wait_for(lambda: "policy.rules = 5" in fortress.log(), 5.0, "the reason is logged")
        add_trust(fortress.ring.trust, read_public(fortress.ring.public("stranger")))
        (fortress.ring.trust / "bad.pub").write_text("garbage")
        fortress.write("")
        broker.send_signal(signal.SIGHUP)
        wait_for(lambda: "bad.pub is no key" in fortress.log(), 5.0, "the reason is logged")
        assert "unknown" in refused(fortress, "stranger")
        (fortress.ring.trust / "bad.pub").unlink()
        broker.send_signal(signal.SIGHUP)
        wait_for(lambda: fortress.log().count('"reloaded"') == 2, 5.0, "it is taken over")
        fortress.connect("stranger").close()
        assert good.request("work", 2, timeout=5.0) == 2


@contextmanager
def by_hand(fortress: Fortress, who: str) -> Iterator[Callable[[], bool]]:
    """A peer of this key that is attached, and stays whatever it is told: whether its connection
    has been closed."""
    key, server = (
        read_secret(fortress.ring.secret(who)),
        read_public(fortress.ring.public("broker")),
    )
    dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    with dealer:
        dealer.set(zmq.LINGER, 0)
        dealer.set(zmq.RECONNECT_IVL, -1)
        dealer.set(zmq.CURVE_SERVERKEY, server.public.encode())
        dealer.set(zmq.CURVE_PUBLICKEY, key.public.encode())
        dealer.set(zmq.CURVE_SECRETKEY, key.secret.encode())
        with dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED) as events:
            dealer.connect(fortress.doors["frontend"])
            dealer.send_multipart(encode([Parcel(Hello(who, Role.ENGINE, 1, (), 1, b""))]))
            assert dealer.poll(10_000)
            (welcome,) = decode(dealer.recv_multipart())
            assert isinstance(welcome.item, Welcome)
            yield lambda: bool(events.poll(1))
            dealer.disable_monitor()


def test_p19_the_connection_of_a_revoked_key_is_closed(fortress: Fortress) -> None:
    """Within a second, also if it stays; and a hundred reloads in a row drop nobody else."""
    broker = fortress.start()
    with (
        fortress.server(),
        fortress.connect("site-1") as good,
        by_hand(fortress, "site-2") as is_closed,
    ):
        for number in range(100):
            broker.send_signal(signal.SIGHUP)
            if number % 10 == 0:
                assert good.request("work", number, timeout=5.0) == number
        wait_for(lambda: '"reloaded"' in fortress.log(), 5.0, "it is taken over")
        assert not is_closed()
        revoke(fortress.ring.trust, "site-2")
        began = time.monotonic()
        broker.send_signal(signal.SIGHUP)
        wait_for(is_closed, 10.0, "its connection is closed")
        assert time.monotonic() - began < 1.5
        assert good.request("work", 1, timeout=5.0) == 1
        assert good.counters().losses == 0


def test_a_broker_changes_its_key_under_its_peers(fortress: Fortress) -> None:
    """They trust two, and the restart with the other key is a pause."""
    ring = fortress.ring
    ring.make("next")
    both = [ring.public("broker"), ring.public("next")]
    broker = fortress.start()
    with fortress.connect("site-1", server_key=both) as bus:
        assert bus.request("zbus.ping", timeout=5.0)
        os.kill(broker.pid, signal.SIGKILL)
        broker.wait()
        fortress.start("next")
        assert bus.request("zbus.ping", timeout=30.0)


def test_p15_the_matrix(fortress: Fortress) -> None:
    """Every direction, allowed and not; a refusal does not tell whether the target exists."""
    fortress.write(RULES)
    fortress.start()
    with fortress.server(), fortress.connect("site-1") as bus:
        assert bus.request("work", 7, timeout=5.0) == 7
        whats = set()
        for topic, to in (("secret", ""), ("nothing", ""), ("secret", "server"), ("x", "nobody")):
            began = time.monotonic()
            with pytest.raises(zbus.NotAuthorized) as caught:
                bus.request(topic, timeout=5.0, to=to)
            assert time.monotonic() - began < 1.0
            assert caught.value.executed is zbus.Executed.NO
            whats.add(caught.value.what.replace(topic, "TOPIC"))
        assert len(whats) == 1
        bus.push("metric", 1)
        assert bus.flush(timeout=5.0) == 0
        bus.push("work", 1)
        wait_for(lambda: not bus.is_open, 5.0, "who pushes where it may not is sent away")
        assert isinstance(bus.error, zbus.NotAuthorized)
        served = zbus.Dispatcher()
        served.add("work", lambda body: body)
        with pytest.raises(zbus.NotAuthorized):
            fortress.connect("site-1", dispatcher=served)
        with fortress.connect("site-2") as other, pytest.raises(zbus.NotAuthorized):
            other.request("work", timeout=5.0)
        with fortress.connect("slow") as slow:
            assert [slow.request("work", each, timeout=5.0) for each in range(2)] == [0, 1]
            with pytest.raises(zbus.Overloaded) as told:
                slow.request("work", timeout=5.0)
            assert 0.0 < told.value.retry_after_s <= 0.5


@pytest.mark.parametrize("fault", ["garbage", "loose", "no trust", "no key"])
def test_p16_a_broker_with_bad_keys_does_not_start(fortress: Fortress, fault: str) -> None:
    """It says why, and listens nowhere."""
    ring = fortress.ring
    if fault == "garbage":
        (ring.trust / "x.pub").write_text("garbage")
    elif fault == "loose":
        ring.secret("broker").chmod(0o640)
    elif fault == "no trust":
        shutil.rmtree(ring.trust)
    else:
        ring.secret("broker").unlink()
    keys = ("--key", str(ring.secret("broker")), "--trust", str(ring.trust))
    broker = fortress.cluster.start("-m", "zbus", "broker", "--config", str(fortress.config), *keys)
    assert broker.wait(20.0) == 78
    assert "security." in fortress.log()
    with pytest.raises(zbus.BrokerUnreachable):
        fortress.connect("site-1", timeout=0.3)


def test_no_secret_is_anywhere(fortress: Fortress) -> None:
    """Not in a log at debug, command lines, environments, status or errors."""
    secrets = {name: fortress.ring.secret_text(name) for name in ("broker", "site-1", "stranger")}
    broker = fortress.start(ZBUS_TOKEN="")
    found = [fortress.log()]
    with fortress.connect("site-1") as bus:
        found += [str(bus.request(f"zbus.{topic}", timeout=5.0)) for topic in ("status", "peers")]
        channel = bus._channel
        found += [repr(vars(bus)), repr(vars(channel)), repr(vars(channel._link))]
        for file in ("cmdline", "environ"):
            found.append(Path(f"/proc/{broker.pid}/{file}").read_text(errors="replace"))
    found.append(refused(fortress, "stranger"))
    os.kill(broker.pid, signal.SIGTERM)
    broker.wait(20.0)
    found.append(fortress.log())
    for name, secret in secrets.items():
        assert len(secret) == 40
        assert not any(secret in text for text in found), f"the secret of {name} is shown"
