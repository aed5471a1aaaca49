"""Bytes of others, thousands of kinds: every place where they come in stands them (P13)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

import fuzz
import fuzz_targets
from zbus.protocol.codec import decode

ROOT = Path(__file__).resolve().parent.parent
INPUTS = {"message": 60_000, "header": 40_000, "hello": 40_000, "body": 60_000}
SLOW_INPUTS = 20_000
"""For the machines, whose inputs take longer."""
SEED = 24


@pytest.mark.parametrize("target", fuzz_targets.TARGETS)
def test_p13_the_corpus_is_stood(target: str) -> None:
    """What was found once, and what reaches each part of the code, as it was written."""
    corpus = fuzz.corpus_of(target)
    assert len(corpus) >= 5
    for raw in corpus:
        fuzz.attempt(target, raw)


@pytest.mark.slow
@pytest.mark.parametrize("target", fuzz_targets.TARGETS)
def test_p13_broken_inputs_are_stood(target: str) -> None:
    """The same tens of thousands each time; tools/fuzz.py tries others, as long as one likes."""
    inputs = INPUTS.get(target, SLOW_INPUTS)
    assert fuzz.fuzz(target, SEED, inputs) == inputs


def test_every_kept_input_is_one_of_a_target() -> None:
    """And is small; a folder with another name would be tried by nobody."""
    kept = {path.parent.name for path in fuzz.CORPUS.rglob("*.*")}
    assert kept <= set(fuzz_targets.TARGETS)
    assert all(path.suffix == ".bin" for path in fuzz.CORPUS.rglob("*") if path.is_file())
    assert sum(path.stat().st_size for path in fuzz.CORPUS.rglob("*.bin")) < 200_000


def test_broken_inputs_reach_both_sides_of_the_decoder() -> None:
    """Most are refused and some are taken, or the rest of the code would never be fuzzed."""
    taken = 0
    mutator = fuzz.Mutator(fuzz.corpus_of("message"), SEED)
    for raw in islice(mutator.inputs(), 5_000):
        taken += fuzz_targets._decoded(fuzz_targets.frames_of(raw)) is not None
    assert 250 <= taken <= 4_000


def test_a_seed_makes_the_same_inputs() -> None:
    """So that a finding can be had again; and another seed makes others."""
    first, again, other = (
        list(islice(fuzz.Mutator([b"abcdef" * 9], seed).inputs(), 200)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_frames_survive_as_bytes() -> None:
    """And any bytes are frames."""
    for frames in ([], [b""], [b"a"], [b"", b"a", bytes(1_000), b"\x00\x01"], [b"x"] * 256):
        assert fuzz_targets.frames_of(fuzz_targets.bytes_of(frames)) == frames
    assert fuzz_targets.frames_of(b"\x01\x00\x09ab") == [b"ab", b""]
    assert fuzz_targets.frames_of(b"\xff") == [b""]


def _planted(raw: bytes) -> None:
    assert b"\xc1" not in raw, "a byte that it does not stand"


@pytest.mark.parametrize("how", ["an assertion", "an exception of the decoder's"])
def test_a_fault_is_found_and_shown(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """With its bytes, which are enough to have it again."""
    target: Callable[[bytes], None] = _planted
    if how != "an assertion":
        monkeypatch.setattr(fuzz_targets, "decode", _unsafe)
        target = fuzz_targets.message
    monkeypatch.setitem(fuzz_targets.TARGETS, "message", target)
    with pytest.raises(fuzz.Finding) as found:
        fuzz.fuzz("message", SEED, 50_000)
    assert found.value.raw.hex() in str(found.value)
    with pytest.raises(fuzz.Finding):
        fuzz.attempt("message", found.value.raw)


def _unsafe(frames: fuzz_targets.Frames) -> object:
    """A decoder that believes that there is a header."""
    return decode(frames) if frames[0][:1] else None


def test_the_program_says_what_it_tried_and_fails_for_a_finding(tmp_path: Path) -> None:
    """Exit code 0 and a line a target; 1, and the bytes, where one is not stood."""
    command = [sys.executable, "tools/fuzz.py", "header", "--inputs", "500", "--seed", "3"]
    good = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith("header: 500 inputs from seed 3")
    planted = (
        "import sys; sys.path[:0] = ['tools', '.']; import fuzz, fuzz_targets\n"
        "fuzz_targets.TARGETS['header'] = lambda raw: 1 // len(raw)\n"
        "sys.exit(fuzz.main(['header', '--inputs', '5000', '--seed', '3']))"
    )
    bad = subprocess.run(
        [sys.executable, "-c", planted], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert bad.returncode == 1
    assert "seed 3: header: ZeroDivisionError" in bad.stderr
