"""Names to peers, and targets to outcomes."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from brokers import BOUND_S, ended, in_a_thread, until
from engine_stages import JOB, Noting, Wire, codes, echo, job, numbered

from zbus.engine import Client, FLContext, ReturnCode, ServerEngine, Shareable
from zbus.engine.targets import Directory, Target
from zbus.errors import Backpressure, InvalidName, UnencodableBody

SERVER = Target("server", "")
ONE, TWO = Target("site-1", f"site-1.{JOB}"), Target("two.org", f"two.org.{JOB}")


def directory(site: str = "site-1") -> Directory:
    return Directory(site, JOB, ["site-1", Client("two.org", "token")])


@pytest.mark.parametrize(
    ("targets", "found"),
    [
        (None, [SERVER]),
        ("", [SERVER]),
        ([], [SERVER]),
        ("Server", [SERVER]),
        ("@ALL", [SERVER, TWO]),
        ("two.org", [TWO]),
        (["two.org", "SERVER", "two.org"], [TWO, SERVER]),
        (["nobody", Client("site-1", "")], [Target("nobody", None), ONE]),
    ],
)
def test_whom_a_client_means(targets: Any, found: list[Target]) -> None:
    """Contract section 3.2, but that an unknown name costs no other its message."""
    assert directory().of_client(targets) == found


def test_whom_the_server_means() -> None:
    """Nothing is all clients; a str is an error and not None (13.4)."""
    found = directory("server")
    assert found.of_server(None) == found.of_server([]) == [ONE, TWO]
    assert found.of_server(["two.org"]) == [TWO]
    for targets in ("site-1", "", 7, {"site-1"}, ("site-1",), [7], [None]):
        with pytest.raises(TypeError):
            found.of_server(targets)


def test_names_of_the_bus_and_back() -> None:
    """A site may have dots, and a job not, so that each name says one site of one job."""
    found = directory()
    assert found.site_at(found.address("two.org")) == "two.org"
    assert found.site_at("two.org.other") is None
    assert found.site_at("site-1") is None
    for site, job_id, clients in (
        ("a b", JOB, []),
        ("a", "job.1", []),
        ("a", "", []),
        ("a", JOB, ["SERVER"]),
        ("a", JOB, ["b c"]),
    ):
        with pytest.raises(InvalidName):
            Directory(site, job_id, clients)


def test_valid_names() -> None:
    """Those of clients, and the rest."""
    valid, invalid = directory().check(["nobody", "site-1", "server"])
    assert [client.name for client in valid] == ["site-1"]
    assert invalid == ["nobody", "server"]


def test_what_is_told_and_refused_says_so() -> None:
    """Backpressure is a return code, and what cannot be encoded raises."""
    wire = Wire()
    server = ServerEngine(JOB, ["site-1"], attach=wire.attach)
    exchange = server.exchange
    wire.fault = Backpressure()
    assert isinstance(exchange.tell_server([{}, {}]), Backpressure)
    assert isinstance(exchange.tell({SERVER: [{}, {}]})["server"], Backpressure)
    with pytest.raises(UnencodableBody):
        exchange.tell({SERVER: [{"a": object()}, {}]})


def test_what_is_left_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoding for one takes from the time of the next; and the flush counts both ways."""
    wire = Wire()
    server = ServerEngine(JOB, ["site-1", "site-2"], attach=wire.attach)
    bus = wire.peers[f"server.{JOB}"]
    submit = bus.submit

    def slow(topic: str, body: Any = None, **options: Any) -> Any:
        until = time.monotonic() + 0.02
        while time.monotonic() < until:
            pass
        return submit(topic, body, **options)

    monkeypatch.setattr(bus, "submit", slow)
    server.send_aux_request(None, "t", Shareable(), 1.0, server.new_context())
    first, second = (asked["timeout"] for asked in bus.asked)
    assert first == 1.0
    assert second <= 0.98
    monkeypatch.setattr(bus, "flush", lambda *, timeout: 3)
    assert server.exchange.flush(0.01) == 3


@pytest.mark.real
def test_every_target_has_an_entry(tmp_path: Path) -> None:
    """One that is not there, one that nobody is, one that does not know the topic (12.19)."""
    with job(tmp_path) as made:
        made.clients["site-1"].register_aux_message_handler("t", echo)
        server = made.server
        sites = ["site-1", "site-2", "site-3", "nobody"]
        replies = server.send_aux_request(sites, "t", Shareable(), 5.0, server.new_context())
        assert codes(replies) == {
            "site-1": ReturnCode.OK,
            "site-2": ReturnCode.TOPIC_UNKNOWN,
            "site-3": ReturnCode.COMMUNICATION_ERROR,
            "nobody": ReturnCode.COMMUNICATION_ERROR,
        }
        assert replies["nobody"].get_header("__executed__") == "no"
        everybody = server.send_aux_request(None, "t", Shareable(), 5.0, server.new_context())
        assert list(everybody) == ["site-1", "site-2", "site-3"]


@pytest.mark.real
def test_one_deadline_for_the_whole_call(tmp_path: Path) -> None:
    """Two clients that hang cost their caller its timeout once, and no other caller anything."""
    go_on = threading.Event()

    def hang(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        go_on.wait(BOUND_S)
        return request

    with job(tmp_path) as made:
        for client in made.clients.values():
            client.register_aux_message_handler("hang", hang)
            client.register_aux_message_handler("t", echo)
        server = made.server
        began = time.monotonic()
        thread, results = in_a_thread(
            lambda: server.send_aux_request(
                ["site-1", "site-2"], "hang", Shareable(), 2.0, server.new_context()
            )
        )
        quick = server.send_aux_request(["site-1"], "t", Shareable(), 5.0, server.new_context())
        ended(thread)
        took_s = time.monotonic() - began
        go_on.set()
    assert codes(quick) == {"site-1": ReturnCode.OK}
    assert set(codes(results[0]).values()) == {ReturnCode.COMMUNICATION_ERROR}
    assert 2.0 <= took_s < 3.9


@pytest.mark.real
def test_the_flush_waits_for_both_ways(tmp_path: Path) -> None:
    """To the server, and to clients by name."""
    with job(tmp_path) as made:
        client, server = made.clients["site-1"], made.server
        server.register_aux_message_handler("t", at_server := Noting())
        client.register_aux_message_handler("t", at_client := Noting())
        for number in range(200):
            client.fire_and_forget_aux_request("t", numbered(number), client.new_context())
            server.fire_and_forget_aux_request(
                ["site-1"], "t", numbered(number), server.new_context()
            )
        assert client.exchange.flush(BOUND_S) == server.exchange.flush(BOUND_S) == 0
        until(lambda: len(at_server.numbers) == 200, "the pushes")
    assert at_server.numbers == at_client.numbers == list(range(200))
