"""The runtime directory, endpoints, and where a broker may listen: zbus/transport/endpoints.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.transport.endpoints import (
    IPC_PATH_MAX_BYTES,
    ClientEndpoints,
    broker_endpoint,
    check_endpoint,
    check_listening,
    client_endpoints,
    default_runtime_dir,
    ipc_path,
)


@pytest.mark.parametrize(
    ("environ", "uid", "place"),
    [
        ({}, 0, "/run/zbus"),
        ({}, 1000, "/tmp/zbus-1000"),
        ({"XDG_RUNTIME_DIR": "/run/user/1000"}, 1000, "/run/user/1000/zbus"),
        ({"XDG_RUNTIME_DIR": "/run/user/0"}, 0, "/run/zbus"),
        ({"XDG_RUNTIME_DIR": ""}, 7, "/tmp/zbus-7"),
        ({"ZBUS_RUNTIME_DIR": "/srv/z", "XDG_RUNTIME_DIR": "/x"}, 1000, "/srv/z"),
        ({"ZBUS_RUNTIME_DIR": "/srv/z"}, 0, "/srv/z"),
        ({"ZBUS_RUNTIME_DIR": ""}, 0, "/run/zbus"),
    ],
)
def test_the_runtime_directory_follows_its_order(
    environ: dict[str, str], uid: int, place: str
) -> None:
    """The variable first, then root's place, then the session's, then one by user number."""
    assert Path(place) == default_runtime_dir(environ, uid)


def test_a_client_finds_what_a_broker_binds() -> None:
    """Without variables, a peer looks where a broker of the same user listens."""
    place = default_runtime_dir({}, 1000)
    expected = ClientEndpoints(
        frontend=broker_endpoint(place, "frontend"), backend=broker_endpoint(place, "backend")
    )
    assert expected == client_endpoints({}, 1000)


def test_variables_name_a_clients_endpoints() -> None:
    """``ZBUS_ENDPOINT`` and ``ZBUS_BACKEND`` win over the runtime directory, one by one."""
    environ = {
        "ZBUS_RUNTIME_DIR": "/srv/z",
        "ZBUS_ENDPOINT": "tcp://127.0.0.1:5",
        "ZBUS_BACKEND": "",
    }
    expected = ClientEndpoints(frontend="tcp://127.0.0.1:5", backend="ipc:///srv/z/backend")
    assert expected == client_endpoints(environ, 0)


@pytest.mark.parametrize(
    "endpoint",
    [
        "ipc:///run/zbus/frontend",
        "ipc:///a",
        "tcp://127.0.0.1:1",
        "tcp://[::1]:65535",
        "tcp://192.0.2.7:5555",
        "ipc:///" + "x" * (IPC_PATH_MAX_BYTES - 1),
    ],
)
def test_endpoints_of_the_grammar_pass(endpoint: str) -> None:
    """An absolute path, or a numeric address and a port."""
    assert endpoint == check_endpoint(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "frontend",
        "/run/zbus/frontend",
        "inproc://a",
        "udp://127.0.0.1:1",
        "IPC:///a",
        "ipc://",
        "ipc://relative",
        "ipc://@abstract",
        "ipc://*",
        "ipc:///run/",
        "ipc:///a\0b",
        "ipc:///" + "x" * IPC_PATH_MAX_BYTES,
        "ipc:///" + "é" * 54,
        "ipc:///run/zbus/broker.lock",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:*",
        "tcp://*:5555",
        "tcp://lo:5555",
        "tcp://localhost:5555",
        "tcp://::1:5555",
        "tcp://[]:5",
        "tcp://127.0.0.1;127.0.0.1:5",
        "tcp://127.0.0.1:5 ",
        "tcp://1.2.3:5",
        "tcp://[::1%lo]:5",
        "tcp://127.0.0.1:\u0665",
    ],
)
def test_other_endpoints_are_refused(endpoint: str) -> None:
    """No wildcard, interface, host name, abstract or too long path, or name of a lock file."""
    with pytest.raises(ValueError, match=r"\w"):
        check_endpoint(endpoint)


@given(st.text(max_size=200) | st.from_regex(r"(ipc|tcp)://[^\n]{0,130}(:\d{1,6})?"))
def test_any_text_is_an_endpoint_or_a_value_error(text: str) -> None:
    """What passes is what was given, and fits the kernel's room for a path."""
    try:
        assert text == check_endpoint(text)
    except ValueError:
        return
    path = ipc_path(text)
    assert path is None or len(str(path).encode()) <= IPC_PATH_MAX_BYTES


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:5555", "tcp://127.8.9.1:5", "tcp://[::1]:5"])
def test_p16_loopback_needs_the_operators_word(endpoint: str) -> None:
    """tcp on loopback is refused until somebody says insecure, and the message names it."""
    with pytest.raises(ValueError, match=r"insecure = true \(--insecure\)"):
        check_listening(endpoint, insecure=False)
    check_listening(endpoint, insecure=True)


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://0.0.0.0:5555",
        "tcp://192.0.2.7:5555",
        "tcp://[::]:5555",
        "tcp://[2001:db8::1]:5",
        "tcp://[::ffff:192.0.2.7]:5",
        "tcp://128.0.0.1:5",
    ],
)
@pytest.mark.parametrize("insecure", [False, True])
def test_p16_tcp_beyond_loopback_is_refused(endpoint: str, insecure: bool) -> None:
    """Whatever the operator says: it would be neither encrypted nor authenticated."""
    with pytest.raises(ValueError, match="open to the network"):
        check_listening(endpoint, insecure=insecure)


@given(st.ip_addresses(v=4), st.integers(1, 65_535))
def test_p16_no_address_but_loopback_is_listened_on(address: object, port: int) -> None:
    """Over all IPv4 addresses: only 127.0.0.0/8 passes."""
    try:
        check_listening(f"tcp://{address}:{port}", insecure=True)
    except ValueError:
        assert not str(address).startswith("127.")
    else:
        assert str(address).startswith("127.")


def test_ipc_needs_no_word() -> None:
    """Its directory guards it."""
    check_listening("ipc:///run/zbus/frontend", insecure=False)


def test_the_path_of_an_ipc_endpoint() -> None:
    """tcp has none."""
    assert Path("/run/zbus/pipe") == ipc_path("ipc:///run/zbus/pipe")
    assert ipc_path("tcp://127.0.0.1:5") is None
