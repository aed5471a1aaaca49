"""Keys, tokens and bodies are quoted nowhere: no log, /proc, status, error, traceback or repr."""

from __future__ import annotations

import gc
import logging
import shutil
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from brokers import Servant, broker, serving, until
from keyring import Keyring, free_ports
from processes.cluster import Cluster

import zbus
from zbus.broker.keys import read_secret
from zbus.errors import ConfigError
from zbus.peer.body import decode_body
from zbus.peer.credentials import Credentials
from zbus.peer.naming import identify
from zbus.protocol.message import Hello, Push, Reply, Request, Role
from zbus.transport.guard import ClientGuard, ServerGuard

BODY, TOKEN = "canary-of-a-body", "canary-of-a-token"
CANARIES = (BODY, TOKEN)
_CONTAINERS = (dict, list, tuple, set, frozenset, deque)


def objects_of_zbus() -> Iterator[Any]:
    """Every object of a class of ours that lives in this process, also those that the garbage
    collector does not know of, as items."""
    waiting = [each for each in gc.get_objects() if _is_ours(each)]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if _is_ours(each):
            yield each
        elif not isinstance(each, _CONTAINERS):
            continue
        waiting += gc.get_referents(each)


def _is_ours(each: object) -> bool:
    return not isinstance(each, type) and type(each).__module__.startswith("zbus.")


def shown(error: BaseException) -> str:
    """The traceback as Python prints it, with all that it chains."""
    return "".join(traceback.format_exception(error)) + repr(error)


def test_no_repr_of_what_lives_shows_a_body_or_a_token(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a request held by its handler, another one waiting, and pushes under way, in the asker,
    in the broker and in the server: all three live here."""
    monkeypatch.setenv("ZBUS_TOKEN", TOKEN)
    body = {BODY: [BODY, BODY.encode() * 5_000]}
    with (
        broker(runtime_dir) as here,
        serving(here, Servant()),
        zbus.connect(here.frontend, "asker") as bus,
    ):
        future = bus.submit("hold", body, timeout=20.0)
        waiting = bus.submit("nobody", body, timeout=20.0, unserved="wait")
        bus.push("wait", body)
        until(lambda: len(here.see(lambda daemon: daemon.broker.switchboard.tickets)) == 2, "both")
        kinds = set()
        for each in objects_of_zbus():
            text = repr(each)
            kinds.add(type(each).__name__)
            assert not any(canary in text for canary in CANARIES), type(each)
        assert {"Ask", "Call", "Ticket", "Identity", "Peer", "Session"} <= kinds
        future.cancel()
        waiting.cancel()


@pytest.mark.parametrize(
    "item",
    [
        Hello("a", Role.ENGINE, 1, (), 8, TOKEN.encode()),
        Request("a", 1, 1, "t", "", 1, 0, 1, (), "", BODY.encode(), 0),
        Reply("a", 1, 1, BODY.encode(), 0),
        Push(4_711_4711, "a", 1, "t", 1, 1, (BODY.encode(), b""), ()),
    ],
    ids=lambda item: type(item).__name__,
)
def test_an_item_shows_how_much_and_not_what(item: Any) -> None:
    """And all that is no secret, so that a log of items is of use."""
    text = repr(item)
    assert not any(canary in text for canary in (*CANARIES, "47114711"))
    assert text.startswith(type(item).__name__ + "(")
    assert "<" in text
    for name in item.__struct_fields__:
        assert f"{name}=" in text


def test_what_holds_keys_shows_none(tmp_path: Path) -> None:
    """Keys, guards and credentials, as they are and in what they hold."""
    ring = Keyring(tmp_path)
    files: Any = {"key": ring.secret("site-1"), "server_key": ring.public("broker")}
    credentials = Credentials("tcp://127.0.0.1:1", files, lambda *_why: None, {})
    secret = ring.secret_text("site-1")
    holders = [
        read_secret(ring.secret("site-1")),
        ServerGuard(secret=secret),
        ClientGuard(public="p", secret=secret, servers=()),
        *objects_of_zbus(),
    ]
    assert credentials in holders
    assert not any(secret in repr(each) for each in holders)


def malformed(code: int, content: object) -> bytes:
    packed = msgpack.packb(msgpack.ExtType(code, msgpack.packb(content)))
    assert isinstance(packed, bytes)
    return packed


def bad_token() -> None:
    identify("a", Role.ENGINE, {"ZBUS_TOKEN": TOKEN * 50})


@pytest.mark.parametrize(
    "act",
    [
        bad_token,
        lambda: decode_body(malformed(6, BODY), ()),
        lambda: decode_body(malformed(7, BODY), ()),
        lambda: decode_body(malformed(8, [BODY, [1], False, b"\0"]), ()),
        lambda: decode_body(BODY.encode(), ()),
        lambda: decode_body(b"", (BODY.encode(), BODY.encode())),
        lambda: decode_body(msgpack.packb(BODY) + BODY.encode(), ()),
    ],
    ids=["token", "datetime", "date", "array", "garbage", "frames", "trailing"],
)
def test_a_traceback_quotes_nothing(act: Callable[[], object]) -> None:
    """Of an error about a body or a token, nor the errors that it came of."""
    with pytest.raises(zbus.ZbusError) as caught:
        act()
    assert not any(canary in shown(caught.value) for canary in CANARIES)


@pytest.mark.parametrize("fault", ["trailing", "half", "loose", "no TOML"])
def test_a_key_file_that_is_none_is_not_quoted(tmp_path: Path, fault: str) -> None:
    """In the error, its causes or its traceback."""
    ring = Keyring(tmp_path)
    path, secret = ring.secret("site-1"), ring.secret_text("site-1")
    text = path.read_text()
    if fault == "loose":
        path.chmod(0o644)
    elif fault == "half":
        path.write_text(text.replace(secret, secret[:39]))
    else:
        path.write_text(text + ("more = 1\n" if fault == "trailing" else "= [\n"))
    with pytest.raises(ConfigError) as caught:
        read_secret(path)
    assert secret[:39] not in shown(caught.value)


@pytest.mark.real
def test_a_broker_and_its_peers_say_nothing_of_a_body_or_token(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With everything logged that can be: requests that are replied, raise, are refused, time out
    and come to nobody, pushes, and a handler whose traceback is logged."""
    monkeypatch.setenv("ZBUS_TOKEN", TOKEN)
    caplog.set_level(logging.DEBUG, "zbus")
    place = Path(tempfile.mkdtemp(prefix="zb"))
    try:
        with Cluster(place) as cluster:
            monkeypatch.delitem(cluster.environ, "ZBUS_TOKEN", raising=False)
            found = "\n".join(_used(cluster))
            found += "".join(path.read_text() for path in place.glob("*.log"))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    assert "raised" in caplog.text, "no traceback was logged, which shows nothing"
    assert "peer_attached" in found
    found += caplog.text
    assert not any(canary in found for canary in CANARIES)


def _used(cluster: Cluster) -> Iterator[str]:
    """Uses a broker in every way, and gives all that was told."""
    port = free_ports(1)[0]
    tcp = f"tcp://127.0.0.1:{port}"
    doors = ("--frontend", cluster.frontend, "--frontend", tcp, "--insecure")
    process = cluster.broker(*doors, "--log-level", "debug")
    dispatcher = zbus.Dispatcher()
    dispatcher.add("echo", lambda body: body)
    dispatcher.add("raise", lambda body: 1 // 0)
    dispatcher.add("bad", lambda body: [body, object()])
    backend = cluster.backend
    with zbus.connect(backend, "server", role="server", dispatcher=dispatcher) as server:
        assert server.is_attached
        with zbus.connect(tcp, "asker") as bus:
            assert bus.request("echo", BODY, timeout=5.0, unserved="wait") == BODY
            for topic, to in (("raise", ""), ("bad", ""), ("nothing", ""), ("echo", "nobody")):
                with pytest.raises(zbus.ZbusError) as caught:
                    bus.request(topic, {BODY: BODY}, timeout=5.0, to=to)
                yield shown(caught.value)
            bus.push("echo", BODY)
            bus.flush(timeout=5.0)
            for topic in ("status", "peers", "topics"):
                try:
                    yield str(bus.request(f"zbus.{topic}", timeout=5.0))
                except zbus.NoHandler as error:
                    yield str(error)
    for file in ("cmdline", "environ"):
        yield Path(f"/proc/{process.pid}/{file}").read_text(errors="replace")
    process.terminate()
    process.wait(20.0)
