"""What a machine does to a daemon: processes killed, disks full or read-only, descriptors and memory gone.

Each time the same is expected: time is served on, one line says what is wrong, and when the cause is gone the daemon is
whole again without anybody's help. Disks are tmpfs in a mount namespace of the daemon's own, reached by /proc.
"""

import contextlib
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest

from ntpd_fast.cli.ntpc.connection import Endpoint
from tests.processes import children_of, is_running, status_of, wait_until
from tests.scrape import Scraper
from tests.system.harness import PROGRAM, ask
from tests.system.nts_daemons import exchange
from tests.system.test_workers import Load

SERVE = ("local stratum 7", "allow", "workers 2")
# so many requests are sent around a fault that "served on" means something
AROUND_S = 0.3


def named(daemon, name):
    """The living child with that name."""
    for pid in children_of(daemon.pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if status_of(pid, "Name") == [f"ntpd-{name}"] and is_running(pid):
                return pid
    return None


def lines_with(daemon, *words):
    return [line for line in daemon.log_texts() if all(word in line for word in words)]


def unexplained(daemon, *loads):
    """Requests without an answer that a machine with nothing else to do would have answered."""
    scraper = Scraper(Endpoint(str(daemon.command_socket)))
    found = scraper.faults()
    scraper.close()
    lost = sum(len(load.lost) for load in loads)
    return max(0, lost - found.ntp_waited_too_long - found.ntp_receive_buffer_full)


@pytest.fixture
def served(make_daemon):
    """Makes a daemon that serves; on the way out it must still do so, and end well."""
    daemons = []

    def start(*directives, **more):
        daemon = make_daemon(*SERVE, *directives, **more).start()
        daemons.append(daemon)
        return daemon

    yield start
    for daemon in daemons:
        assert daemon.ask() is not None
        assert lines_with(daemon, "Traceback") == []
        assert daemon.stop() == 0


@pytest.mark.parametrize("victim", ["control", "worker 0", "nts-ke 0"])
def test_a_killed_process_comes_back_and_the_others_serve_on(make_nts_server, authority, victim):
    daemon = make_nts_server("workers 2", "ntsprocesses 1").start()
    before = {name: named(daemon, name) for name in ("control", "worker 0", "worker 1", "nts-ke 0")}
    with Load("127.0.0.1", daemon.port) as one, Load("127.0.0.77", daemon.port) as two:
        time.sleep(AROUND_S)
        os.kill(before[victim], signal.SIGKILL)
        wait_until(lambda: named(daemon, victim) not in (None, before[victim]), f"another {victim}")
        wait_until(lambda: "7F7F0101" in daemon.chronyc("tracking"), "commands")
        exchange(authority, daemon)
        time.sleep(AROUND_S)
    # a batch at most, of the clients of the worker that was killed
    assert unexplained(daemon, one, two) <= (64 if victim == "worker 0" else 0)
    assert all(named(daemon, name) == pid for name, pid in before.items() if name != victim)
    assert len(lines_with(daemon, "was killed by SIGKILL")) == 1
    assert daemon.stop() == 0
    assert daemon.left_behind() == []


def test_of_a_killed_supervisor_nothing_is_left_that_hinders_the_next(make_nts_server, authority):
    daemon = make_nts_server("workers 2", "ntsprocesses 1").start()
    family = children_of(daemon.pid)
    assert len(family) == 4
    daemon.close()
    assert not any(is_running(pid) for pid in family)
    assert ask(port=daemon.port, timeout_s=0.3) is None
    daemon.start()
    assert daemon.ask() is not None
    exchange(authority, daemon)
    assert daemon.stop() == 0
    assert daemon.left_behind() == []


def on_small_disk(directory, size="64k"):
    """A launcher that gives the daemon a disk of its own at `directory`, which only its namespace sees."""
    mount = f"mount -t tmpfs -o size={size},mode=755 none {directory} && mkdir {directory}/logs {directory}/nts"
    command = f'{mount} && exec "$@"'
    user = [] if os.getuid() == 0 else ["-r"]
    return [shutil.which("unshare"), *user, "-m", "sh", "-c", command, "sh", *PROGRAM]


def on_its_disk(daemon, command):
    """Run a shell command in the daemon's mount namespace."""
    user = [] if os.getuid() == 0 else ["-U", "--preserve-credentials"]
    arguments = ["nsenter", *user, "-t", str(daemon.pid), "-m", "sh", "-c", command]
    assert os.spawnvp(os.P_WAIT, "nsenter", arguments) == 0


@pytest.fixture
def small_disk(served, tmp_path):
    """A daemon that writes logs, drift and keys to a small disk, with a source that is polled all the time."""
    upstream = served()
    disk = tmp_path / "disk"
    disk.mkdir()
    daemon = served(
        f"logdir {disk}/logs", "log measurements statistics tracking", f"driftfile {disk}/drift",
        f"dumpdir {disk}/dumps", f"server 127.0.0.1 port {upstream.port} minpoll -4 maxpoll -4 iburst",
        launcher=on_small_disk(disk),
    )  # fmt: skip
    inside = Path(f"/proc/{daemon.pid}/root{disk}")
    wait_until((inside / "logs" / "measurements.log").exists, "log files")
    return daemon, disk, inside


def size_of(path):
    return path.stat().st_size if path.exists() else 0


def test_a_full_disk_is_told_once_a_file_and_written_to_again_when_there_is_room(small_disk):
    daemon, _, inside = small_disk
    measurements = inside / "logs" / "measurements.log"
    filler = inside / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    with Load("127.0.0.1", daemon.port) as load:
        wait_until(lambda: lines_with(daemon, "Could not write", "measurements.log"), "its line")
        assert "200 OK" in daemon.chronyc("dump")
        size = size_of(measurements)
        time.sleep(AROUND_S)
    assert unexplained(daemon, load) == 0
    assert size_of(measurements) == size
    for name in ("measurements.log", "statistics.log", "tracking.log"):
        assert len(lines_with(daemon, "Could not write", name)) <= 1
    assert len(lines_with(daemon, "dump file")) <= 1
    filler.unlink()
    wait_until(lambda: size_of(measurements) > size, "more lines")
    # a line that was cut short is a line of its own
    assert all(line.startswith(("2", "=", " ")) for line in measurements.read_text().splitlines()[:-1])
    assert "200 OK" in daemon.chronyc("dump")
    wait_until(lambda: list((inside / "dumps").glob("*.dat")), "a dump file")


def test_a_read_only_disk_is_told_once_a_file_and_written_to_again_when_it_is_not(small_disk):
    daemon, disk, inside = small_disk
    measurements = inside / "logs" / "measurements.log"
    names = ("measurements.log", "statistics.log", "tracking.log")
    # a file first opened between the disk's change and the command that opens all again would be told of by both
    wait_until(lambda: all((inside / "logs" / name).exists() for name in names), "all logs")
    # the files that are open keep it writable, so it is covered by one that is not
    on_its_disk(daemon, f"mount --bind {disk} {disk} && mount -o remount,bind,ro {disk}")
    with Load("127.0.0.1", daemon.port) as load:
        assert "200 OK" in daemon.chronyc("cyclelogs")
        wait_until(lambda: lines_with(daemon, "Could not open", "measurements.log", "Read-only"), "its line")
        assert "200 OK" in daemon.chronyc("dump")
        time.sleep(AROUND_S)
    assert unexplained(daemon, load) == 0
    for name in names:
        assert len(lines_with(daemon, "Could not open", name)) <= 1
    # lazily: it may be in use at this very moment
    on_its_disk(daemon, f"umount -l {disk}")
    size = size_of(measurements)
    assert "200 OK" in daemon.chronyc("cyclelogs")
    wait_until(lambda: size_of(measurements) > size, "more lines")


def limit(pid, what, value):
    """Set the soft limit of a running process; what it was."""
    soft, hard = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (value, hard))
    return soft


def test_without_descriptors_a_worker_is_started_again_as_soon_as_there_are_some(served):
    daemon = served()
    # no number below is free, and poll(2) may still watch as many as it has
    before = limit(daemon.pid, resource.RLIMIT_NOFILE, 8)
    victim = named(daemon, "worker 0")
    with Load("127.0.0.1", daemon.port), Load("127.0.0.77", daemon.port):
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: lines_with(daemon, "Could not start worker 0", "Too many open files"), "its line")
        assert named(daemon, "worker 1") is not None
        assert "7F7F0101" in daemon.chronyc("tracking")
        limit(daemon.pid, resource.RLIMIT_NOFILE, before)
        wait_until(lambda: named(daemon, "worker 0") not in (None, victim), "another worker")
    # the pauses between its attempts grow
    assert len(lines_with(daemon, "Could not start worker 0")) < 10


def test_without_descriptors_control_goes_on_and_measures_again_when_there_are_some(served):
    upstream = served()
    daemon = served(f"server 127.0.0.1 port {upstream.port} minpoll -4 maxpoll -4 iburst")
    control = named(daemon, "control")

    def good():
        return int(daemon.chronyc("-c", "ntpdata").split(",")[-1])

    wait_until(lambda: good() > 2, "measurements")
    before = limit(control, resource.RLIMIT_NOFILE, 5)
    with Load("127.0.0.1", daemon.port) as load:
        time.sleep(AROUND_S)
        stopped_at = good()
        time.sleep(AROUND_S)
        assert good() <= stopped_at + 1
        assert "200 OK" in daemon.chronyc("refresh")
    assert unexplained(daemon, load) == 0
    assert len(lines_with(daemon, "Too many open files")) <= 3
    limit(control, resource.RLIMIT_NOFILE, before)
    wait_until(lambda: good() > stopped_at + 2, "more measurements")
    assert named(daemon, "control") == control


@pytest.mark.parametrize("victim", ["control", "worker 0"])
def test_without_memory_a_process_may_go_but_the_service_does_not(served, tmp_path, victim):
    """No address space is left to grow into; whatever the process does about it, the daemon is whole afterwards."""
    keys = tmp_path / "keys"
    keys.write_text("1 SHA1 HEX:00112233445566778899\n")
    daemon = served(f"keyfile {keys}")
    pid = named(daemon, victim)
    used = 1024 * int(status_of(pid, "VmSize")[0].split()[0])
    with Load("127.0.0.1", daemon.port) as one, Load("127.0.0.77", daemon.port) as two:
        limit(pid, resource.RLIMIT_AS, used)
        keys.write_text("".join(f"{number} SHA1 HEX:{number:0100X}\n" for number in range(1, 3001)))
        daemon.chronyc("rekey")
        for _ in range(20):
            daemon.chronyc("-c", "sources")
        time.sleep(AROUND_S)
    if is_running(pid):
        limit(pid, resource.RLIMIT_AS, resource.prlimit(pid, resource.RLIMIT_AS)[1])
    wait_until(lambda: "7F7F0101" in daemon.chronyc("tracking"), "commands")
    wait_until(lambda: "200 OK" in daemon.chronyc("rekey"), "a command that takes memory")
    assert unexplained(daemon, one, two) == 0
    assert named(daemon, "worker 0") is not None
    assert named(daemon, "worker 1") is not None
