"""Names of targets, and the peers behind them (contract section 3.2)."""

from __future__ import annotations

import pytest

from zbus.errors import InvalidName

pytest.importorskip("nvflare", reason="needs the extra nvflare")

from nvflare.apis.client import Client

from zbus.nvflare.targets import Directory, Target

pytestmark = pytest.mark.real

SITES = ("site-1", "site-2", "site-3")
HERE = Directory("site-1", "job-1", SITES)
SERVER = Target("server", "server.job-1")


def names(targets: list[Target]) -> list[str]:
    return [target.name for target in targets]


@pytest.mark.parametrize("nothing", [None, "", []])
def test_nothing_is_the_server(nothing: object) -> None:
    """For a client; for the server it is all clients."""
    assert HERE.of_client(nothing) == [SERVER]
    assert names(HERE.of_server(nothing or None)) == list(SITES)


def test_all_is_everybody_else() -> None:
    """The server and every other client."""
    assert names(HERE.of_client("@ALL")) == ["server", "site-2", "site-3"]


def test_one_or_several_names() -> None:
    """A str is one name for a client, a list several; twice is once."""
    assert HERE.of_client("site-2") == [Target("site-2", "site-2.job-1")]
    assert names(HERE.of_client(["site-2", "site-3", "site-2"])) == ["site-2", "site-3"]


def test_the_server_in_any_case() -> None:
    """ "server" has one key in the answer; its parent has the name that was asked for."""
    assert HERE.of_client("SERVER") == [SERVER]
    assert HERE.of_client("Server_Parent") == [Target("Server_Parent", "server")]


def test_an_unknown_name_keeps_its_entry() -> None:
    """It has no address, and the others have theirs."""
    assert HERE.of_client(["nobody", "site-2"])[0] == Target("nobody", None)
    assert HERE.of_server(["nobody"]) == [Target("nobody", None)]


@pytest.mark.parametrize("wrong", [[1], [None], 7, {"site-1": 1}])
def test_other_types_are_refused(wrong: object) -> None:
    """By both; and the server takes no str."""
    for resolve in (HERE.of_client, HERE.of_server):
        with pytest.raises(TypeError):
            resolve(wrong)
    with pytest.raises(TypeError):
        HERE.of_server("site-1")


def test_clients_by_name_or_as_they_are() -> None:
    """A Client keeps its token, and is found by its peer's name in this job only."""
    directory = Directory("server", "job-1", ["site-1", Client("site-2", "token")])
    assert directory.clients["site-2"].get_token() == "token"
    assert directory.client_at("site-2.job-1") is directory.clients["site-2"]
    assert directory.client_at("site-2.job-2") is None
    assert directory.check(["site-1", "server", "x"]) == (["site-1", "server"], ["x"])


def test_names_must_fit_the_bus() -> None:
    """At once, and not when the first request is sent."""
    with pytest.raises(InvalidName):
        Directory("site 1", "job-1", [])
    with pytest.raises(InvalidName):
        Directory("site-1", "job-1", ["site 2"])
