"""A minute of load and of every fault at once; afterwards the ledgers of all decide."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest
from processes.cluster import Cluster, wait_for
from processes.history import History, lives_in

pytestmark = [pytest.mark.real, pytest.mark.slow]
SECONDS, ENGINES, RATE, TIMEOUT_S = 60.0, 8, 50.0, 5.0
KILLED_LAST = f"engine-{ENGINES - 1}"
FAULTS = (
    ("kill", "broker"), ("kill", "server-0"), ("stop", "broker"), ("kill", "broker"),
    ("kill", "server-1"), ("kill", KILLED_LAST), ("stop", "server-0"), ("kill", "server-0"),
    ("kill", "broker"), ("kill", "server-1"), ("stop", "server-1"), ("kill", KILLED_LAST),
    ("kill", "broker"), ("kill", "server-0"), ("kill", "broker"),
)  # fmt: skip
STOPS_S = {"broker": 0.8, "server-0": 4.5, "server-1": 0.5}
"""Less than the patience of others, more than it, and less again."""
LATE_S, LATE_MAX_S = 0.25, 2.0
"""How late the 99th percentile and the last outcome may be, while the machine is full."""


class Play:
    """The processes by name, each with how it is started again."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.until = time.monotonic() + SECONDS
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.start("broker")
        for name in ("server-0", "server-1"):
            self.start(name)
        for number in range(ENGINES):
            self.start(f"engine-{number}")
        for number in range(2):
            self.start(f"pusher-{number}")

    def start(self, name: str) -> None:
        """Begin a life of this name; a broker is ready at the end."""
        part = name.partition("-")[0]
        if part == "broker":
            self.running[name] = self.cluster.broker()
            return
        options = {"until": self.until, "rate": RATE, "timeout": TIMEOUT_S, "pause": 0.002}
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        self.running[name] = self.cluster.start("-m", "processes.troupe", part, name, *words)

    def kill(self, name: str) -> None:
        """kill -9, and the next life at once."""
        process = self.running[name]
        assert process.poll() is None, f"{name} ended by itself\n{self.cluster.logs()}"
        process.kill()
        process.wait(10.0)
        self.start(name)

    def stop(self, name: str) -> None:
        """SIGSTOP for a while."""
        process = self.running[name]
        process.send_signal(signal.SIGSTOP)
        until = time.monotonic() + STOPS_S[name]
        wait_for(lambda: time.monotonic() >= until, STOPS_S[name] + 5.0, "the stop's end")
        process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Askers and pushers end by themselves, and servers when they are told to."""
        for part in ("engine", "pusher", "server"):
            for name, process in self.running.items():
                if name.startswith(part):
                    if part == "server":
                        process.terminate()
                    assert process.wait(60.0) == 0, f"{name}\n{self.cluster.logs()}"


def test_p01_p04_p05_p07_hold_under_twelve_kills_and_three_stops(cluster: Cluster) -> None:
    """400 requests and 100 pushes a second for a minute, kill -9 and SIGSTOP of all in turn: what
    the processes noted, read afterwards, breaks no promise, and hardly anything is late."""
    play = Play(cluster)
    began = time.monotonic()
    every_s = (play.until - began) / (len(FAULTS) + 1)
    for number, (fault, name) in enumerate(FAULTS, 1):
        due = began + number * every_s
        wait_for(lambda: time.monotonic() >= due, SECONDS, "the next fault")  # noqa: B023
        (play.kill if fault == "kill" else play.stop)(name)
    play.end()
    history = History(lives_in(cluster.place))
    assert history.violations() == []
    assert history.early() == []
    judge_outcomes(history)
    judge_pushes(history)


def judge_outcomes(history: History) -> None:
    """Nearly all are replied, none ends in a way that has no cause here, and hardly any late."""
    outcomes = history.outcomes()
    whole = sum(outcomes.values())
    assert whole >= 0.8 * SECONDS * ENGINES * RATE, outcomes
    assert outcomes["reply"] >= 0.9 * whole, outcomes
    assert set(outcomes) <= {"reply", "TargetLost", "RequestTimeout", "NoHandler", "Draining"}
    assert outcomes["TargetLost"] > 0, "no kill met an open request, which shows nothing"
    late_s = history.lateness_s()
    assert late_s[int(0.99 * len(late_s))] <= LATE_S
    assert late_s[-1] <= LATE_MAX_S


def judge_pushes(history: History) -> None:
    """Every push was delivered: nobody was full, and none was given up."""
    counted = [entry.rest.split() for life in history.lives for entry in life.of("counted")]
    assert len(counted) == 2
    for accepted, delivered, dropped, queued in counted:
        assert int(accepted) >= 0.8 * SECONDS * RATE
        assert (delivered, dropped, queued) == (accepted, "0", "0")
