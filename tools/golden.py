"""The golden messages of ZBP/1, by an encoder that shares nothing with zbus but the specification.

Rules of this room:

* Frames are built by hand with msgpack from the tables below, which were copied from section 4
  of the specification by eye. Nothing here imports zbus.
* A golden message is changed only together with the version in the signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import msgpack

Value: TypeAlias = "int | str | bytes | bool | list[Value]"

SIGNATURE = b"ZBP\x01"
KINDS: dict[str, tuple[int, str]] = {
    "Hello": (1, "name role epoch topics window proof"),
    "Welcome": (2, "session broker heartbeat_ms body_max open_max push_window pipe object_max"),
    "Heartbeat": (3, ""),
    "Bye": (4, "cause text"),
    "Request": (
        5,
        "source epoch number topic target ttl_ms flags floor open trace body frames",
    ),
    "Reply": (6, "source epoch number body frames"),
    "Fault": (7, "source epoch number code executed retry_after_ms text"),
    "Cancel": (8, "source epoch number"),
    "Push": (9, "session source epoch topic sequence floor bodies frames"),
    "Credit": (10, "source epoch topic taken window rewind"),
    "Serve": (11, "added withdrawn"),
    "Offer": (12, "source epoch number body"),
    "Accept": (13, "source epoch number reply next window rewind"),
    "Chunk": (14, "source epoch number reply index check frames"),
    "Done": (15, "source epoch number"),
}


@dataclass(frozen=True, slots=True)
class Statement:
    """One item: its kind, and its fields in wire order."""

    kind: str
    fields: tuple[Value, ...] = ()

    @property
    def tag(self) -> int:
        return KINDS[self.kind][0]

    @property
    def named(self) -> dict[str, Value]:
        return dict(zip(KINDS[self.kind][1].split(), self.fields, strict=True))

    @property
    def array(self) -> list[Value]:
        return [self.tag, *self.fields]


@dataclass(frozen=True, slots=True)
class Golden:
    """One message that every peer must read like this, and must write like this."""

    name: str
    clause: str
    says: str
    items: tuple[Statement, ...]
    body_frames: tuple[bytes, ...] = ()

    @property
    def frames(self) -> tuple[bytes, ...]:
        header = SIGNATURE + pack([item.array for item in self.items])
        return (header, *self.body_frames)


@dataclass(frozen=True, slots=True)
class Refused:
    """Frames that no peer may take."""

    name: str
    clause: str
    frames: tuple[bytes, ...]


def pack(value: Value) -> bytes:
    """A value in MessagePack's shortest form, text as str and bytes as bin."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def item(kind: str, *fields: Value) -> Statement:
    """An item of this kind; fields in wire order."""
    return Statement(kind, fields)


# -- the examples ---------------------------------------------------------------------------

BIGGEST = 2**63 - 1
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ASKED = item("Request", "engine-1", 1, 7, "echo", "", 2_000, 0, 7, [], "", b"hi", 0)
ANSWERED = item("Reply", "engine-1", 1, 7, b"hi", 0)
ATTACHING = (
    Golden(
        "hello-engine",
        "4.1",
        "An engine attaches; it serves nothing and proves nothing.",
        (item("Hello", "engine-1", 0, 1, [], 16, b""),),
    ),
    Golden(
        "hello-server",
        "4.1",
        "A server in its third life attaches and proves who it is.",
        (item("Hello", "server", 1, 3, ["echo", "job.submit"], 1_024, b"\x00secret\xff"),),
    ),
    Golden(
        "welcome",
        "4.2",
        "The broker takes a peer in.",
        (
            item(
                "Welcome",
                1,
                1_764_000_000_000,
                1_000,
                1_048_576,
                16_384,
                1_024,
                ["ipc:///run/zbus/pipe", "tcp://127.0.0.1:5571"],
                4_294_967_296,
            ),
        ),
    ),
    Golden("heartbeat", "4.3", "I live.", (item("Heartbeat"),)),
    Golden("bye-closed", "4.4", "A peer leaves.", (item("Bye", 0, ""),)),
    Golden(
        "bye-superseded",
        "4.4",
        "The broker tells an older life that a newer one took over.",
        (item("Bye", 3, "a newer start of engine-1 took over"),),
    ),
    Golden(
        "serve",
        "4.11",
        "A peer serves one more topic, and another no longer.",
        (item("Serve", ["model.train"], ["echo"]),),
    ),
)
ASKING = (
    Golden("request", "4.5", "engine-1 asks whoever serves echo, and waits at most 2 s.", (ASKED,)),
    Golden(
        "request-to-a-name",
        "4.5",
        "A repeat to a named peer, with a straggler and a trace.",
        (
            item(
                "Request",
                "server",
                3,
                4_711,
                "job.abort",
                "engine-1",
                250,
                1,
                4_700,
                [12],
                TRACE,
                b"",
                0,
            ),
        ),
    ),
    Golden(
        "request-wait",
        "4.5",
        "Tell me as soon as somebody serves this (WAIT and PROBE).",
        (item("Request", "engine-1", 1, 8, "model.train", "", 30_000, 12, 7, [], "", b"", 0),),
    ),
    Golden(
        "request-frames",
        "4.5",
        "Part of the body is in its item, two parts are frames.",
        (item("Request", "engine-1", 1, 9, "model.train", "", 60_000, 0, 9, [], "", b"\x92", 2),),
        (b"\x00" * 8, b"weights"),
    ),
    Golden(
        "request-biggest",
        "3.4",
        "Every integer at its maximum, every text at its longest.",
        (
            item(
                "Request",
                "n" * 255,
                BIGGEST,
                BIGGEST,
                "t" * 255,
                "n" * 255,
                2**53,
                31,
                BIGGEST,
                [BIGGEST] * 64,
                "0" * 64,
                b"\xff",
                0,
            ),
        ),
    ),
    Golden("reply", "4.6", "The answer to the request above.", (ANSWERED,)),
    Golden(
        "reply-frames",
        "4.6",
        "An answer whose body is a frame.",
        (item("Reply", "engine-1", 1, 9, b"", 1),),
        (b"weights",),
    ),
    Golden(
        "fault-no-handler",
        "4.7",
        "Nobody serves that topic; it was not run.",
        (item("Fault", "engine-1", 1, 7, 104, 0, 0, 'no peer serves "nobody"'),),
    ),
    Golden(
        "fault-handler",
        "4.7",
        "The handler ran, and raised.",
        (item("Fault", "engine-1", 1, 7, 401, 2, 0, "ValueError: n\u00e9e \u2014 \U0001f41d"),),
    ),
    Golden(
        "fault-again",
        "4.7",
        "Send the same id again in 100 ms.",
        (item("Fault", "engine-1", 1, 7, 1, 0, 100, ""),),
    ),
    Golden("cancel", "4.8", "The caller gave up.", (item("Cancel", "engine-1", 1, 7),)),
)
PUSHING = (
    Golden(
        "push",
        "4.9",
        "Pushes 41 to 43 of a lane; all before 41 are settled.",
        (item("Push", 1, "engine-1", 1, "metrics.cpu", 41, 41, [b"\x01", b"\x02", b""], []),),
    ),
    Golden(
        "push-frames",
        "4.9",
        "Of two bodies, the second has two frames.",
        (item("Push", 0, "engine-1", 1, "metrics.gpu", 1, 1, [b"a", b"b"], [0, 2]),),
        (b"first", b"second"),
    ),
    Golden(
        "credit",
        "4.10",
        "All pushes up to 43 are settled; 1024 more may be under way.",
        (item("Credit", "engine-1", 1, "metrics.cpu", 43, 1_024, False),),
    ),
    Golden(
        "credit-rewind",
        "4.10",
        "Everything above 43 is to be sent again.",
        (item("Credit", "engine-1", 1, "metrics.cpu", 43, 1_024, True),),
    ),
    Golden(
        "credit-unserved",
        "4.10",
        "Nobody serves the topic: keep what you have.",
        (item("Credit", "engine-1", 1, "metrics.cpu", 0, 0, False),),
    ),
)
MANIFEST = pack([1_048_576, [29, 2_097_152], 0x1D2C_3B4A])
LARGE = (
    Golden(
        "request-large",
        "14.1",
        "A body of 29 bytes and of a frame of 2 MiB, in chunks of 1 MiB: the manifest (LARGE).",
        (item("Request", "engine-1", 1, 10, "echo", "", 9_000, 16, 10, [], "", MANIFEST, 0),),
    ),
    Golden(
        "offer",
        "14.1",
        "The answer is as large; the body is its manifest.",
        (item("Offer", "engine-1", 1, 10, MANIFEST),),
    ),
    Golden(
        "accept",
        "14.3",
        "The handler has chunks 0 and 1 of the argument; 8 more may be under way.",
        (item("Accept", "engine-1", 1, 10, False, 2, 8, False),),
    ),
    Golden(
        "accept-rewind",
        "14.3",
        "The source asks for the reply from its beginning.",
        (item("Accept", "engine-1", 1, 10, True, 0, 8, True),),
    ),
    Golden(
        "chunk",
        "14.2",
        "The whole of a small body, in two frames; the check is the CRC-32 of both.",
        (item("Chunk", "engine-1", 1, 10, False, 0, 0xCBF4_3926, 2),),
        (b"1234", b"56789"),
    ),
    Golden("done", "14.4", "The source has all of the reply.", (item("Done", "engine-1", 1, 10),)),
)
TOGETHER = (
    Golden(
        "batch",
        "2.3",
        "Four items in one message; the frames follow in their order.",
        (
            item("Reply", "engine-1", 1, 9, b"", 1),
            item("Heartbeat"),
            item("Request", "server", 3, 1, "stop", "engine-1", 500, 0, 1, [], "", b"", 1),
            item("Push", 0, "engine-2", 1, "metrics.cpu", 1, 1, [b"x"], []),
        ),
        (b"frame of the reply", b"frame of the request"),
    ),
)
GOLDEN = (*ATTACHING, *ASKING, *PUSHING, *LARGE, *TOGETHER)


def headed(raw: bytes) -> tuple[bytes, ...]:
    """One frame: the signature, and these bytes."""
    return (SIGNATURE + raw,)


def said(*items: Value) -> tuple[bytes, ...]:
    """One frame: the signature, and these values as items."""
    return headed(pack(list(items)))


LONG_FORMS = (
    # The cancel above, each integer in eight bytes and each length in four (clause 2.3).
    SIGNATURE
    + b"\xdd\x00\x00\x00\x01\xdd\x00\x00\x00\x04\xcf"
    + (8).to_bytes(8, "big")
    + b"\xdb\x00\x00\x00\x08engine-1\xd3"
    + (1).to_bytes(8, "big")
    + b"\xcf"
    + (7).to_bytes(8, "big"),
)
REFUSED = (
    Refused("no-frames", "2.3", ()),
    Refused("empty-frame", "2.2", (b"",)),
    Refused("no-signature", "2.2", (pack([[3]]),)),
    Refused("version-2", "2.2", (b"ZBP\x02" + pack([[3]]),)),
    Refused("signature-only", "2.3", (SIGNATURE,)),
    Refused("no-items", "2.3", said()),
    Refused("too-many-items", "3.4", headed(b"\xdc\x04\x01" + b"\x91\x03" * 1_025)),
    Refused("not-a-list", "2.3", headed(pack(3))),
    Refused("item-not-a-list", "2.3", said(3)),
    Refused("item-without-kind", "2.3", said([])),
    Refused("truncated", "3.1", (SIGNATURE + pack([ASKED.array])[:-1],)),
    Refused("trailing-byte", "3.1", (SIGNATURE + pack([[3]]) + b"\x00",)),
    Refused("reserved-byte", "3.1", headed(b"\x91\xc1")),
    Refused("unknown-kind", "3.2", said([16])),
    Refused("kind-zero", "3.2", said([0])),
    Refused("kind-is-a-float", "3.1", said([float(3)])),  # type: ignore[list-item]
    Refused("surplus-field", "3.2", said([3, 0])),
    Refused("missing-field", "3.2", said([8, "engine-1", 1])),
    Refused("text-for-bytes", "3.1", said([6, "engine-1", 1, 7, "hi", 0])),
    Refused("bytes-for-text", "3.1", said([8, b"engine-1", 1, 7])),
    Refused(
        "float-for-integer",
        "3.1",
        headed(b"\x91\x94\x08\xa8engine-1\xcb" + b"\x3f\xf0\x00\x00\x00\x00\x00\x00\x07"),
    ),
    Refused("not-utf-8", "3.1", headed(b"\x91\x94\x08\xa1\xff\x01\x07")),
    Refused("extension", "3.1", headed(b"\x91\x94\x08\xa1a\xd4\x05\x00\x07")),
    Refused("negative", "3.4", said([8, "engine-1", 1, -1])),
    Refused("above-63-bits", "3.4", said([8, "engine-1", 1, 2**63])),
    Refused("array-of-4-billion", "3.4", headed(b"\x91\x93\x0b\xdd\xff\xff\xff\xff")),
    Refused("nested-2000-deep", "3.1", headed(b"\x91" * 2_000 + b"\xc0")),
    Refused("name-too-long", "3.5", said([8, "n" * 256, 1, 7])),
    Refused("name-out-of-grammar", "3.5", said([1, "engine 1", 0, 1, [], 16, b""])),
    Refused("name-with-newline", "3.5", said([1, "engine\n", 0, 1, [], 16, b""])),
    Refused("name-empty", "3.5", said([1, "", 0, 1, [], 16, b""])),
    Refused("topic-with-wildcard", "3.5", said([11, ["job.*"], []])),
    Refused("topic-reserved", "3.5", said([11, ["zbus.status"], []])),
    Refused("unknown-role", "3.2", said([1, "engine-1", 2, 1, [], 16, b""])),
    Refused("unknown-cause", "3.2", said([4, 10, ""])),
    Refused("check-of-33-bits", "4.14", said([14, "e", 1, 7, False, 0, 2**32, 0])),
    Refused("counted-chunk-missing", "2.4", said([14, "e", 1, 7, False, 0, 0, 1])),
    Refused("unknown-flag", "3.2", said([5, "e", 1, 7, "echo", "", 1, 32, 7, [], "", b"", 0])),
    Refused("push-without-bodies", "4.9", said([9, 1, "e", 1, "t", 1, 1, [], []])),
    Refused("push-counts-other-bodies", "4.9", said([9, 1, "e", 1, "t", 1, 1, [b""], [0, 0]])),
    Refused("counted-frame-missing", "2.4", said([6, "e", 1, 7, b"", 1])),
    Refused("uncounted-frame", "2.4", (*said([3]), b"")),
    Refused("too-many-frames", "3.4", (*said([6, "e", 1, 7, b"", 65]), *[b""] * 65)),
)
