"""Addresses: what is refused, what is left alone, what is removed."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.errors import AlreadyRunning, ConfigError
from zbus.transport.address import (
    PATH_MAX_BYTES,
    OwnPath,
    check_address,
    check_vacant,
    refusal,
)


def listening(path: Path) -> socket.socket:
    """A socket that somebody listens on."""
    opened = socket.socket(socket.AF_UNIX)
    opened.bind(str(path))
    opened.listen(1)
    return opened


@pytest.mark.parametrize(
    "endpoint",
    [
        "ipc:///run/zbus/frontend",
        "ipc://relative",
        "ipc://@abstract",
        "ipc://" + "x" * PATH_MAX_BYTES,
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:65535",
        "tcp://[::1]:5555",
        "tcp://*:*",
    ],
)
def test_addresses_are_taken(endpoint: str) -> None:
    """Every address that ZeroMQ understands as it is written."""
    check_address(endpoint)


@given(st.text(max_size=20), st.sampled_from(["", "tcp://127.0.0.1:", "inproc://", "ipc:/"]))
def test_what_is_no_address_is_a_config_error(text: str, start: str) -> None:
    """Whatever is written, it is taken or refused by name, and a port above 65535 never taken."""
    endpoint = start + text
    try:
        check_address(endpoint)
    except ConfigError as refused:
        said = refused.what
    else:
        scheme, _, rest = endpoint.partition("://")
        port = rest.rpartition(":")[2]
        assert scheme == "ipc" or (scheme == "tcp" and (port == "*" or int(port) < 65_536))
        said = endpoint
    assert endpoint in said


@pytest.mark.parametrize("port", ["65536", "-1", "0x10", "1e3", "", "٣", "9" * 30])
def test_ports_are_not_taken_modulo(port: str) -> None:
    """ZeroMQ would bind another port than the one that is written."""
    with pytest.raises(ConfigError, match="port is a number up to 65535"):
        check_address(f"tcp://127.0.0.1:{port}")


def test_a_path_is_measured_in_bytes() -> None:
    """The kernel's bound is on bytes, not on letters."""
    with pytest.raises(ConfigError, match="longer than 107 bytes"):
        check_address("ipc://" + "é" * 54)


def test_nothing_there_is_vacant(runtime_dir: Path) -> None:
    """A path that does not exist, in a directory or not, is for ZeroMQ to judge."""
    check_vacant(f"ipc://{runtime_dir}/frontend")
    check_vacant(f"ipc://{runtime_dir}/no/directory")
    check_vacant("tcp://127.0.0.1:1")
    check_vacant("ipc://@abstract")


def test_a_live_socket_is_taken(runtime_dir: Path) -> None:
    """Somebody who listens is told apart from somebody who is busy, and neither is bound over."""
    path = runtime_dir / "frontend"
    with listening(path), pytest.raises(AlreadyRunning):
        check_vacant(f"ipc://{path}")
    path.unlink()
    with listening(path) as busy:
        busy.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(str(path))
        with pytest.raises(AlreadyRunning):
            check_vacant(f"ipc://{path}")
        for client in waiting:
            client.close()


def test_what_a_killed_process_left_is_vacant(runtime_dir: Path) -> None:
    """A socket file that nobody listens on is in nobody's way."""
    path = runtime_dir / "frontend"
    listening(path).close()
    check_vacant(f"ipc://{path}")
    assert path.exists()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_left_alone(runtime_dir: Path, kind: str) -> None:
    """ZeroMQ would delete the file that somebody named by mistake."""
    path = runtime_dir / "precious"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(runtime_dir)
    with pytest.raises(ConfigError, match="no socket"):
        check_vacant(f"ipc://{path}")


def test_every_number_has_words() -> None:
    """Whatever the system says, the error names the endpoint and says why."""
    for number in (0, *errno.errorcode):
        error = refusal("ipc:///x", number)
        assert "ipc:///x" in error.what
        assert isinstance(error, AlreadyRunning if number == errno.EADDRINUSE else ConfigError)


def test_only_our_own_file_is_removed(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of a bind is removed wherever the process has gone meanwhile, another never."""
    monkeypatch.chdir(runtime_dir)
    path = runtime_dir / "frontend"
    with listening(path):
        own = OwnPath.of("ipc://frontend")
        assert own is not None
        os.rename(path, runtime_dir / "ours")
        with listening(path):
            monkeypatch.chdir("/")
            own.unlink()
            assert path.exists()
        os.rename(runtime_dir / "ours", path)
        own.unlink()
        assert not path.exists()
        own.unlink()


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:1", "ipc://@abstract", "ipc://*"])
def test_what_has_no_file_has_none_to_remove(endpoint: str) -> None:
    """tcp, abstract names and ZeroMQ's own temporary files are not ours to remove."""
    assert OwnPath.of(endpoint) is None
