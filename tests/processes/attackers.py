"""What the attackers of a test do, each in a process of its own, over tcp.

Started by ``python -m processes.attackers GO WHAT PORT ...``. Each begins when there is a file GO,
so that what it takes to start it is no part of the attack, and is nobody's first concern: a real
one has processors of its own. What it found out is on its standard output.

* ``garbage PORT COUNT RATE``: connections of bytes that are no ZeroMQ, are some at first, or lie
  about their length; in waves of a second, between which is one of calm. Tells when each was.
* ``silent PORT COUNT``: connects and says nothing; tells how many were closed, and when.
* ``mute PORT COUNT KIND``: goes through the handshake of a broker without a key, and says nothing.
* ``half PORT COUNT``: the greeting of ZeroMQ, and half of a frame of nearly a mebibyte.
* ``bomb PORT BYTES FRAME KIND``: one message that does not end, as a peer without a key sends it.
* ``peer_mute PORT COUNT KEY SERVER_KEY``: as ``mute``, with a key that is trusted.
* ``peer_bomb PORT FRAMES FRAME KEY SERVER_KEY``: the same, encrypted, by a key that is trusted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import select
import socket
import struct
import time
from pathlib import Path

import zmq

from zbus.broker.keys import read_public, read_secret

_WHAT = ("garbage", "silent", "mute", "half", "bomb", "peer_mute", "peer_bomb")
_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00"


def greeting(mechanism: bytes) -> bytes:
    """64 bytes: ZMTP 3.0 with this mechanism, as a client."""
    return (_GREETING + mechanism.ljust(20, b"\0")).ljust(64, b"\0")


def opening(kind: bytes = b"DEALER") -> bytes:
    """Greeting and handshake of a socket without a key."""
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
    return greeting(b"NULL") + bytes((4, len(ready))) + ready


def shake_hands(peer: socket.socket, kind: bytes = b"DEALER") -> None:
    """Go through the handshake; to send anything before it is over is an error."""
    peer.sendall(opening(kind))
    ready = _received(peer, 66)[-1]
    _received(peer, ready)


def _received(peer: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = peer.recv(size - len(found))
        assert piece, "the broker hung up"
        found += piece
    return found


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10.0)


def garbage(port: int, count: int, rate: float) -> None:
    """See above."""
    dice = random.Random(count)
    for wave in range(round(count / rate)):
        began = time.monotonic()
        for number in range(round(rate)):
            time.sleep(max(began + number / rate - time.monotonic(), 0.0))
            with _connected(port) as each, contextlib.suppress(OSError):  # it may be cut already
                each.sendall(_garbage(dice, number + wave))
        print(f"wave {began:.3f} {time.monotonic():.3f}", flush=True)
        time.sleep(1.0)


def _garbage(dice: random.Random, number: int) -> bytes:
    noise = dice.randbytes(dice.randrange(1, 600))
    kinds = (
        noise,
        greeting(b"CURVE") + noise,
        greeting(b"NULL") + noise,
        greeting(b"CURVE") + b"\x04\xc8\x05HELLO" + noise,
        opening() + noise,
        b"\x01\x00" + noise,  # ZMTP 1.0
        greeting(b"CURVE") + b"\x06" + struct.pack(">Q", 1 << 62),
    )
    return kinds[number % len(kinds)]


def silent(port: int, count: int, beginning: bytes = b"") -> None:
    """See above."""
    every = [_connected(port) for _ in range(count)]
    for each in every:
        each.sendall(beginning)
    began = time.monotonic()
    poll = select.poll()
    for each in every:
        poll.register(each, select.POLLRDHUP)
    left = {each.fileno() for each in every}
    while left and time.monotonic() - began < 60.0:
        for descriptor, _ in poll.poll(1_000):
            poll.unregister(descriptor)
            left.discard(descriptor)
    print(f"closed {count - len(left)} {time.monotonic() - began:.3f}", flush=True)


def half(port: int, count: int) -> None:
    """See above."""
    size = 1_000_000
    frame = b"\x06" + struct.pack(">Q", size) + bytes(size // 2)
    silent(port, count, greeting(b"CURVE") + frame)


def bomb(port: int, size: int, frame: int, kind: bytes) -> None:
    """See above."""
    one = (b"\x03" + struct.pack(">Q", frame) if frame > 255 else bytes((1, frame))) + bytes(frame)
    piece = one * max(1, 65_536 // len(one))
    sent = 0
    with _connected(port) as peer:
        shake_hands(peer, kind)
        try:
            while sent < size:
                peer.sendall(piece)
                sent += len(piece)
        except OSError:
            print(f"cut {sent}", flush=True)
        else:
            print(f"sent {sent}", flush=True)


def peer_bomb(port: int, frames: int, frame: int, key: Path, server_key: Path) -> None:
    """See above. ZeroMQ hands a message over when it is complete, and this one is enormous."""
    context = zmq.Context()
    peer = _friend(context, key, server_key)
    monitor = peer.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
    peer.connect(f"tcp://127.0.0.1:{port}")
    _heard(monitor, zmq.EVENT_HANDSHAKE_SUCCEEDED)
    body = bytes(frame)
    for _ in range(frames):
        peer.send(body, zmq.SNDMORE, copy=frame < 1_000)
    print("sending", flush=True)
    began = time.monotonic()
    peer.send(b"")
    _heard(monitor, zmq.EVENT_DISCONNECTED)
    print(f"cut after {time.monotonic() - began:.3f}", flush=True)


def peer_mute(port: int, count: int, key: Path, server_key: Path) -> None:
    """See above."""
    context = zmq.Context()
    context.max_sockets = 4 * count
    peers = [_friend(context, key, server_key) for _ in range(count)]
    monitors = [peer.get_monitor_socket(zmq.EVENT_ALL) for peer in peers]
    for peer in peers:
        peer.connect(f"tcp://127.0.0.1:{port}")
    for monitor in monitors:
        _heard(monitor, zmq.EVENT_HANDSHAKE_SUCCEEDED)
    began = time.monotonic()
    for monitor in monitors:
        _heard(monitor, zmq.EVENT_DISCONNECTED)
    print(f"closed {count} {time.monotonic() - began:.3f}", flush=True)


def _friend(
    context: zmq.Context[zmq.Socket[bytes]], key: Path, server_key: Path
) -> zmq.Socket[bytes]:
    peer = context.socket(zmq.DEALER)
    secret = read_secret(key)
    peer.curve_publickey, peer.curve_secretkey = secret.public.encode(), secret.secret.encode()
    peer.curve_serverkey = read_public(server_key).public.encode()
    peer.linger = 0
    peer.reconnect_ivl = -1
    return peer


def _heard(monitor: zmq.Socket[bytes], event: int) -> None:
    while struct.unpack("=H", monitor.recv()[:2])[0] != event:
        monitor.recv()
    monitor.recv()


def main() -> None:
    """Attack as the command line says."""
    os.nice(19)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    parser = argparse.ArgumentParser()
    parser.add_argument("go", type=Path)
    parser.add_argument("what", choices=_WHAT)
    parser.add_argument("port", type=int)
    parser.add_argument("numbers", nargs="*")
    given = parser.parse_args()
    more = given.numbers
    print("ready", flush=True)
    while not given.go.exists():
        time.sleep(0.01)
    if given.what == "garbage":
        garbage(given.port, int(more[0]), float(more[1]))
    elif given.what == "peer_bomb":
        peer_bomb(given.port, int(more[0]), int(more[1]), Path(more[2]), Path(more[3]))
    elif given.what == "peer_mute":
        peer_mute(given.port, int(more[0]), Path(more[1]), Path(more[2]))
    elif given.what == "bomb":
        bomb(given.port, int(more[0]), int(more[1]), more[2].encode())
    elif given.what == "mute":
        silent(given.port, int(more[0]), opening(more[1].encode()))
    else:
        (silent if given.what == "silent" else half)(given.port, int(more[0]))


if __name__ == "__main__":
    main()
