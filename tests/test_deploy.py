"""What deploy/ installs is what the code needs, and works under a real systemd."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from systemd_machine import CannotBoot, Machine

from zbus.broker.sample import sample
from zbus.broker.settings import Settings, load
from zbus.errors import AlreadyRunning, ConfigError

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
BROKER = (DEPLOY / "zbus.service").read_text()
ENGINE = (DEPLOY / "zbus-engine@.service").read_text()
PAGE = (ROOT / "docs" / "deploy.md").read_text()
USAGE_EXIT = 2

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can make users and give directories to them"
)


def values(unit: str, name: str) -> list[str]:
    """What a unit says for a name, each time it says it."""
    return re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)


def value(unit: str, name: str) -> str:
    (found,) = values(unit, name)
    return found


def environment(unit: str) -> dict[str, str]:
    words = " ".join(values(unit, "Environment")).replace("%t", "/run").split()
    return dict(word.split("=", 1) for word in words)


# -- the settings file ------------------------------------------------------------------------


def test_the_settings_file_is_the_commented_one() -> None:
    """Every setting with its default, unit and reason; a setting that changed shows here.

    ``python -m zbus.broker.sample > deploy/zbus.toml`` writes it anew.
    """
    assert sample() == (DEPLOY / "zbus.toml").read_text()


def test_the_settings_file_uncommented_is_the_defaults(tmp_path: Path) -> None:
    """No key is missing and none is surplus: all are in force, and all are the defaults."""
    text = re.sub(r"^#(\w+ = )", r"\1", (DEPLOY / "zbus.toml").read_text(), flags=re.MULTILINE)
    (tmp_path / "zbus.toml").write_text(text)
    found = load(environ={}, uid=0, etc=tmp_path)
    assert Settings() == found.settings
    assert "default" not in found.origins.values()


# -- the units and the code agree -------------------------------------------------------------


def test_the_broker_may_drain_for_as_long_as_it_says() -> None:
    """systemd kills it later than it gives up by itself (promise P18: drain + 1 s)."""
    drain_s = Settings().times.drain_s
    assert float(value(BROKER, "TimeoutStopSec")) >= drain_s + 2
    assert value(BROKER, "KillMode") == "mixed"


def test_the_broker_finds_the_directory_that_systemd_makes() -> None:
    """The same path, private to the user that both units run as, and kept over a restart."""
    place = f"/run/{value(BROKER, 'RuntimeDirectory')}"
    for unit in (BROKER, ENGINE):
        assert environment(unit)["ZBUS_RUNTIME_DIR"] == place
        assert value(unit, "User") == "zbus"
        assert value(unit, "UMask") == "0077"
    assert place == str(Settings().broker.runtime_dir)
    assert value(BROKER, "RuntimeDirectoryMode") == "0700"
    assert value(BROKER, "RuntimeDirectoryPreserve") == "restart"


def test_the_environment_of_the_units_is_valid() -> None:
    """No variable of theirs is an unknown setting."""
    for unit in (BROKER, ENGINE):
        load(environ=environment(unit), uid=0, etc=Path("/nonexistent"))


def test_what_a_restart_cannot_mend_is_not_restarted() -> None:
    """The exit codes of a wrong configuration, of a second broker and of wrong usage."""
    codes = {ConfigError.exit_code, AlreadyRunning.exit_code, USAGE_EXIT}
    for unit in (BROKER, ENGINE):
        assert codes == {int(code) for code in value(unit, "RestartPreventExitStatus").split()}


def test_the_broker_comes_back_at_once() -> None:
    """After any exit, and after a hang (promise P6); not for ever if it crashes for ever."""
    assert value(BROKER, "Type") == "notify"
    assert value(BROKER, "Restart") == "always"
    assert value(BROKER, "RestartSec") == "200ms"
    assert value(BROKER, "WatchdogSec") == "10"
    assert int(value(BROKER, "StartLimitBurst")) >= 10


def test_the_broker_may_open_what_its_peers_need() -> None:
    """Two descriptors for each peer that the limits allow, and some."""
    assert int(value(BROKER, "LimitNOFILE")) >= 2 * Settings().bounds.peers + 64


def test_engines_outlive_a_broker_that_restarts() -> None:
    """They start after it and stop before it, and are bound to it by nothing stronger."""
    assert value(ENGINE, "After") == value(ENGINE, "Wants") == "zbus.service"
    for bond in ("Requires", "Requisite", "BindsTo", "PartOf", "StopPropagatedFrom"):
        assert not values(ENGINE, bond)


# -- systemd's own judgement ------------------------------------------------------------------


@needs_analyze
@pytest.mark.parametrize(
    ("unit", "exposure_max"), [("zbus.service", 1.5), ("zbus-engine@.service", 4.0)]
)
def test_the_exposure_of_the_units(unit: str, exposure_max: float) -> None:
    """As ``systemd-analyze security`` counts it, from 0 to 10. The gate for the broker is 2.0."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(DEPLOY / unit)]
    judged = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "--offline" in judged.stderr:
        pytest.skip("this systemd-analyze cannot judge a file")
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", judged.stdout)
    assert exposure is not None, judged.stderr
    assert float(exposure[1]) <= exposure_max


@needs_analyze
@pytest.mark.parametrize("unit", ["zbus.service", "zbus-engine@one.service"])
def test_systemd_understands_every_line(tmp_path: Path, unit: str) -> None:
    """No unknown key, no value that it ignores, and the commands are where the page puts them."""
    place = tmp_path / "etc/systemd/system"
    place.mkdir(parents=True)
    for found in DEPLOY.glob("*.service"):
        shutil.copy(found, place)
    for program in ("opt/zbus/bin/zbus", "bin/sh"):
        (tmp_path / program).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / program).write_text("")
        (tmp_path / program).chmod(0o755)
    judged = subprocess.run(
        [
            *"systemd-analyze verify --man=no --recursive-errors=no".split(),
            f"--root={tmp_path}",
            unit,
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (judged.returncode, judged.stderr) == (0, "")


@needs_root
def test_the_user_and_the_directories_are_made(tmp_path: Path) -> None:
    """The user has no shell; what may hold secrets is root's alone."""
    for tool in ("systemd-sysusers", "systemd-tmpfiles"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    for kind in ("sysusers", "tmpfiles"):
        (tmp_path / f"etc/{kind}.d").mkdir(parents=True)
        shutil.copy(DEPLOY / f"zbus.{kind}", tmp_path / f"etc/{kind}.d/zbus.conf")
    root = f"--root={tmp_path}"
    subprocess.run(["systemd-sysusers", root, "zbus.conf"], check=True, capture_output=True)
    subprocess.run(["systemd-tmpfiles", root, "--create", "zbus.conf"], check=True)
    assert re.search(r"^zbus:.*:/usr/sbin/nologin$", (tmp_path / "etc/passwd").read_text(), re.M)
    modes = {
        str(found.relative_to(tmp_path)): found.stat().st_mode & 0o7777
        for found in (tmp_path / "etc/zbus").rglob("*")
    }
    assert modes == {"etc/zbus/conf.d": 0o755, "etc/zbus/engines": 0o700}


# -- the page ---------------------------------------------------------------------------------


def test_the_page_installs_every_file() -> None:
    """And names none that does not exist."""
    named = set(re.findall(r"deploy/(zbus[\w.@-]*\w)", PAGE))
    assert named == {found.name for found in DEPLOY.iterdir() if found.name != "README.md"}
    listed = (DEPLOY / "README.md").read_text()
    assert [name for name in named if f"`{name}`" not in listed] == []


def test_the_page_says_what_the_units_do() -> None:
    """The figures in the text are those of the files."""
    drain_s = Settings().times.drain_s
    burst = value(BROKER, "StartLimitBurst")
    assert value(BROKER, "StartLimitIntervalSec") == "60"
    assert f"`times.drain` ({drain_s:.0f} s)" in PAGE
    assert f"crashes {burst} times in a minute" in PAGE
    assert value(ENGINE, "EnvironmentFile").replace("%i", "NAME") in PAGE


def test_the_pages_commands_are_shell() -> None:
    """Every block parses."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 8
    for block in blocks:
        subprocess.run(["sh", "-n"], input=block, text=True, check=True)


# -- a real systemd ---------------------------------------------------------------------------

# Only this differs from what is installed: no sysinit.target to wait for, a file instead of the
# journal, a watchdog that a test can wait for, and heartbeats too rare to wake the loop for it.
DROP_IN = """\
[Unit]
DefaultDependencies=no
[Service]
StandardError=append:/run/said
"""
IMPATIENT = "WatchdogSec=1\nEnvironment=ZBUS_TIMES_HEARTBEAT=1min\n"
PROGRAM = """\
#!/bin/sh
export PYTHONHOME=/opt/zbus/python PYTHONPATH=/opt/zbus/src:/opt/zbus/site
exec /opt/zbus/python/bin/python{version} {start} "$@"
"""
ENGINE_COMMAND = '/opt/zbus/bin/engine plain "two words" $HOME *'
THE_ENGINE = """\
import os, socket, sys, time
with socket.socket(socket.AF_UNIX) as door:
    door.connect(os.environ["ZBUS_RUNTIME_DIR"] + "/frontend")
with open(os.environ["STATE_DIRECTORY"] + "/said", "w") as said:
    print(os.environ["ZBUS_NAME"], sys.argv[1:], file=said)
time.sleep(1_000)
"""


def the_pages_engine() -> str:
    """The command of the engine that the page starts."""
    (found,) = re.findall(r"^echo 'ENGINE_COMMAND=(.*)' > /etc/zbus/engines/echo.env$", PAGE, re.M)
    return str(found)


def machine_files() -> dict[str, str]:
    """The machine as the page leaves it, with the checkout in the place of the installation."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {
        "/opt/zbus/bin/zbus": PROGRAM.format(version=version, start="-m zbus"),
        "/opt/zbus/bin/engine": PROGRAM.format(version=version, start="/opt/zbus/engine.py"),
        "/opt/zbus/engine.py": THE_ENGINE,
        "/etc/zbus/zbus.toml": (DEPLOY / "zbus.toml").read_text(),
        "/etc/zbus/engines/one.env": f"ENGINE_COMMAND={ENGINE_COMMAND}\n",
        "/etc/zbus/engines/echo.env": f"ENGINE_COMMAND={the_pages_engine()}\n",
        "/etc/zbus/engines/none.env": "OTHER=x\n",
        "/etc/sysusers.d/zbus.conf": (DEPLOY / "zbus.sysusers").read_text(),
        "/etc/tmpfiles.d/zbus.conf": (DEPLOY / "zbus.tmpfiles").read_text(),
        "/etc/systemd/system/zbus.service": BROKER,
        "/etc/systemd/system/zbus-engine@.service": ENGINE,
        "/etc/systemd/system/zbus.service.d/test.conf": DROP_IN + IMPATIENT,
        "/etc/systemd/system/zbus-engine@.service.d/test.conf": DROP_IN,
        **{
            f"/opt/zbus/src/{found.relative_to(ROOT)}": found.read_text()
            for found in (ROOT / "zbus").rglob("*.py")
        },
    }


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A booted machine, on which nothing has been started yet."""
    binds = {
        Path(sys.base_prefix): "/opt/zbus/python",
        Path(zmq.__file__).parents[1]: "/opt/zbus/site",
    }
    try:
        booted = Machine(tmp_path_factory.mktemp("machine") / "stage", machine_files(), binds)
    except CannotBoot as error:
        pytest.skip(f"no real systemd here: {error}")
    with booted:
        yield booted


@pytest.fixture
def broker(machine: Machine) -> Machine:
    """The machine with the broker started, whatever happened to it before."""
    machine.run("systemctl", "reset-failed", "zbus.service")
    machine.run("systemctl", "start", "zbus.service")
    assert machine.show("zbus", "ActiveState") == "active", machine.read("/run/said")
    return machine


@pytest.mark.real
def test_p16_it_serves_from_a_private_directory(broker: Machine) -> None:
    """Started, which means ready; only its own user can reach the sockets."""
    modes = broker.run("stat", "-c", "%n %a %U", "/run/zbus", "/run/zbus/frontend").stdout
    assert modes == "/run/zbus 700 zbus\n/run/zbus/frontend 700 zbus\n"
    assert broker.show("zbus", "StatusText")
    assert broker.show("zbus", "NRestarts") == "0"


@pytest.mark.real
def test_p06_a_killed_broker_is_back_and_its_engines_did_not_notice(broker: Machine) -> None:
    """kill -9 under systemd: serving again within two seconds, engines as they were."""
    broker.run("systemctl", "start", "zbus-engine@one")
    said = "/var/lib/zbus-engines/one/said"
    broker.wait_for(lambda: bool(broker.read(said)), "the engine starts")
    assert broker.read(said) == "one ['plain', 'two words', '$HOME', '*']\n"
    engine, before = broker.show("zbus-engine@one", "MainPID"), broker.show("zbus", "MainPID")
    broker.run("systemctl", "kill", "--signal=KILL", "zbus.service")
    took_s = broker.wait_for(
        lambda: (
            broker.show("zbus", "MainPID") not in {"0", before}
            and broker.show("zbus", "ActiveState") == "active"
        ),
        "the broker is back",
    )
    assert took_s < 5.0
    assert engine == broker.show("zbus-engine@one", "MainPID")
    assert broker.show("zbus-engine@one", "NRestarts") == "0"
    broker.run("systemctl", "stop", "zbus-engine@one")


@pytest.mark.real
def test_what_the_page_starts_answers(broker: Machine) -> None:
    """The engine of the page, asked as the page asks, over the bus of the page."""
    broker.run("systemctl", "start", "zbus-engine@echo")
    asked = broker.run("/opt/zbus/bin/zbus", "req", "--wait", "echo", "hi")
    assert (asked.stdout, asked.returncode) == ("hi\n", 0), asked.stderr + broker.read("/run/said")
    pinged = broker.run("/opt/zbus/bin/zbus", "ping")
    assert pinged.returncode == 0, pinged.stderr
    listed = broker.run(
        *"/usr/sbin/runuser -u zbus -- env ZBUS_RUNTIME_DIR=/run/zbus".split(),
        *"/opt/zbus/bin/zbus ls".split(),
    )
    assert re.search(r"\becho\b", listed.stdout), listed.stderr
    assert broker.run("systemctl", "stop", "zbus-engine@echo").returncode == 0
    assert broker.show("zbus-engine@echo", "Result") == "success", broker.read("/run/said")


@pytest.mark.real
def test_a_broker_that_hangs_is_restarted(broker: Machine) -> None:
    """Its loop feeds the watchdog, so a stopped process is replaced; an idle one is not."""
    before, restarts = broker.show("zbus", "MainPID"), int(broker.show("zbus", "NRestarts"))
    broker.run("sleep", "2.5")  # two intervals and a half of the watchdog, with nothing to do
    assert broker.show("zbus", "MainPID") == before, broker.read("/run/said")
    broker.run("systemctl", "kill", "--signal=STOP", "--kill-whom=main", "zbus.service")
    broker.wait_for(
        lambda: (
            int(broker.show("zbus", "NRestarts")) > restarts
            and broker.show("zbus", "ActiveState") == "active"
        ),
        "the watchdog restarts it",
    )


@pytest.mark.real
def test_p18_a_stop_drains_and_leaves_nothing(broker: Machine) -> None:
    """SIGTERM: exit code 0, in time, and the runtime directory is gone."""
    stopped = broker.run("systemctl", "stop", "zbus.service")
    assert stopped.returncode == 0
    assert broker.show("zbus", "Result") == "success"
    assert broker.show("zbus", "ExecMainStatus") == "0"
    assert broker.run("ls", "/run/zbus").returncode != 0


@pytest.mark.real
def test_p16_a_wrong_configuration_stays_down(machine: Machine) -> None:
    """Exit code 78, once; the file is named; and it starts when the file is mended."""
    machine.run("systemctl", "stop", "zbus.service")
    machine.write("/etc/zbus/conf.d/50.toml", '[times]\nheartbeet = "1s"\n')
    try:
        assert machine.run("systemctl", "start", "zbus.service").returncode != 0
        assert machine.show("zbus", "ExecMainStatus") == "78"
        assert machine.show("zbus", "ActiveState") == "failed"
        assert "/etc/zbus/conf.d/50.toml:2" in machine.read("/run/said")
    finally:
        machine.run("rm", "/etc/zbus/conf.d/50.toml")
    assert machine.run("systemctl", "start", "zbus.service").returncode == 0


@pytest.mark.real
def test_an_engine_without_a_command_says_so(machine: Machine) -> None:
    """And is not started again and again."""
    machine.run("systemctl", "start", "zbus-engine@none")
    machine.wait_for(
        lambda: machine.show("zbus-engine@none", "ActiveState") == "failed", "it fails"
    )
    assert machine.show("zbus-engine@none", "ExecMainStatus") == "78"
    assert machine.show("zbus-engine@none", "NRestarts") == "0"
    assert "no ENGINE_COMMAND in /etc/zbus/engines/none.env" in machine.read("/run/said")
