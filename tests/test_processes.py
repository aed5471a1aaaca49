"""The promises on real processes: sockets, signals, kill -9, threads, descriptors."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from processes.cluster import Cluster, wait_for

import zbus

pytestmark = pytest.mark.real


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(10.0)


def peak_kib_of(process: subprocess.Popen[bytes]) -> int:
    """The most memory that a living process has had."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def check_outcomes(cluster: Cluster, engines: list[str]) -> Counter[str]:
    """P1 and P4 over the ledgers: one end for each begin, a reply for its own id; returns how
    many ended how."""
    endings: Counter[str] = Counter()
    for name in engines:
        begun = [entry.key for entry in cluster.events(name, "begin")]
        ended = Counter(entry.key for entry in cluster.events(name, "end"))
        assert ended == Counter(begun)
        for entry in cluster.events(name, "end"):
            kind, _, detail = entry.rest.partition(" ")
            endings[kind] += 1
            assert kind != "reply" or detail == entry.key
    return endings


def check_starts(cluster: Cluster, servers: list[str]) -> Counter[str]:
    """P5 over the ledgers: no id was started twice."""
    starts = Counter(entry.key for name in servers for entry in cluster.events(name, "start"))
    assert [key for key, count in starts.items() if count > 1] == []
    return starts


def check_executed(cluster: Cluster, engines: list[str], starts: Counter[str]) -> None:
    """P4: who was told ``no`` was not run, and who was told ``yes`` was."""
    for name in engines:
        for entry in cluster.events(name, "end"):
            if entry.rest.endswith(" no"):
                assert entry.key not in starts
            if entry.rest.endswith(" yes"):
                assert entry.key in starts


def test_p06_a_broker_restart_is_a_pause(cluster: Cluster) -> None:
    """Eight engines at 50 requests a second, the broker killed -9 twice: all are replied."""
    broker = cluster.broker()
    cluster.actor("server", "server")
    names = [f"engine-{number}" for number in range(8)]
    engines = [cluster.actor("engine", name, rate=50, seconds=8, timeout=6) for name in names]
    for _ in range(2):
        busy = len(cluster.ledger("engine-7")) + 150
        wait_for(lambda: len(cluster.ledger("engine-7")) > busy, 20.0, "load")  # noqa: B023
        kill(broker)
        broker = cluster.broker()
    for engine in engines:
        assert engine.wait(40.0) == 0, cluster.logs()
    endings = check_outcomes(cluster, names)
    starts = check_starts(cluster, ["server"])
    assert endings == {"reply": 8 * 400}
    assert len(starts) == 8 * 400


def test_p07_pushes_are_conserved_on_the_way_to_a_slow_server(cluster: Cluster) -> None:
    """200,000 pushes of eight engines, a slow server, the broker killed -9 in between: nothing is
    lost, order is kept, and no process needs memory for them."""
    count = 25_000
    broker = cluster.broker()
    server = cluster.actor("server", "server", pause=0.0001)
    names = [f"pusher-{number}" for number in range(8)]
    pushers = [cluster.actor("pusher", name, count=count, seconds=90) for name in names]
    wait_for(lambda: len(cluster.events("server", "push")) > 20_000, 60.0, "pushes")
    kill(broker)
    broker = cluster.broker()
    for pusher in pushers:
        assert pusher.wait(110.0) == 0, cluster.logs()
    for name in names:
        (counted,) = cluster.events(name, "pushed")
        accepted, delivered, dropped, queued, peak_kib = map(int, counted.rest.split())
        assert accepted == count == delivered + dropped + queued
        assert (dropped, queued) == (0, 0)
        assert peak_kib < 150_000
    taken: dict[str, list[int]] = {name: [] for name in names}
    for entry in cluster.events("server", "push"):
        source, _, number = entry.key.partition(":")
        taken[source].append(int(number))
    assert taken == {name: list(range(count)) for name in names}
    assert max(peak_kib_of(broker), peak_kib_of(server)) < 150_000


def test_p10_a_killed_server_is_told_as_lost(cluster: Cluster) -> None:
    """kill -9 in the middle of a handler: TargetLost, which may have run, within 3 s."""
    cluster.broker()
    server = cluster.actor("server", "server")
    with zbus.connect(cluster.frontend, timeout=10.0) as bus:
        bus.wait_served("work", timeout=10.0)
        future = bus.submit("work", {"id": "one", "pause": 30}, timeout=60)
        wait_for(lambda: cluster.events("server", "start"), 5.0, "the handler's start")
        began = time.monotonic()
        kill(server)
        with pytest.raises(zbus.TargetLost) as lost:
            future.result(10.0)
        assert time.monotonic() - began <= 3.0
        assert lost.value.executed is zbus.Executed.MAYBE


def test_p10_a_stopped_server_is_told_as_lost(cluster: Cluster) -> None:
    """SIGSTOP in the middle of a handler: TargetLost within 3 s; its late reply is dropped."""
    cluster.broker()
    server = cluster.actor("server", "server")
    with zbus.connect(cluster.frontend, timeout=10.0) as bus:
        bus.wait_served("work", timeout=10.0)
        future = bus.submit("work", {"id": "one", "pause": 1}, timeout=60)
        wait_for(lambda: cluster.events("server", "start"), 5.0, "the handler's start")
        began = time.monotonic()
        server.send_signal(signal.SIGSTOP)
        with pytest.raises(zbus.TargetLost):
            future.result(10.0)
        assert time.monotonic() - began <= 3.0
        server.send_signal(signal.SIGCONT)
        bus.wait_served("work", timeout=10.0)
        reply = bus.request("work", {"id": "two"}, timeout=10.0, unserved="wait")
        assert reply == {"id": "two", "by": "server"}


@pytest.mark.parametrize(("how", "seconds"), [("python", 6.0), ("c", 2.0)])
def test_p11_a_busy_handler_is_no_dead_peer(cluster: Cluster, how: str, seconds: float) -> None:
    """Burning Python for many heartbeats, or holding the interpreter lock for two."""
    cluster.broker("--heartbeat", "1s" if how == "c" else "250ms")
    cluster.actor("server", "server")
    with zbus.connect(cluster.frontend, timeout=10.0) as bus:
        bus.wait_served("busy", timeout=10.0)
        body = {"how": how, "s": seconds}
        assert bus.request("busy", body, timeout=seconds + 10.0) == "done"
        counts = bus.request("zbus.status", timeout=5.0)["counts"]
        assert counts.get("target_lost", 0) == 0


@pytest.mark.parametrize("seconds", [0.2, 2.0, 6.0])
def test_p11_a_stopped_broker_blames_nobody(cluster: Cluster, seconds: float) -> None:
    """SIGSTOP of the broker: afterwards everybody is there, and nothing was run late or twice."""
    broker = cluster.broker()
    cluster.actor("server", "server")
    engine = cluster.actor("engine", "engine-0", rate=50, seconds=seconds + 3, timeout=3)
    wait_for(lambda: len(cluster.events("engine-0", "end")) > 50, 20.0, "load")
    broker.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    wait_for(lambda: time.monotonic() - stopped > seconds, seconds + 1.0, "the stop's end")
    broker.send_signal(signal.SIGCONT)
    assert engine.wait(40.0) == 0, cluster.logs()
    endings = check_outcomes(cluster, ["engine-0"])
    starts = check_starts(cluster, ["server"])
    check_executed(cluster, ["engine-0"], starts)
    if seconds < 3:
        assert set(endings) == {"reply"}
    assert set(endings) <= {"reply", "RequestTimeout", "BrokerUnreachable"}


def test_p12_whatever_a_handler_does_is_a_typed_outcome(cluster: Cluster) -> None:
    """Raise, SystemExit, KeyboardInterrupt, a bad return, a hang: typed, and the pool is whole."""
    cluster.broker()
    cluster.actor("server", "server")
    with zbus.connect(cluster.frontend, timeout=10.0) as bus:
        bus.wait_served("misbehave", timeout=10.0)
        for body, kind in (
            ("raise", zbus.HandlerError),
            ("exit", zbus.HandlerError),
            ("interrupt", zbus.HandlerError),
            ("bad", zbus.BadReply),
        ):
            with pytest.raises(kind) as failed:
                bus.request("misbehave", body, timeout=5.0)
            assert failed.value.executed is zbus.Executed.YES
        hanging = [bus.submit("misbehave", "hang", timeout=0.5) for _ in range(8)]
        for future in hanging:
            assert isinstance(future.exception(5.0), zbus.RequestTimeout)
        began = time.monotonic()
        assert bus.request("work", {"id": "after"}, timeout=5.0)["id"] == "after"
        assert time.monotonic() - began <= 1.0


def test_p02_a_timeout_comes_on_time(cluster: Cluster) -> None:
    """Never early, and at most 250 ms late on a machine that others use too."""
    cluster.broker()
    cluster.actor("server", "server")
    with zbus.connect(cluster.frontend, timeout=10.0) as bus:
        bus.wait_served("work", timeout=10.0)
        for timeout in (0.05, 0.2, 0.5):
            began = time.monotonic()
            with pytest.raises(zbus.RequestTimeout) as late:
                bus.request("work", {"id": f"t{timeout}", "pause": 2}, timeout=timeout)
            took = time.monotonic() - began
            assert timeout <= took <= timeout + 0.25
            assert late.value.executed is zbus.Executed.MAYBE


def test_p03_unserved_is_told_at_once(cluster: Cluster) -> None:
    """No such topic and no such peer: within 20 ms at the 99th percentile, and not run."""
    cluster.broker()
    with zbus.connect(cluster.frontend, timeout=10.0) as bus:
        bus.request("zbus.ping", timeout=5.0)
        took = []
        for kind, to in ((zbus.NoHandler, ""), (zbus.NoTarget, "nobody")) * 100:
            began = time.perf_counter()
            with pytest.raises(kind) as refused:
                bus.request("nothing", timeout=5.0, to=to)
            took.append(time.perf_counter() - began)
            assert refused.value.executed is zbus.Executed.NO
        assert sorted(took)[197] <= 0.02


def test_p18_sigterm_lets_open_work_finish(cluster: Cluster) -> None:
    """The broker drains: the open request is replied, a new one waits, and the exit is 0."""
    broker = cluster.broker("--drain", "5s")
    cluster.actor("server", "server")
    with zbus.connect(cluster.frontend, timeout=10.0) as bus:
        bus.wait_served("work", timeout=10.0)
        future = bus.submit("work", {"id": "open", "pause": 1.5}, timeout=20)
        wait_for(lambda: cluster.events("server", "start"), 5.0, "the handler's start")
        began = time.monotonic()
        broker.terminate()
        with pytest.raises(zbus.Draining) as refused:
            bus.request("work", {"id": "new"}, timeout=0.5)
        assert refused.value.executed is zbus.Executed.NO
        assert future.result(5.0)["id"] == "open"
        assert broker.wait(6.0) == 0
        assert time.monotonic() - began <= 6.0
        pause = bus.submit("work", {"id": "after"}, timeout=20)
        cluster.broker()
        assert pause.result(20.0)["id"] == "after"


def test_p18_a_second_signal_exits_at_once_with_what_was_left(cluster: Cluster) -> None:
    """Exit 1, and the open request is named."""
    broker = cluster.broker("--drain", "30s")
    cluster.actor("server", "server")
    with zbus.connect(cluster.frontend, timeout=10.0) as bus:
        bus.wait_served("work", timeout=10.0)
        bus.submit("work", {"id": "open", "pause": 20}, timeout=30)
        wait_for(lambda: cluster.events("server", "start"), 5.0, "the handler's start")
        broker.terminate()
        wait_for(lambda: "draining" in cluster.logs(), 5.0, "the drain's begin")
        broker.terminate()
        assert broker.wait(2.0) == 1
        assert "work" in (cluster.place / "01.log").read_text()
        bus.close(drain=0.0)


def test_p18_a_server_that_is_told_to_stop_finishes_its_work(cluster: Cluster) -> None:
    """SIGTERM to a server under load: no request of its engine is lost."""
    cluster.broker()
    first = cluster.actor("server", "first", pause=0.02)
    engine = cluster.actor("engine", "engine-0", rate=100, seconds=4, timeout=10)
    wait_for(lambda: len(cluster.events("first", "end")) > 50, 20.0, "load")
    cluster.actor("server", "second", pause=0.02)
    with zbus.connect(cluster.frontend, timeout=10.0) as bus:
        wait_for(lambda: len(bus.request("zbus.topics", timeout=5.0)["work"]) == 2, 10.0, "two")
    first.terminate()
    assert first.wait(7.0) == 0, cluster.logs()
    assert engine.wait(30.0) == 0, cluster.logs()
    assert check_outcomes(cluster, ["engine-0"]) == {"reply": 400}
    check_starts(cluster, ["first", "second"])


def test_p21_one_client_and_many_threads(cluster: Cluster) -> None:
    """32 threads with one client: every reply is the one that was asked for."""
    cluster.broker()
    cluster.actor("server", "server")
    wrong: list[object] = []
    with zbus.connect(cluster.frontend, timeout=10.0) as bus:
        bus.wait_served("work", timeout=10.0)

        def ask(thread: int) -> None:
            for number in range(50):
                key = f"{thread}-{number}"
                reply = bus.request("work", {"id": key}, timeout=30.0)
                if reply["id"] != key:
                    wrong.append((key, reply))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60.0)
            assert not thread.is_alive()
    assert wrong == []
    assert len(check_starts(cluster, ["server"])) == 32 * 50


def test_p21_after_fork_the_client_says_so(cluster: Cluster) -> None:
    """The child's calls raise at once, the parent's go on, and the broker can come again."""
    broker = cluster.broker()
    cluster.actor("server", "server")
    with zbus.connect(cluster.frontend, timeout=10.0) as bus:
        bus.wait_served("work", timeout=10.0)
        child = os.fork()
        if child == 0:
            os._exit(_use_after_fork(bus))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert bus.request("work", {"id": "parent"}, timeout=5.0)["id"] == "parent"
        kill(broker)
        cluster.broker()
        assert bus.request("work", {"id": "again"}, timeout=10.0)["id"] == "again"


def _use_after_fork(bus: zbus.Peer) -> int:
    signal.alarm(5)
    uses = (
        lambda: bus.request("work", {"id": "child"}, timeout=1.0),
        lambda: bus.push("metric", 1),
        lambda: bus.submit("work", {"id": "child"}, timeout=1.0),
    )
    for use in uses:
        try:
            use()
        except zbus.ForkedClientError:
            continue
        except BaseException:  # noqa: BLE001 - the child must not become a second test run
            return 2
        return 3
    bus.close()
    return 0


def test_p23_a_second_broker_leaves_the_first_untouched(cluster: Cluster) -> None:
    """It exits 78 and names the holder; the first goes on; after kill -9 the place is free."""
    broker = cluster.broker()
    second = cluster.start("-m", "zbus", "broker")
    assert second.wait(10.0) == 78
    assert str(broker.pid) in (cluster.place / "02.log").read_text()
    elsewhere = cluster.start(
        "-m", "zbus", "broker", "--frontend", cluster.frontend,
        ZBUS_RUNTIME_DIR=str(cluster.place / "elsewhere"),
    )  # fmt: skip
    assert elsewhere.wait(10.0) == 78
    with zbus.connect(cluster.frontend, timeout=10.0) as bus:
        assert bus.request("zbus.ping", timeout=5.0)
    kill(broker)
    cluster.broker()


def test_p24_a_peer_leaves_nothing(cluster: Cluster) -> None:
    """Connect and close, again and again: no descriptor and no thread is left, on both sides."""
    broker = cluster.broker()
    dispatcher = zbus.Dispatcher()
    dispatcher.add("echo", lambda body: body)

    def once() -> None:
        with (
            zbus.connect(cluster.backend, "server", role="server", dispatcher=dispatcher),
            zbus.connect(cluster.frontend, "engine") as bus,
        ):
            assert bus.request("echo", 1, timeout=5.0, unserved="wait") == 1
            bus.push("echo", 2)
            assert bus.flush(timeout=5.0) == 0

    once()
    ours, threads = _descriptors(os.getpid()), threading.active_count()
    theirs = _descriptors(broker.pid)
    for _ in range(10):
        once()
    wait_for(lambda: _descriptors(os.getpid()) <= ours, 5.0, "our descriptors")
    wait_for(lambda: threading.active_count() <= threads, 5.0, "our threads")
    wait_for(lambda: _descriptors(broker.pid) <= theirs + 1, 5.0, "the broker's descriptors")


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_p24_a_broker_leaves_nothing(cluster: Cluster) -> None:
    """After SIGTERM its directory is empty, whatever was connected."""
    broker = cluster.broker()
    with zbus.connect(cluster.frontend, timeout=10.0) as bus:
        assert bus.request("zbus.ping", timeout=5.0)
        broker.terminate()
        assert broker.wait(12.0) == 0
    assert list((cluster.place / "run").iterdir()) == []


def test_the_interpreter_ends_with_an_open_bus(cluster: Cluster) -> None:
    """A script that never closes its bus still hands its pushes over, and ends."""
    cluster.broker()
    cluster.actor("server", "server")
    script = (
        "import zbus; bus = zbus.connect(); bus.wait_served('metric', timeout=10);"
        "[bus.push('metric', n) for n in range(100)]"
    )
    process = cluster.start("-c", script)
    assert process.wait(20.0) == 0
    wait_for(lambda: len(cluster.events("server", "push")) == 100, 5.0, "the pushes")


def test_p17_a_wall_clock_that_jumps_changes_nothing(cluster: Cluster) -> None:
    """One hour back and forth under the broker, by a library that fakes the wall clock."""
    library = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
    if library is None:
        pytest.skip("libfaketime is not installed (Debian package faketime)")
    stamp = cluster.place / "faketime"
    stamp.write_text("+0")
    process = cluster.start(
        "-m", "zbus", "broker",
        LD_PRELOAD=str(library),
        FAKETIME_TIMESTAMP_FILE=str(stamp),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )  # fmt: skip
    cluster.actor("server", "server")
    engine = cluster.actor("engine", "engine-0", rate=50, seconds=4, timeout=3)
    wait_for(lambda: len(cluster.events("engine-0", "end")) > 50, 20.0, "load")
    stamp.write_text("-3600")
    wait_for(lambda: len(cluster.events("engine-0", "end")) > 100, 20.0, "load")
    stamp.write_text("+3600")
    assert engine.wait(30.0) == 0, cluster.logs()
    assert check_outcomes(cluster, ["engine-0"]) == {"reply": 200}
    assert process.poll() is None


def test_a_body_at_the_limit_goes_through_and_one_above_is_refused(cluster: Cluster) -> None:
    """The limit is the operator's: 8 MiB travel where he says so, and 1 byte more is refused
    before it is sent."""
    size = 8 * 2**20
    cluster.broker(ZBUS_LIMITS_BODY_MAX="8MiB", ZBUS_LIMITS_OBJECT_MAX="8MiB")
    cluster.start("-m", "zbus", "serve", "echo", "--echo")
    with zbus.connect(cluster.frontend, timeout=10.0) as bus:
        bus.wait_served("echo", timeout=10.0)
        body = bytes(size - 1_024)
        assert bus.request("echo", body, timeout=20.0) == body
        with pytest.raises(zbus.TooLarge) as refused:
            bus.request("echo", bytes(size + 1), timeout=20.0)
        assert refused.value.executed is zbus.Executed.NO
