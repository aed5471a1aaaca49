"""Who wrote which setting, and where: zbus/broker/origins.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.broker.origins import Layers, Written, flag_of, nearest, variable_of

KEYS = ["broker.runtime_dir", "listen.frontend", "times.heartbeat", "times.drain", "log.level"]


def layers() -> Layers:
    return Layers(KEYS)


def from_text(tmp_path: Path, text: str) -> Layers:
    """The layers of one file, which is called ``x.toml``."""
    (tmp_path / "x.toml").write_text(text)
    laid = layers()
    laid.add_file(tmp_path / "x.toml")
    return laid


def test_a_file_gives_each_key_with_its_line(tmp_path: Path) -> None:
    """An origin says the file and the line, also where a value goes over several lines."""
    text = '# head\n[times]\n\nheartbeat = "2s"\n[listen]\nfrontend = [\n  "ipc:///a",\n]\n'
    laid = from_text(tmp_path, text)
    origin = f"file {tmp_path}/x.toml"
    assert laid.written == [
        Written("times.heartbeat", "2s", f"{origin}:4", textual=False),
        Written("listen.frontend", ["ipc:///a"], f"{origin}:6", textual=False),
    ]
    assert not laid.problems


def test_dotted_keys_and_inline_tables_are_read(tmp_path: Path) -> None:
    """All of TOML's ways to write a key; where the line cannot be told, it is left out."""
    laid = from_text(tmp_path, 'times.drain = "1s"\nlog = { level = "info" }\n')
    origin = f"file {tmp_path}/x.toml"
    assert [f"{origin}:1", origin] == [written.origin for written in laid.written]


@pytest.mark.parametrize(
    ("text", "wrong", "near"),
    [
        (
            '[times]\nheartbeet = "1s"',
            ':2: there is no setting "times.heartbeet"',
            "times.heartbeat",
        ),
        ('[tmies]\ndrain = "1s"', ':1: there is no setting "tmies"', "times"),
        ('heartbeat = "1s"', ':1: there is no setting "heartbeat"', "times.heartbeat"),
        ('[log]\nheartbeat = "1s"', ':2: there is no setting "log.heartbeat"', "times.heartbeat"),
        ('[security]\nkey = "x"', ':1: there is no setting "security"', ""),
    ],
)
def test_an_unknown_key_names_file_line_and_nearest(
    tmp_path: Path, text: str, wrong: str, near: str
) -> None:
    """A slip of the pen is told with what was probably meant."""
    (problem,) = from_text(tmp_path, text).problems
    assert problem.startswith(f"file {tmp_path}/x.toml{wrong}")
    assert near in problem.partition("the nearest is")[2]


def test_a_section_must_be_a_table(tmp_path: Path) -> None:
    """The message says how to write it."""
    (problem,) = from_text(tmp_path, "times = 3").problems
    assert problem.endswith(":1: write it as [times]")


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    """Whoever names a file wants it read."""
    laid = layers()
    laid.add_file(tmp_path / "gone.toml")
    assert laid.problems == [
        f"file {tmp_path}/gone.toml: it cannot be read: No such file or directory"
    ]


@pytest.mark.parametrize(
    "content",
    [b"[times", b"\xff\xfe", b"x = " + b"[" * 10_000, b"a = 1\na = 2", b"\0"],
    ids=["torn", "not UTF-8", "deep", "twice", "zero"],
)
def test_a_file_that_is_no_toml_is_a_problem(tmp_path: Path, content: bytes) -> None:
    """Torn, deep or foreign bytes: one problem that names the file, never an exception."""
    (tmp_path / "x.toml").write_bytes(content)
    laid = layers()
    laid.add_file(tmp_path / "x.toml")
    (problem,) = laid.problems
    assert problem.startswith(f"file {tmp_path}/x.toml: it is no TOML: ")


@given(content=st.binary(max_size=100) | st.text("[]=.\"'\n ab1#{}", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_a_problem(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """No content of a file makes anything else happen."""
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    laid = layers()
    laid.add_file(path)
    assert all(problem.startswith(f"file {path}") for problem in laid.problems)


def test_the_machines_files_lie_in_their_order(tmp_path: Path) -> None:
    """``zbus.toml`` is the weakest, then ``conf.d`` by name; other names are not read."""
    (tmp_path / "conf.d").mkdir()
    for name in ("conf.d/20.toml", "zbus.toml", "conf.d/10.toml", "conf.d/99.bak", "other.toml"):
        (tmp_path / name).write_text(f'[log]\nlevel = "{name}"')
    laid = layers()
    laid.add_etc(tmp_path)
    values = [written.value for written in laid.written]
    assert values == ["zbus.toml", "conf.d/10.toml", "conf.d/20.toml"]


def test_a_machine_without_files_is_no_problem(tmp_path: Path) -> None:
    """Neither without the directory nor with an empty one."""
    laid = layers()
    laid.add_etc(tmp_path)
    laid.add_etc(tmp_path / "gone")
    assert (laid.written, laid.problems) == ([], [])


def test_a_directory_that_cannot_be_listed_is_a_problem(tmp_path: Path) -> None:
    """It fails closed: what cannot be read might have forbidden something (promise P16)."""
    (tmp_path / "conf.d").write_text("")
    laid = layers()
    laid.add_etc(tmp_path)
    assert laid.problems == [f"file {tmp_path}/conf.d: it cannot be read: Not a directory"]


def test_the_environment_gives_texts() -> None:
    """By the name of the setting; the runtime directory has a short name; empty is nothing."""
    laid = layers()
    laid.add_environment(
        {"ZBUS_TIMES_DRAIN": "1s", "ZBUS_RUNTIME_DIR": "/x", "ZBUS_LOG_LEVEL": "", "HOME": "/"}
    )
    assert laid.written == [
        Written("broker.runtime_dir", "/x", "environment ZBUS_RUNTIME_DIR", textual=True),
        Written("times.drain", "1s", "environment ZBUS_TIMES_DRAIN", textual=True),
    ]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("ZBUS_TIMES_HEARTBEET", "ZBUS_TIMES_HEARTBEAT"),
        ("ZBUS_HEARTBEAT", "ZBUS_TIMES_HEARTBEAT"),
        ("ZBUS_DRAIN", "ZBUS_TIMES_DRAIN"),
        ("ZBUS_BROKER_RUNTIME_DIR", "ZBUS_RUNTIME_DIR"),
        ("ZBUS_RUNTIME_DIRECTORY", "ZBUS_RUNTIME_DIR"),
        ("ZBUS_LOGLEVEL", "ZBUS_LOG_LEVEL"),
        ("ZBUS_LOG", "ZBUS_LOG_LEVEL"),
        ("ZBUS_LISTEN_NOTHING_LIKE_IT", ""),
    ],
)
def test_a_variable_that_looks_like_a_setting_is_a_problem(name: str, near: str) -> None:
    """Otherwise a slip would be obeyed by nobody and noticed by nobody."""
    laid = layers()
    laid.add_environment({name: ""})
    (problem,) = laid.problems
    assert problem.startswith(f"environment {name}: ")
    assert near in problem.partition("the nearest is")[2]


@pytest.mark.parametrize(
    "name",
    [
        "ZBUS_ENDPOINT",
        "ZBUS_BACKEND",
        "ZBUS_NAME",
        "ZBUS_EPOCH",
        "ZBUS_LAUNCH",
        "ZBUS_TOKEN",
        "ZBUS_SERVICE_HOST",
        "ZBUS_PORT",
        "ZBUS_PORT_5555_TCP_ADDR",
        "ZBUS_BROKER_SERVICE_PORT",
        "ZBUS_VERSION",
        "TIMES_DRAIN",
        "ZBUSTIMES_DRAIN",
    ],
)
def test_other_variables_are_left_alone(name: str) -> None:
    """A peer's own variables, and what an orchestrator sets for a service called zbus."""
    laid = Layers([*KEYS, "listen.backend"])
    laid.add_environment({name: "tcp://192.0.2.7:5"})
    assert (laid.written, laid.problems) == ([], [])


def test_no_problem_shows_the_value_of_a_strange_variable() -> None:
    """It may be a secret that was given the wrong name."""
    laid = layers()
    laid.add_environment({"ZBUS_LOG_TOKEN": "s3cret"})
    assert len(laid.problems) == 1
    assert "s3cret" not in laid.problems[0]


def test_flags_are_named_as_people_type_them() -> None:
    """Texts are read as texts, other values as TOML's; what was not given is nothing."""
    laid = layers()
    laid.add_flags(
        {
            "times.drain": "1s",
            "broker.runtime_dir": Path("/x"),
            "listen.frontend": ("ipc:///a", "ipc:///b"),
            "times.heartbeat": None,
            "log.level": (),
        }
    )
    assert laid.written == [
        Written("times.drain", "1s", "flag --drain", textual=True),
        Written("broker.runtime_dir", Path("/x"), "flag --runtime-dir", textual=True),
        Written("listen.frontend", ["ipc:///a", "ipc:///b"], "flag --frontend", textual=False),
    ]
    assert not laid.problems


def test_an_unknown_flag_is_a_problem() -> None:
    """A command that passes one on is wrong, and hears it."""
    laid = layers()
    laid.add_flags({"times.drian": "1s"})
    assert 'there is no setting "times.drian"; the nearest is "times.drain"' in laid.problems[0]


def test_names_of_flags_and_variables() -> None:
    """The log's flags carry its name, for ``--level`` alone would not say of what."""
    assert [flag_of(key) for key in KEYS] == [
        *("--runtime-dir", "--frontend", "--heartbeat", "--drain", "--log-level")
    ]
    assert [variable_of(key) for key in KEYS] == [
        *("ZBUS_RUNTIME_DIR", "ZBUS_LISTEN_FRONTEND", "ZBUS_TIMES_HEARTBEAT", "ZBUS_TIMES_DRAIN"),
        "ZBUS_LOG_LEVEL",
    ]


def test_a_long_value_is_cut_where_it_is_shown() -> None:
    """A message stays one that can be read."""
    shown = str(Written("log.level", "x" * 10_000, "default", textual=False))
    assert shown.startswith('default: log.level = "xxx')
    assert len(shown) < 100


@given(st.sampled_from(KEYS), st.data())
def test_the_nearest_of_a_key_with_one_slip_is_the_key(key: str, data: st.DataObject) -> None:
    """One letter left out of its name, whichever: it is still found."""
    name = key.partition(".")[2]
    at = data.draw(st.integers(0, len(name) - 1))
    slip = f"{key.partition('.')[0]}.{name[:at] + name[at + 1 :]}"
    near, likeness = nearest((slip,), {known: (known,) for known in KEYS})
    assert key == near
    assert 0.8 < likeness < 1
