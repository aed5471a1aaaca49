"""One broker to a directory and to a socket: zbus/broker/instance.py."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from zbus.broker.instance import LOCK_NAME, InstanceLock
from zbus.errors import AlreadyRunning, ConfigError

HOLD = """
import sys
from pathlib import Path
from zbus.broker.instance import InstanceLock
from zbus.errors import ZbusError
try:
    lock = InstanceLock(Path(sys.argv[1]), sys.argv[2:])
except ZbusError as error:
    print(type(error).__name__, error.what, flush=True)
else:
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(place: Path, *endpoints: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process that takes the lock and keeps it, and what it said."""
    command = [sys.executable, "-c", HOLD, str(place), *endpoints]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdout is not None
        try:
            yield child, child.stdout.readline().strip()
        finally:
            child.kill()


def open_files() -> set[str]:
    """What this process has open."""
    listed = Path("/proc/self/fd")
    return {os.readlink(listed / name) for name in os.listdir(listed) if (listed / name).exists()}


def test_p23_a_second_broker_is_refused_by_name(runtime_dir: Path) -> None:
    """In another process: it names the first one's process and the directory."""
    with InstanceLock(runtime_dir), holder(runtime_dir) as (_, said):
        assert said.startswith("AlreadyRunning another broker")
        assert f"process {os.getpid()}" in said
        assert str(runtime_dir) in said


def test_p23_the_first_one_is_untouched(runtime_dir: Path) -> None:
    """The refused one neither unlocks nor rewrites nor removes anything."""
    with InstanceLock(runtime_dir):
        for _ in range(3):
            with pytest.raises(AlreadyRunning):
                InstanceLock(runtime_dir)
        assert (runtime_dir / LOCK_NAME).read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_p23_what_a_killed_broker_leaves_is_no_problem(
    runtime_dir: Path, number: signal.Signals
) -> None:
    """Its lock died with it; only its files are still there."""
    with holder(runtime_dir) as (child, said):
        assert said == "held"
        with pytest.raises(AlreadyRunning, match=f"process {child.pid}"):
            InstanceLock(runtime_dir)
        child.send_signal(number)
        child.wait(10)
        assert (runtime_dir / LOCK_NAME).exists()
        with InstanceLock(runtime_dir):
            assert (runtime_dir / LOCK_NAME).read_text() == f"{os.getpid()}\n"


def test_the_lock_names_its_holder_and_nobody_before(runtime_dir: Path) -> None:
    """A longer number of a dead process does not shine through."""
    (runtime_dir / LOCK_NAME).write_text("9" * 30 + "\n")
    with InstanceLock(runtime_dir):
        assert (runtime_dir / LOCK_NAME).read_text() == f"{os.getpid()}\n"


def test_p23_a_socket_is_locked_wherever_it_is(runtime_dir: Path) -> None:
    """Two runtime directories, one ipc path: the second would steal it and is refused."""
    (runtime_dir / "one").mkdir(0o700)
    endpoint = f"ipc://{runtime_dir}/one/frontend"
    with InstanceLock(runtime_dir / "one", [endpoint]):
        with holder(runtime_dir / "two", endpoint) as (_, said):
            assert said.startswith("AlreadyRunning")
            assert "frontend.lock" in said
        with InstanceLock(runtime_dir / "two"):  # and what it had taken, it let go
            pass


def test_p23_another_spelling_of_the_path_is_the_same_socket(runtime_dir: Path) -> None:
    """A symbolic link to the directory does not make it another place."""
    (runtime_dir / "one").mkdir(0o700)
    (runtime_dir / "link").symlink_to(runtime_dir / "one")
    with (
        InstanceLock(runtime_dir / "one", [f"ipc://{runtime_dir}/one/pipe"]),
        pytest.raises(AlreadyRunning, match=r"pipe\.lock"),
    ):
        InstanceLock(runtime_dir / "two", [f"ipc://{runtime_dir}/link/../link/pipe"])


def test_brokers_in_different_places_do_not_meet(runtime_dir: Path) -> None:
    """tcp endpoints need no lock: the kernel refuses a second bind."""
    with (
        InstanceLock(runtime_dir / "one", ["tcp://127.0.0.1:5"]),
        InstanceLock(runtime_dir / "two", ["tcp://127.0.0.1:5"]),
    ):
        assert os.listdir(runtime_dir / "one") == [LOCK_NAME]


def test_p24_nothing_is_left_after_close(runtime_dir: Path) -> None:
    """No file and no descriptor, however it ends; a second close does nothing."""
    endpoints = [f"ipc://{runtime_dir}/{door}" for door in ("frontend", "backend", "pipe")]
    before = open_files()
    lock = InstanceLock(runtime_dir, endpoints)
    assert len(os.listdir(runtime_dir)) == 4
    with pytest.raises(AlreadyRunning):
        InstanceLock(runtime_dir, endpoints)
    with pytest.raises(AlreadyRunning):
        InstanceLock(runtime_dir / "other", endpoints)
    lock.close()
    lock.close()
    assert os.listdir(runtime_dir) == ["other"]
    assert os.listdir(runtime_dir / "other") == []
    assert before == open_files()


def test_a_lock_that_was_removed_by_hand_is_still_held(runtime_dir: Path) -> None:
    """Closing it does not stumble over the missing file, nor remove the next one's lock."""
    first = InstanceLock(runtime_dir)
    (runtime_dir / LOCK_NAME).unlink()
    first.close()
    with InstanceLock(runtime_dir):
        assert (runtime_dir / LOCK_NAME).exists()


def test_a_lock_removed_between_open_and_flock_is_taken_anew(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who wins the flock on a file that its last holder just removed takes the new file."""
    flock = fcntl.flock
    removed: list[int] = []

    def removing(lock: int, operation: int) -> None:
        if not removed:
            removed.append(lock)
            (runtime_dir / LOCK_NAME).unlink()
        flock(lock, operation)

    monkeypatch.setattr(fcntl, "flock", removing)
    with InstanceLock(runtime_dir):
        assert removed
        with pytest.raises(AlreadyRunning):
            InstanceLock(runtime_dir)


def test_a_lock_that_never_stays_gives_up(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempts are bounded, and nothing stays open."""
    before = open_files()
    monkeypatch.setattr(fcntl, "flock", lambda *_: (runtime_dir / LOCK_NAME).unlink())
    with pytest.raises(ConfigError, match="does not stay in its place"):
        InstanceLock(runtime_dir)
    assert before == open_files()


def test_a_missing_runtime_directory_is_made_private(runtime_dir: Path) -> None:
    """Mode 0700 whatever the umask, and the lock 0600."""
    before = os.umask(0)
    try:
        with InstanceLock(runtime_dir / "new"):
            assert stat.S_IMODE((runtime_dir / "new").stat().st_mode) == 0o700
            assert stat.S_IMODE((runtime_dir / "new" / LOCK_NAME).stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_directory_that_others_read_is_allowed(runtime_dir: Path) -> None:
    """0750 and 0755 let others connect or look, which the sockets' modes decide; not write."""
    for mode in (0o700, 0o750, 0o755):
        runtime_dir.chmod(mode)
        InstanceLock(runtime_dir).close()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_p16_a_directory_that_others_write_is_refused(runtime_dir: Path, mode: int) -> None:
    """They could take the sockets. The message names the directory and the remedy."""
    runtime_dir.chmod(mode)
    with pytest.raises(ConfigError, match=f"chmod go-w {runtime_dir}"):
        InstanceLock(runtime_dir)
    assert os.listdir(runtime_dir) == []


def test_p16_a_socket_in_a_directory_that_others_write_is_refused(runtime_dir: Path) -> None:
    """Unless it is sticky, like /tmp, where nobody removes what is somebody else's."""
    public = runtime_dir / "public"
    public.mkdir()
    public.chmod(0o777)
    with pytest.raises(ConfigError, match=f"chmod go-w {public}"):
        InstanceLock(runtime_dir, [f"ipc://{public}/pipe"])
    public.chmod(0o1777)
    with InstanceLock(runtime_dir, [f"ipc://{public}/pipe"]):
        assert os.listdir(public) == ["pipe.lock"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_p16_a_directory_of_somebody_else_is_refused(runtime_dir: Path) -> None:
    """Named with both users, also to root."""
    os.chown(runtime_dir, 4_242, -1)
    with pytest.raises(ConfigError, match="belongs to user 4242, and this broker runs as user 0"):
        InstanceLock(runtime_dir)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.real
def test_p16_a_directory_we_cannot_write_is_refused(runtime_dir: Path) -> None:
    """Root's directory for a socket is fine, but not one that we cannot write."""
    runtime_dir.chmod(0o755)
    closed = runtime_dir / "closed"
    closed.mkdir(0o755)
    own = runtime_dir / "own"
    own.mkdir(0o700)
    os.chown(own, 4_242, -1)
    code = HOLD.replace("try:", "import os\nos.setuid(4242)\ntry:", 1)
    command = [sys.executable, "-c", code, str(own), f"ipc://{closed}/pipe"]
    said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert said.stdout.startswith(f"ConfigError the lock {closed}/pipe.lock cannot be opened")
    assert os.listdir(closed) == []


def test_p16_a_link_instead_of_the_directory_is_refused(runtime_dir: Path) -> None:
    """In /tmp anybody could have placed it."""
    (runtime_dir / "real").mkdir(0o700)
    (runtime_dir / "link").symlink_to(runtime_dir / "real")
    with pytest.raises(ConfigError, match="no symbolic link"):
        InstanceLock(runtime_dir / "link")


def test_p16_a_link_instead_of_the_lock_is_refused(runtime_dir: Path) -> None:
    """It would write our process number into what it points to."""
    victim = runtime_dir / "victim"
    victim.write_text("precious")
    (runtime_dir / LOCK_NAME).symlink_to(victim)
    with pytest.raises(ConfigError, match=f"{LOCK_NAME} cannot be opened"):
        InstanceLock(runtime_dir)
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("where", ["gone/zbus", "file/zbus", "file"])
def test_a_place_that_cannot_be_is_refused(runtime_dir: Path, where: str) -> None:
    """A missing parent, a file where a directory should be: a message that names the path."""
    (runtime_dir / "file").write_text("")
    with pytest.raises(ConfigError, match=str(runtime_dir / where)):
        InstanceLock(runtime_dir / where)


def test_a_socket_in_a_missing_directory_is_refused(runtime_dir: Path) -> None:
    """Only the runtime directory is made."""
    with pytest.raises(ConfigError, match="elsewhere cannot be used: No such file"):
        InstanceLock(runtime_dir, [f"ipc://{runtime_dir}/elsewhere/pipe"])
    assert os.listdir(runtime_dir) == []


def test_children_do_not_inherit_the_lock(runtime_dir: Path) -> None:
    """A child that outlives its broker must not keep the place."""
    code = "import os; print([os.path.realpath(f'/proc/self/fd/{n}') for n in range(64)])"
    command = [sys.executable, "-c", code]
    with InstanceLock(runtime_dir):
        assert any(str(runtime_dir) in name for name in open_files())
        child = subprocess.run(command, close_fds=False, capture_output=True, text=True, check=True)
    assert "/proc/" in child.stdout
    assert str(runtime_dir) not in child.stdout
