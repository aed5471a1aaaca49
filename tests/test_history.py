"""The offline checker finds each kind of broken promise in a history, and none in a good one."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes.history import History, lives_in

GOOD = {
    "server": """
        1000 life 70 -
        2100 start e.1 -
        2200 end e.1 -
        3000 push p:0 -
        3100 push p:1 -
        4100 start e.2 -
        6000 life 71 -
        7100 start e.3 -
        7200 end e.3 -
        8000 push p:1 -
        8100 push p:2 -
        9000 done - -
    """,
    "engine": """
        1000 life 80 -
        2000 begin e.1 1
        2300 end e.1 reply e.1 server 70
        4000 begin e.2 1
        5000 end e.2 TargetLost maybe
        5100 begin e.4 1
        5200 end e.4 NoHandler no
        7000 begin e.3 1
        7300 end e.3 reply e.3 server 71
        7400 begin e.5 1
        8400 end e.5 RequestTimeout maybe
        9000 done - -
    """,
    "killed": """
        1000 life 81 -
        2000 begin k.1 1
        2500 life 82 -
        3000 begin k.2 1
        4050 end k.2 RequestTimeout no
        9000 done - -
    """,
    "p": """
        1000 life 90 -
        2900 accept p:0 -
        3050 accept p:1 -
        3060 accept p:2 -
        9000 counted p 3 3 0 0
        9000 done - -
    """,
}


def history(folder: Path, who: str = "", line: str = "", becomes: str = "") -> History:
    """The good history; in that of ``who``, ``line`` is replaced."""
    for name, text in GOOD.items():
        lines = [each.strip() for each in text.strip().splitlines()]
        if name == who:
            assert lines.count(line) == 1
            at = lines.index(line)
            lines[at : at + 1] = becomes.splitlines()
        written = ""
        for each in lines:
            ms, rest = each.split(" ", 1)
            written += f"{int(ms) * 1_000_000} {rest}\n"
        (folder / f"{name}.ledger").write_text(written)
    return History(lives_in(folder))


def test_a_good_history_is_good(tmp_path: Path) -> None:
    """With a server that was killed while it ran, an asker that was, and a push taken again."""
    good = history(tmp_path)
    assert good.violations() == []
    assert good.outcomes() == {"reply": 2, "TargetLost": 1, "NoHandler": 1, "RequestTimeout": 2}
    assert good.early() == []
    assert good.lateness_s()[-1] == pytest.approx(0.05)
    assert len(good.lives) == 6


PLANTED = {
    "no end": ("P1", "e.1", "engine", "2300 end e.1 reply e.1 server 70", ""),
    "two ends": (
        "P1", "e.2", "engine", "5000 end e.2 TargetLost maybe",
        "5000 end e.2 TargetLost maybe\n5050 end e.2 RequestTimeout maybe",
    ),
    "two ends, one killed": (
        "P1", "k.1", "killed", "2000 begin k.1 1",
        "2000 begin k.1 1\n2100 end k.1 TargetLost maybe\n2200 end k.1 TargetLost maybe",
    ),
    "an end of nothing": (
        "P1", "e.9", "engine", "9000 done - -", "8999 end e.9 Cancelled maybe\n9000 done - -",
    ),
    "another's reply": (
        "P1", "e.1", "engine", "2300 end e.1 reply e.1 server 70",
        "2300 end e.1 reply e.3 server 70",
    ),
    "a wrong no": (
        "P4", "e.2", "engine", "5000 end e.2 TargetLost maybe", "5000 end e.2 TargetLost no",
    ),
    "a wrong yes": (
        "P4", "e.4", "engine", "5200 end e.4 NoHandler no", "5200 end e.4 HandlerError yes",
    ),
    "a reply of nobody": ("P4", "e.3", "server", "7100 start e.3 -", ""),
    "a reply before its end": ("P4", "e.3", "server", "7200 end e.3 -", "7350 end e.3 -"),
    "a reply of another life": (
        "P4", "e.3", "engine", "7300 end e.3 reply e.3 server 71",
        "7300 end e.3 reply e.3 server 70",
    ),
    "two starts": (
        "P5", "e.3", "server", "7100 start e.3 -", "7100 start e.3 -\n7150 start e.3 -",
    ),
    "a lost push": ("P7", "p:2", "server", "8100 push p:2 -", ""),
    "a miscounted bus": ("P7", "p", "p", "9000 counted p 3 3 0 0", "9000 counted p 3 2 0 0"),
    "an unheard accept": ("P7", "p", "p", "9000 counted p 3 3 0 0", "9000 counted p 4 4 0 0"),
    "a push taken twice": (
        "P7", "p:0", "server", "3100 push p:1 -", "3050 push p:0 -\n3100 push p:1 -",
    ),
    "a push out of order": (
        "P7", "p:0", "server", "3000 push p:0 -\n".strip(), "2950 push p:1 -\n3000 push p:0 -",
    ),
    "a push before the one before": (
        "P7", "p:1", "server", "3000 push p:0 -", "2990 push p:1 -\n3000 push p:0 -",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_broken_promise_is_found(tmp_path: Path, name: str) -> None:
    """And blamed on the promise and the request or push that it is about."""
    promise, key, who, line, becomes = PLANTED[name]
    found = history(tmp_path, who, line, becomes).violations()
    assert (promise, key) in [violation[:2] for violation in found], found
    assert {violation.promise for violation in found} == {promise}


def test_a_repeat_in_another_life_is_no_second_start(tmp_path: Path) -> None:
    """P5 is for one life of a server: what a killed one had begun, another may begin anew."""
    again = "7100 start e.3 -\n7150 start e.2 -\n7160 end e.2 -"
    assert history(tmp_path, "server", "7100 start e.3 -", again).violations() == []


def test_a_dropped_push_need_not_be_taken(tmp_path: Path) -> None:
    """Where its sender's bus says so."""
    dropped = history(tmp_path, "server", "8100 push p:2 -", "")
    for life in dropped.lives:
        life.entries = [
            entry._replace(rest="3 2 1 0") if entry.event == "counted" else entry
            for entry in life.entries
        ]
    assert dropped.violations() == []


def test_a_timeout_before_its_time_is_found(tmp_path: Path) -> None:
    """And how late each of the others was."""
    wrong = "8300 end e.5 RequestTimeout maybe"
    found = history(tmp_path, "engine", "8400 end e.5 RequestTimeout maybe", wrong)
    assert found.early() == ["e.5"]
    late = "8900 end e.5 RequestTimeout maybe"
    found = history(tmp_path, "engine", "8400 end e.5 RequestTimeout maybe", late)
    assert found.early() == []
    assert found.lateness_s()[-1] == pytest.approx(0.5)


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    """A process that was killed while it wrote has noted what it had written whole."""
    history(tmp_path)
    with (tmp_path / "engine.ledger").open("a") as file:
        file.write("99999 beg")
    assert History(lives_in(tmp_path)).violations() == []
