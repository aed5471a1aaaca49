"""`zbus broker`: flags for every setting, what it says when ready, and how it ends."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from terminals import Terminals, invoke, terminals, until

from zbus.broker.settings import SETTINGS, Settings
from zbus.cli import broker
from zbus.cli.broker import ready_text
from zbus.peer.peer import connect


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Settings, str]]:
    """What ``zbus broker`` would run, instead of running it."""
    seen: list[tuple[Settings, str]] = []

    def run_broker(settings: Settings, *, ready: str = "", reload: object = None) -> int:
        seen.append((settings, ready))
        return 0

    monkeypatch.setattr(broker, "run_broker", run_broker)
    monkeypatch.setenv("ZBUS_RUNTIME_DIR", str(tmp_path))
    return seen


def test_every_setting_has_its_flag() -> None:
    """With the text of the setting and its variable."""
    text = " ".join(invoke("broker", "--help").stdout.split())
    for setting in SETTINGS:
        assert f"{setting.flag} " in text
        assert f"[{setting.variable}]" in text.replace("- ", "-")


def test_flags_are_settings(started: list[tuple[Settings, str]]) -> None:
    """Texts, numbers, switches and lists arrive as what they say."""
    words = (
        "broker --heartbeat 500ms --peers 7 --body-max 2MiB --insecure --no-engine-to-engine"
        " --log-level error --frontend ipc:///run/z/one --frontend tcp://127.0.0.1:7421"
    )
    result = invoke(*words.split())
    assert result.exit_code == 0, result.stderr
    settings = started[0][0]
    assert settings.times.heartbeat_s == 0.5
    assert settings.bounds.peers == 7
    assert settings.bounds.body_max_bytes == 2 * 2**20
    assert settings.listen.insecure is True
    assert settings.policy.engine_to_engine is False
    assert settings.log.level == "error"
    assert settings.listen.frontend == ("ipc:///run/z/one", "tcp://127.0.0.1:7421")
    assert settings.times.drain_s == Settings().times.drain_s


def test_a_flag_is_stronger_than_the_environment_and_that_than_a_file(
    started: list[tuple[Settings, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each sets one thing that the stronger ones leave alone."""
    path = tmp_path / "mine.toml"
    path.write_text('[times]\nheartbeat = "2s"\ndrain = "2s"\nconnect = "2s"\n')
    monkeypatch.setenv("ZBUS_TIMES_HEARTBEAT", "3s")
    monkeypatch.setenv("ZBUS_TIMES_DRAIN", "3s")
    monkeypatch.setenv("ZBUS_LISTEN_INSECURE", "true")
    monkeypatch.setenv("ZBUS_POLICY_ENGINE_TO_ENGINE", "false")
    invoke("broker", "--config", str(path), "--heartbeat", "4s")
    settings = started[0][0]
    assert settings.listen.insecure is True
    assert settings.policy.engine_to_engine is False
    times = settings.times
    assert (times.heartbeat_s, times.drain_s, times.connect_s) == (4.0, 3.0, 2.0)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--heartbeat", "1"), "flag --heartbeat: times.heartbeat = 1"),
        (("--frontend", "tcp://127.0.0.1:7421"), "--insecure"),
        (("--frontend", "tcp://0.0.0.0:7421", "--insecure"), "open to the network"),
        (("--config", "/no/such/file"), "/no/such/file"),
        (("--log-level", "loud"), "log.level = loud"),
    ],
)
def test_a_configuration_that_is_not_valid_exits_78(words: tuple[str, ...], told: str) -> None:
    """Nothing is bound (P16)."""
    result = invoke("broker", *words)
    assert result.exit_code == 78
    assert told in result.stderr


def test_what_it_says_when_ready_can_be_typed(
    started: list[tuple[Settings, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Endpoints are named where they are not the usual ones of whoever reads it."""
    invoke("broker")
    ready = started[0][1]
    assert f"  frontend  ipc://{tmp_path}/frontend" in ready.splitlines()
    assert ready.splitlines()[-2:] == [
        "ask       zbus req echo hi",
        f'connect   zbus.connect("ipc://{tmp_path}/frontend")',
    ]
    monkeypatch.setenv("ZBUS_RUNTIME_DIR", str(tmp_path / "elsewhere"))
    assert f"zbus req echo hi --endpoint ipc://{tmp_path}/frontend" in ready_text(started[0][0])


def test_json_is_one_line_when_ready(started: list[tuple[Settings, str]], tmp_path: Path) -> None:
    """With the endpoints as lists."""
    invoke("broker", "--json")
    ready = json.loads(started[0][1])
    assert ready["ready"] is True
    assert ready["backend"] == [f"ipc://{tmp_path}/backend"]
    assert "\n" not in started[0][1]


@pytest.mark.real
def test_it_is_ready_when_it_says_so_and_sigterm_ends_it() -> None:
    """Standard output has the ready text and nothing else; the log is JSON on standard error."""
    with terminals() as here, here.beside("broker", "--json") as process:
        ready = json.loads(process.line())
        assert ready["pid"] == process.process.pid
        with connect(ready["frontend"][0]) as peer:
            assert peer.request("zbus.ping", timeout=5)["broker"]
        process.signal(signal.SIGTERM)
        assert process.end() == 0
        events = [json.loads(line)["event"] for line in process.errors.splitlines()]
        assert events[0] == "broker_ready"
        assert events[-1] == "broker_gone"
        assert process.process.stdout is not None
        assert process.process.stdout.read() == b""
        assert sorted(path.name for path in here.place.iterdir()) == []


@pytest.mark.real
def test_p18_a_second_signal_ends_it_at_once() -> None:
    """Exit code 1, and the log lists what was left."""
    with terminals() as here, here.beside("broker", "--drain", "60s") as process:
        _wait_until_ready(here)
        with connect(f"ipc://{here.place}/frontend") as peer:
            future = peer.submit("nobody", timeout=60, unserved="wait")
            until(lambda: peer.request("zbus.status", timeout=5)["requests"] >= 2, "it is open")
            process.signal(signal.SIGINT)
            until(lambda: "broker_draining" in process.errors, "it drains")
            began = time.monotonic()
            process.signal(signal.SIGINT)
            assert process.end() == 1
            assert time.monotonic() - began < 10
            assert "request_left" in process.errors
            peer.close(drain=0.0)
            assert future.exception(5) is not None


@pytest.mark.real
def test_p23_a_second_broker_is_refused_and_the_first_stays() -> None:
    """Exit code 78, with the process that holds the place."""
    with terminals() as here, here.beside("broker") as first:
        _wait_until_ready(here)
        second = here.zbus("broker")
        assert second.returncode == 78
        assert f"another broker (process {first.process.pid})".encode() in second.stderr
        assert here.zbus("ping").returncode == 0


@pytest.mark.real
def test_the_two_terminals_of_the_readme() -> None:
    """A broker, a server, a reply; and nobody is told at once."""
    serve = ("serve", "echo", "--echo")
    with terminals() as here, here.beside("broker"), here.beside(*serve) as server:
        server.line()
        done = here.zbus("req", "echo", "hi")
        assert (done.returncode, done.stdout) == (0, b"hi\n")
        assert here.zbus("req", "nobody", "hi").returncode == 4


def _wait_until_ready(here: Terminals) -> None:
    assert here.zbus("ping", "--count", "1").returncode == 0
