"""The golden messages, in both directions, and the page that is made from them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import msgpack
import pytest

import vectors
from zbus.errors import Malformed, every_error
from zbus.protocol.codec import OtherVersion, decode, encode
from zbus.protocol.message import NO_FRAMES, Cause, Chunk, Item, Parcel, Push, Reply, Request, Role

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT: dict[str, Any] = json.loads(vectors.VECTORS.read_text("utf-8"))
GOLDEN: dict[str, Any] = {golden["name"]: golden for golden in DOCUMENT["golden"]}
MALFORMED: dict[str, Any] = {refused["name"]: refused for refused in DOCUMENT["malformed"]}
KINDS: dict[str, type[Item]] = {kind.__name__: kind for kind in get_args(Item)}
PAGE = vectors.PAGE.read_text("utf-8")
HEADINGS = set(re.findall(r"^#{2,3} (\d+(?:\.\d+)?) ", PAGE, re.MULTILINE))
READ_AS: dict[str, Callable[[Any], object]] = {
    "proof": bytes.fromhex,
    "body": bytes.fromhex,
    "bodies": bytes.fromhex,
    "role": Role,
    "cause": Cause,
}


def frames_of(golden: dict[str, Any]) -> list[bytes | memoryview]:
    """The frames of an entry, from hexadecimal."""
    return [bytes.fromhex(frame) for frame in golden["frames"]]


def item_of(said: dict[str, Any]) -> Item:
    """The item that an entry says in words."""
    make: Callable[..., Item] = KINDS[said["kind"]]
    return make(**{name: _value(name, value) for name, value in said.items() if name != "kind"})


def _value(name: str, value: Any) -> object:
    if isinstance(value, list):
        return tuple(_value(name, one) for one in value)
    return READ_AS[name](value) if name in READ_AS else value


def parcels_of(golden: dict[str, Any]) -> list[Parcel]:
    """The items of an entry, each with the frames that are its own."""
    frames = frames_of(golden)[1:]
    parcels = []
    for item in map(item_of, golden["items"]):
        count = 0
        if isinstance(item, Request | Reply | Chunk):
            count = item.frames
        elif isinstance(item, Push):
            count = sum(item.frames)
        parcels.append(Parcel(item, tuple(frames[:count]) or NO_FRAMES))
        del frames[:count]
    assert not frames
    return parcels


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_messages_are_read(name: str) -> None:
    """Every golden message says to us what its entry says in words."""
    assert decode(frames_of(GOLDEN[name])) == parcels_of(GOLDEN[name])


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_messages_are_written(name: str) -> None:
    """We say it with the very same bytes."""
    assert encode(parcels_of(GOLDEN[name])) == frames_of(GOLDEN[name])


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_messages_are_refused(name: str) -> None:
    """What the golden file calls malformed is malformed; another version is told apart."""
    with pytest.raises(Malformed) as caught:
        decode(frames_of(MALFORMED[name]))
    assert isinstance(caught.value, OtherVersion) is (name == "version-2")


@pytest.mark.parametrize("also", DOCUMENT["also_valid"], ids=lambda also: str(also["like"]))
def test_longer_forms_are_read_alike(also: dict[str, Any]) -> None:
    """What nobody should write is read like the golden message that it says it is like."""
    assert decode(frames_of(also)) == parcels_of(GOLDEN[also["like"]])
    assert frames_of(also) != frames_of(GOLDEN[also["like"]])


def test_every_kind_has_a_golden_message() -> None:
    """Also each of the four kinds that may have frames has one with frames."""
    said = [(item["kind"], item.get("frames")) for one in GOLDEN.values() for item in one["items"]]
    assert {kind for kind, _ in said} == set(KINDS)
    assert {kind for kind, frames in said if frames} == {"Request", "Reply", "Push", "Chunk"}


def test_names_of_vectors_are_unique_and_clauses_exist() -> None:
    """A failure is found by its name, and its rule by its clause."""
    entries = DOCUMENT["golden"] + DOCUMENT["malformed"]
    assert len({entry["name"] for entry in entries}) == len(entries)
    assert {entry["clause"] for entry in entries} <= HEADINGS


def test_the_file_is_current() -> None:
    """``python tools/vectors.py`` would change nothing in it."""
    assert vectors.VECTORS.read_text("utf-8") == vectors.vectors()


def test_the_page_is_current() -> None:
    """``python tools/vectors.py`` would change nothing on the page."""
    assert vectors.page(PAGE) == PAGE


def test_the_encoder_of_the_vectors_is_not_ours() -> None:
    """The golden frames come from msgpack by hand, or their agreement would show nothing."""
    text = (ROOT / "tools" / "golden.py").read_text("utf-8")
    assert "zbus." not in re.sub(r'"[^"]*"', "", text)
    assert "msgspec" not in text
    header = frames_of(GOLDEN["request"])[0]
    assert msgpack.unpackb(header[4:])[0][:4] == [5, "engine-1", 1, 7]


def test_every_code_that_may_be_sent_is_on_the_page() -> None:
    """The table of codes has each error once, and none that only arises at the asker's side."""
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (\w+) \|", vectors.code_table(), re.MULTILINE)
    for error in every_error():
        row = (str(error.number), error.__name__, str(error.default_executed))
        assert (row in rows) is (error.number not in vectors.NEVER_SENT)
    assert vectors.code_table() in PAGE


def test_the_worked_example_is_made_of_golden_messages() -> None:
    """The bytes on the page, put together, are those of the request and its reply."""
    block = PAGE.partition("made by tools/vectors.py -->\n\n```\n")[2].partition("```")[0]
    for name, half in zip(("request", "reply"), block.split("\n\n"), strict=True):
        raw = "".join(line[:27] for line in half.splitlines())
        assert bytes.fromhex(raw) == frames_of(GOLDEN[name])[0]


def test_clauses_that_the_code_cites_exist() -> None:
    """Whoever follows a "spec 6.4" from the code finds a heading with that number."""
    cited: dict[str, set[str]] = {}
    for path in sorted((ROOT / "zbus").rglob("*.py")):
        for cite in re.findall(r"\bspec (?:section )?(\d[\d., to]*\d|\d)", path.read_text("utf-8")):
            for number in re.findall(r"\d+(?:\.\d+)?", cite):
                cited.setdefault(number, set()).add(path.relative_to(ROOT).as_posix())
    assert len(cited) >= 10
    unknown = {number: sorted(paths) for number, paths in cited.items() if number not in HEADINGS}
    assert not unknown


def test_clauses_of_the_page_lead_somewhere() -> None:
    """Every clause that the page itself refers to in brackets has its heading."""
    referred = set(re.findall(r"\((\d+\.\d+)(?:[,)])", PAGE))
    assert len(referred) >= 20
    assert referred <= HEADINGS
