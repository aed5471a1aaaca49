"""The configuration put together: zbus/broker/settings.py."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.broker.keys import new_key, write_pair
from zbus.broker.settings import SETTINGS, Loaded, Settings, load
from zbus.errors import ConfigError
from zbus.protocol.limits import Limits

KEYS = {setting.key for setting in SETTINGS}
LEVELS = ("debug", "info", "warning", "error")


def loaded(
    tmp_path: Path,
    text: str = "",
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    config: Path | None = None,
) -> Loaded:
    """What root gets from ``zbus.toml`` with this text, and nothing of the real machine."""
    (tmp_path / "zbus.toml").write_text(text)
    return load(flags=flags, config=config, environ=environ or {}, uid=0, etc=tmp_path)


def refused(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> str:
    """Why the configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, environ=environ)
    return caught.value.what


def test_nothing_written_gives_the_defaults(tmp_path: Path) -> None:
    """Each from the default, and the limits are the protocol's."""
    found = loaded(tmp_path)
    assert Settings() == found.settings
    assert dict.fromkeys(KEYS, "default") == found.origins
    assert Limits() == found.settings.limits()


def test_defaults_need_no_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This process's environment and user count where nothing else is said."""
    monkeypatch.setenv("ZBUS_TIMES_DRAIN", "3s")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    found = load(etc=tmp_path)
    assert found.settings.times.drain_s == 3.0
    place = "/run/zbus" if os.getuid() == 0 else f"/tmp/zbus-{os.getuid()}"
    assert found.settings.broker.runtime_dir == Path(place)


def test_the_endpoints_follow_the_runtime_directory(tmp_path: Path) -> None:
    """Whoever sets it; an endpoint that is written stays as it is written."""
    text = '[broker]\nruntime_dir = "/srv/z"\n[listen]\npipe = "ipc:///elsewhere/pipe"'
    listen = loaded(tmp_path, text).settings.listen
    assert listen.frontend == ("ipc:///srv/z/frontend",)
    assert listen.backend == ("ipc:///srv/z/backend",)
    assert listen.pipe == ("ipc:///elsewhere/pipe",)


def test_another_user_gets_a_directory_of_their_own(tmp_path: Path) -> None:
    """The default follows the environment and the user; its origin is still the default."""
    found = load(environ={"XDG_RUNTIME_DIR": "/run/user/7"}, uid=7, etc=tmp_path)
    assert found.settings.broker.runtime_dir == Path("/run/user/7/zbus")
    assert found.settings.listen.frontend == ("ipc:///run/user/7/zbus/frontend",)
    assert found.origins["broker.runtime_dir"] == "default"


@given(
    st.lists(st.sampled_from(LEVELS) | st.none(), min_size=6, max_size=6),
)
def test_the_strongest_layer_wins(
    tmp_path_factory: pytest.TempPathFactory, levels: list[str | None]
) -> None:
    """Flag, environment, --config, conf.d (last name), zbus.toml, default: the first that says
    something, and the origin names it."""
    flag, variable, config, late, early, base = levels
    root = tmp_path_factory.mktemp("layers")
    (root / "conf.d").mkdir()
    files = {"own.conf": config, "conf.d/2.toml": late, "conf.d/1.toml": early, "zbus.toml": base}
    for name, level in files.items():
        (root / name).write_text(f'[log]\nlevel = "{level}"' if level else "")
    found = load(
        flags={"log.level": flag},
        config=root / "own.conf",
        environ={"ZBUS_LOG_LEVEL": variable} if variable else {},
        uid=0,
        etc=root,
    )
    origins = ["flag --log-level", "environment ZBUS_LOG_LEVEL"]
    origins += [f"file {root / name}:2" for name in files]
    expected = [pair for pair in zip(levels, origins, strict=True) if pair[0]] + [
        ("info", "default")
    ]
    assert expected[0] == (found.settings.log.level, found.origins["log.level"])


def test_rows_tell_value_and_origin(tmp_path: Path) -> None:
    """What ``config show --origin`` prints: every setting, in the order of the file, as TOML."""
    found = loaded(
        tmp_path, environ={"ZBUS_LIMITS_BODY_MAX": "1024KiB"}, flags={"times.drain": "0.5s"}
    )
    rows = {row.key: (row.value, row.origin) for row in found.rows()}
    assert list(rows) == [setting.key for setting in SETTINGS]
    assert rows["limits.body_max"] == ('"1MiB"', "environment ZBUS_LIMITS_BODY_MAX")
    assert rows["times.drain"] == ('"500ms"', "flag --drain")
    assert rows["listen.pipe"] == ('["ipc:///run/zbus/pipe"]', "default")


def test_rows_can_be_loaded_again(tmp_path: Path) -> None:
    """What is shown, written into a file, is the same configuration."""
    flags = {"times.heartbeat": "0.3s", "listen.pipe": "tcp://127.0.0.1:5", "listen.insecure": True}
    found = loaded(tmp_path, flags=flags)
    again = loaded(tmp_path, "".join(f"{row.key} = {row.value}\n" for row in found.rows()))
    assert found.settings == again.settings
    assert all(origin.startswith("file ") for origin in again.origins.values())


def test_every_setting_reaches_the_settings(tmp_path: Path) -> None:
    """Each key, set to another value than its default, changes its field and no other."""
    others = {
        "listen.insecure": "true",
        "policy.engine_to_engine": "false",
        "broker.runtime_dir": '"/srv/z"',
        "log.level": '"debug"',
        "log.format": '"text"',
        "limits.outbox": '"65MiB"',
        "limits.memory": '"65MiB"',
        "broker.spin": '"0s"',
        "policy.rules": "{}",
    }
    for setting in SETTINGS:
        if setting.section == "security":
            continue  # one is nothing without the other
        kind = type(setting.form).__name__
        other = {"Duration": '"3s"', "Size": '"3KiB"', "Count": "3", "Endpoints": '"ipc:///x"'}
        text = f"{setting.key} = {others.get(setting.key) or other[kind]}"
        changed = {
            each.key
            for each in SETTINGS
            if each.of(loaded(tmp_path, text).settings) != each.default
        }
        follow = {"listen.frontend", "listen.backend", "listen.pipe"}
        expected = {setting.key} | (follow if setting.key == "broker.runtime_dir" else set())
        assert expected == changed


def test_a_key_opens_tcp_and_needs_trust(tmp_path: Path) -> None:
    """Both or neither; with both, tcp beyond loopback is what they are for."""
    secret, _ = write_pair(tmp_path, new_key("broker"))
    (tmp_path / "trust").mkdir(mode=0o700)
    key, trust = f'security.key = "{secret}"\n', f'security.trust = "{tmp_path}/trust"\n'
    tcp = 'listen.frontend = "tcp://0.0.0.0:7421"\n'
    security = loaded(tmp_path, key + trust + tcp).settings.security
    assert (security.key, security.trust) == (secret, tmp_path / "trust")
    assert "security.key is nothing without security.trust" in refused(tmp_path, key + tcp)
    assert "security.trust is nothing without security.key" in refused(tmp_path, trust)


def test_p16_keys_that_cannot_be_used_refuse_the_whole(tmp_path: Path) -> None:
    """A secret that others can read, a directory that is not there, garbage in it."""
    secret, _ = write_pair(tmp_path, new_key("broker"))
    text = f'security.key = "{secret}"\nsecurity.trust = "{tmp_path}/trust"\n'
    assert "security.trust: " in refused(tmp_path, text)
    (tmp_path / "trust").mkdir(mode=0o700)
    (tmp_path / "trust" / "x.pub").write_text("garbage")
    assert "x.pub is no key" in refused(tmp_path, text)
    (tmp_path / "trust" / "x.pub").unlink()
    secret.chmod(0o644)
    assert "others can read or write" in refused(tmp_path, text)


def test_every_limit_reaches_the_protocol() -> None:
    """No limit is set and then forgotten on the way."""
    for one in fields(Limits):
        part = "times" if one.name == "heartbeat_s" else "bounds"
        settings = Settings()
        changed = replace(getattr(settings, part), **{one.name: 7})
        found = asdict(replace(settings, **{part: changed}).limits())
        assert found == asdict(Limits()) | {one.name: 7}


def test_a_wrong_value_names_all_that_is_needed(tmp_path: Path) -> None:
    """File, line, key, value, reason and what would have fitted."""
    what = refused(tmp_path, "[times]\ndrain = 10")
    assert what == (
        f"file {tmp_path}/zbus.toml:2: times.drain = 10: it is no text in quotes; wanted: "
        'a duration from 0s to 1h, such as "250ms", "1.5s" or "2min"'
    )


def test_a_wrong_variable_names_itself(tmp_path: Path) -> None:
    """As exactly as a file does."""
    what = refused(tmp_path, "", environ={"ZBUS_LIMITS_WINDOW": "many"})
    assert what.startswith(
        "environment ZBUS_LIMITS_WINDOW: limits.window = many: it is no whole number; wanted: "
    )


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    """One line each; what a stronger layer hides is judged as well."""
    text = '[times]\ndrian = "1s"\nheartbeat = 1\n[log]\nlevel = "loud"'
    environ = {"ZBUS_LOG_LEVEL": "debug", "ZBUS_LOG_COLOUR": "1"}
    lines = refused(tmp_path, text, environ=environ).splitlines()
    assert lines[0] == "4 problems:"
    assert lines[-1] == "the configuration is refused"
    assert len(lines) == 6
    told = "\n".join(lines)
    for part in ("times.drian", "times.heartbeat = 1", 'log.level = "loud"', "ZBUS_LOG_COLOUR"):
        assert part in told


def test_p16_a_file_that_cannot_be_read_refuses(tmp_path: Path) -> None:
    """A file named with --config must be there; a torn one is not half obeyed."""
    with pytest.raises(ConfigError, match="No such file"):
        loaded(tmp_path, config=tmp_path / "gone.toml")
    assert "it is no TOML" in refused(tmp_path, '[times]\ndrain = "1s"\nheartbeat = "')


@pytest.mark.parametrize("door", ["frontend", "backend", "pipe"])
def test_p16_tcp_is_refused_at_every_door(tmp_path: Path, door: str) -> None:
    """On loopback without the operator's word, and beyond loopback always; it says who set it."""
    text = f'[listen]\n{door} = ["ipc:///a", "tcp://127.0.0.1:5"]'
    what = refused(tmp_path, text)
    assert what.startswith(f"file {tmp_path}/zbus.toml:2: listen.{door}: tcp://127.0.0.1:5 is open")
    assert "insecure = true (--insecure)" in what
    assert loaded(tmp_path, text, flags={"listen.insecure": True}).settings.listen.insecure
    remote = text.replace("127.0.0.1", "0.0.0.0") + "\ninsecure = true"
    assert "open to the network" in refused(tmp_path, remote)


def test_two_doors_do_not_share_an_endpoint(tmp_path: Path) -> None:
    """The second bind would take the place of the first."""
    what = refused(tmp_path, '[listen]\nfrontend = "ipc:///a"\nbackend = "ipc:///a"')
    assert what.endswith(":3: listen.backend: ipc:///a is also listen.frontend")


def test_a_directory_too_long_for_its_sockets_is_refused(tmp_path: Path) -> None:
    """Whoever set the directory is blamed, not the default that follows from it."""
    what = refused(tmp_path, f'[broker]\nruntime_dir = "/{"x" * 100}"')
    assert f"file {tmp_path}/zbus.toml:2: broker.runtime_dir: the path of a socket" in what


def test_an_outbox_below_the_largest_body_is_refused(tmp_path: Path) -> None:
    """It could never be sent. Equal is enough."""
    what = refused(tmp_path, '[limits]\nbody_max = "65MiB"')
    assert what.startswith("default: limits.outbox is below limits.body_max")
    assert f"(file {tmp_path}/zbus.toml:2)" in what
    loaded(tmp_path, '[limits]\nbody_max = "64MiB"')


def test_p08_budgets_that_do_not_fit_into_each_other_are_refused(tmp_path: Path) -> None:
    """Requests may not have their handler cut, nor one slow peer keep a body from all others."""
    what = refused(tmp_path, '[limits]\ntarget = "65MiB"')
    assert ":2: limits.target is above limits.outbox (default)" in what
    loaded(tmp_path, '[limits]\ntarget = "64MiB"')
    what = refused(tmp_path, '[limits]\nbody_max = "4MiB"\nmemory = "15MiB"')
    assert ":3: limits.memory is below 4 times limits.body_max" in what
    loaded(tmp_path, '[limits]\nbody_max = "4MiB"\nmemory = "16MiB"')


@pytest.mark.parametrize(
    ("key", "least", "most", "below", "above"),
    [
        ("times.heartbeat", "50ms", "1h", "49ms", "61min"),
        ("times.drain", "0s", "1h", None, "61min"),
        ("limits.restart_settle", "0s", "1min", None, "61s"),
    ],
)
def test_bounds_of_the_times(
    tmp_path: Path, key: str, least: str, most: str, below: str | None, above: str
) -> None:
    """Both ends are allowed, and nothing beyond them."""
    for value in (least, most):
        loaded(tmp_path, f'{key} = "{value}"')
    for value in filter(None, (below, above)):
        assert key in refused(tmp_path, f'{key} = "{value}"')


@pytest.mark.parametrize("name", ["peers", "open_requests", "window", "push_window"])
def test_every_count_is_at_least_one(tmp_path: Path, name: str) -> None:
    """A window of nothing would take nothing for ever."""
    loaded(tmp_path, f"limits.{name} = 1")
    assert "it is below 1" in refused(tmp_path, f"limits.{name} = 0")


def test_keys_flags_and_variables_are_all_different() -> None:
    """Nothing sets two things, and every key is section.name."""
    for names in (KEYS, {s.flag for s in SETTINGS}, {s.variable for s in SETTINGS}):
        assert len(names) == len(SETTINGS)
    assert all(len(key.split(".")) == 2 for key in KEYS)


@given(st.dictionaries(st.sampled_from(sorted(KEYS)), st.text() | st.integers() | st.booleans()))
def test_any_flags_are_settings_or_a_config_error(flags: dict[str, object]) -> None:
    """Nothing else comes out, and what comes out is valid TOML."""
    try:
        found = load(flags=flags, environ={}, uid=0, etc=Path("/nonexistent"))
    except ConfigError:
        return
    tomllib.loads("".join(f"{row.key} = {row.value}\n" for row in found.rows()))
