"""The bench's own arithmetic: ratios of rounds, targets that are missed, and what it writes.

What it measures is measured by running it; here is what would let a wrong figure look right.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import compiled
import pytest
from actor import ROOT, BenchFailed
from orders import windowed
from page import BEGIN, END, between_markers
from plot import percentile_plot
from results import Results
from slices import MEASURES, percentile
from systems import RECIPES
from tables import markdown, plain
from targets import TARGETS, Target, Verdict, judged


def results_of(ours: list[float], theirs: list[float]) -> Results:
    results = Results()
    for system, rounds in (("ours", ours), ("theirs", theirs)):
        for value in rounds:
            results.add("sequential", system, {"p50_us": value})
    return results


def test_a_ratio_is_the_median_of_the_rounds_own() -> None:
    """Not the ratio of the medians: a round in which the machine was slow is slow for both."""
    results = results_of([10.0, 100.0, 30.0], [10.0, 50.0, 10.0])
    assert results.ratio(("sequential", "ours"), ("sequential", "theirs"), "p50_us") == 2.0
    assert results.median("sequential", "ours", "p50_us") == 30.0
    assert results.ratio(("sequential", "ours"), ("sequential", "nobody"), "p50_us") is None


@pytest.mark.parametrize(
    ("how", "value", "word"),
    [
        ("at most", 1.5, "met"),
        ("at most", 1.51, "MISSED"),
        ("at least", 1.5, "met"),
        ("at least", 1.49, "MISSED"),
        ("at most", None, "not measured"),
        ("at least", None, "not measured"),
    ],
)
def test_a_target_is_met_missed_or_not_measured(
    how: Literal["at most", "at least"], value: float | None, word: str
) -> None:
    """What could not be measured is no success."""
    target = Target("W1", "x", "sequential", "ours", "", "p50_us", how, 1.5)
    verdict = Verdict(target, value)
    assert verdict.word == word
    assert verdict.met == (word == "met")


def test_a_margin_is_for_both_kinds_of_bounds() -> None:
    """What CI forgives a noisy machine: a quarter more, or a quarter less."""
    kinds: dict[Literal["at most", "at least"], tuple[float, float]] = {
        "at most": (125.0, 126.0),
        "at least": (75.0, 74.0),
    }
    for how, (met, missed) in kinds.items():
        target = Target("W1", "x", "sequential", "ours", "", "p50_us", how, 100.0)
        assert [Verdict(target, value, 0.25).met for value in (met, missed)] == [True, False]
        assert not Verdict(target, met).met


def test_one_push_lost_in_one_round_is_a_loss() -> None:
    """A median would hide it."""
    results = Results()
    for lost in (0, 1, 0):
        results.add("pushes", "zbus tcp", {"lost": lost})
    (verdict,) = (
        verdict
        for verdict in judged(results, {"W4"})
        if verdict.target.figure == "lost" and verdict.target.measure == "pushes"
    )
    assert (verdict.value, verdict.met) == (1, False)


def test_every_target_is_of_something_that_is_measured() -> None:
    """Each has a workload of the twelve, and names systems and slices that there are."""
    assert {target.workload for target in TARGETS} == {f"W{number}" for number in range(1, 13)}
    for target in TARGETS:
        if target.measure in MEASURES:
            assert {target.ours, target.theirs} <= {*RECIPES, ""}, target


def test_what_could_not_be_measured_is_in_the_tables() -> None:
    """With the reason, for people and on the page."""
    results = Results(failures={"sequential: NATS": "no wheel for this machine"})
    results.add("sequential", "zbus ipc", {"p50_us": 7.0})
    for text in (plain(results, []), markdown(results, [], "plot.svg")):
        assert "NATS: no wheel for this machine" in text


def test_the_block_of_a_page_is_replaced_and_nothing_else() -> None:
    """A page without markers is an error, not a page that is never written."""
    page = f"head\n{BEGIN}\nold\n{END}\ntail\n"
    assert between_markers(page, "new") == f"head\n{BEGIN}\n\nnew\n\n{END}\ntail\n"
    assert between_markers(between_markers(page, "a"), "new") == between_markers(page, "new")
    for broken in ("head\n", f"{BEGIN}\n", f"{END}\n{BEGIN}\n"):
        with pytest.raises(BenchFailed):
            between_markers(broken, "new")
    assert between_markers(Path(ROOT, "docs/benchmarks.md").read_text("utf-8"), "new")


def test_the_plot_has_a_line_for_each_system() -> None:
    """It is XML, and no point is off the paper."""
    samples = {
        "one <&>": [float(value) for value in range(100, 5_100)],
        "two": [200.0] * 500,
    }
    root = ElementTree.fromstring(percentile_plot("A title", samples))
    lines = list(root.iter("{http://www.w3.org/2000/svg}polyline"))
    assert len(lines) == 2
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for line in lines:
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height


def test_percentiles_are_of_values_in_order() -> None:
    """The last one where there are too few."""
    ordered = [float(value) for value in range(100)]
    assert [percentile(ordered, share) for share in (0.0, 0.5, 0.99, 1.0)] == [0, 50, 99, 99]


def test_a_window_keeps_as_many_open_as_it_says() -> None:
    """Never more, and fewer only between two turns; all of them end."""
    open_now, most, ended = 0, 0, 0

    def begin() -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)

    def finish(_: None) -> None:
        nonlocal open_now, ended
        open_now -= 1
        ended += 1

    said = windowed(begin, finish, 16, 0.01)
    assert (most, open_now) == (16, 0)
    assert said["all"] == said["done"] + 16 == ended


def test_a_run_that_misses_a_target_fails_with_the_list(tmp_path: Path) -> None:
    """Exit code 1, each missed target on a line of standard error; JSON has them, too."""
    results = Results()
    for system, p50_us in (("zbus ipc", 100.0), ("NATS", 100.0)):
        results.add("sequential", system, {"p50_us": p50_us, "p99_us": p50_us, "took_us": [1.0]})
    run = tmp_path / "run.json"
    run.write_text(json.dumps({**results.plain(), "missed": []}), "utf-8")
    words = [sys.executable, "tools/bench", "--only", "W1", "--json", "--from", str(run)]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    missed = json.loads(ended.stdout)["missed"]
    assert "W1: zbus ipc, p50 to NATS: 1.00, at most 0.5: MISSED" in missed
    assert "W1: zbus ipc, p50 to Redis: -, at most 1: not measured" in missed
    assert all(line in ended.stderr for line in missed)


def test_what_cannot_be_compiled_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No pure figure stands for a compiled one; the message says how to have the pure one."""
    for name in (*compiled._FILES, "README.md", "LICENSE"):
        (tmp_path / name).write_text("raise SystemExit('no compiler')", "utf-8")
    for folder in ("zbus", "tools"):
        (tmp_path / folder).mkdir()
    shutil.copy(Path(ROOT, "tools/compile"), tmp_path / "tools")
    monkeypatch.setattr(compiled, "_ROOT", tmp_path)
    monkeypatch.setattr(compiled, "_TREE", tmp_path / "build" / "bench")
    with pytest.raises(BenchFailed, match=r"no compiler.*--as-it-is"):
        compiled.enter([])
    assert not (tmp_path / "build" / "bench" / "stamp").exists()


def test_a_copy_is_compiled_again_once_a_source_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A figure is of the source that stands there."""
    source = tmp_path / "zbus" / "room.py"
    source.parent.mkdir()
    source.write_text("1", "utf-8")
    for name in compiled._FILES:
        (tmp_path / name).write_text("", "utf-8")
    monkeypatch.setattr(compiled, "_ROOT", tmp_path)
    monkeypatch.setattr(compiled, "_TREE", tmp_path)
    before = compiled._stamp()
    (tmp_path / "stamp").write_text(before, "utf-8")
    assert compiled._is_made(compiled._stamp())
    source.write_text("2", "utf-8")
    assert not compiled._is_made(compiled._stamp())
