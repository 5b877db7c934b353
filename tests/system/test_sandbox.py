"""The daemon closed in (`-F`): what its processes may do, what they do, and what becomes of one that does more."""

import contextlib
import os
import pwd
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ntpd_fast.system.landlock import abi
from ntpd_fast.system.syscalls import ALLOWED, Kind
from tests.netns import in_network_namespace, ip
from tests.pki import Authority
from tests.processes import children_of, is_running, status_of, wait_until
from tests.system.harness import Daemon, ask, open_to_others
from tests.system.test_nts import exchange, free_tcp_port

SERVE = ("local stratum 7", "allow")
LEVELS = pytest.mark.parametrize("level", [1, 2, -1, -2])
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="an ordinary user has no rights to lose")
NOTHING = "0" * 16
NET_BIND_SERVICE = f"{1 << 10:016x}"
REQUESTS = 400


def filtered(level: int, *more: str) -> tuple[str, ...]:
    return ("-d", "-F", str(level), *more)


def load(daemon: Daemon, requests: int = REQUESTS) -> None:
    """Requests from several addresses, so that every worker has some."""
    for number in range(requests):
        assert ask(port=daemon.port, source=f"127.0.0.{1 + number % 50}") is not None


def rights(pid: int) -> list[str]:
    return status_of(pid, "CapPrm", "CapEff", "CapInh", "CapAmb", "NoNewPrivs", "Seccomp")


def descriptors(pid: int) -> dict[str, str]:
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):    # closed meanwhile
            found[name] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


class Traced:
    """The system calls that some processes make within the `with` block."""

    def __init__(self, directory: Path, *pids: int) -> None:
        self._path = directory / "trace"
        attach = [word for pid in pids for word in ("-p", str(pid))]
        self._strace = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", str(self._path), *attach], stderr=subprocess.DEVNULL
        )
        self._pids = pids

    def __enter__(self) -> "Traced":
        wait_until(lambda: all(status_of(pid, "TracerPid") != ["0"] for pid in self._pids), "strace to attach")
        return self

    def __exit__(self, *_: object) -> None:
        self._strace.send_signal(signal.SIGINT)
        self._strace.wait(20)

    @property
    def lines(self) -> list[str]:
        return self._path.read_text().splitlines()

    def calls(self) -> set[str]:
        return {match[1] for line in self.lines if (match := re.match(r"\d+ +(?:<\.\.\. )?(\w+)[( ]", line))}


@pytest.mark.parametrize("workers", [0, 2])
@LEVELS
def test_daemon_works_closed_in(make_daemon, level, workers):
    daemon = make_daemon(*SERVE, f"workers {workers}", options=filtered(level)).start()
    load(daemon, 50)
    assert "7F7F0101" in daemon.chronyc("tracking")
    for pid in (daemon.pid, *children_of(daemon.pid)):
        assert rights(pid)[-2:] == ["1", "2"]
    assert f"Loaded seccomp filter (level {level})" in daemon.log_texts()
    assert daemon.stop() == 0
    assert daemon.left_behind() == []
    assert not any("killed" in line or "exited" in line for line in daemon.log_texts())


def test_level_0_is_no_filter(make_daemon):
    daemon = make_daemon(*SERVE, "workers 1", options=("-d",))
    daemon.arguments += ["-F", "0"]
    daemon.start()
    before = status_of(os.getpid(), "Seccomp")
    assert [status_of(pid, "Seccomp") for pid in (daemon.pid, *children_of(daemon.pid))] == [before] * 3
    assert not any("seccomp" in line for line in daemon.log_texts())
    daemon.stop()


def test_workers_make_only_listed_calls_and_open_nothing(make_daemon, tmp_path):
    """Under load, with the tables changed meanwhile; as root they could do anything."""
    daemon = make_daemon(*SERVE, "workers 2", options=filtered(2)).start()
    _, *workers = children_of(daemon.pid)
    before = {pid: descriptors(pid) for pid in workers}
    with Traced(tmp_path, *workers) as traced:
        load(daemon)
        assert daemon.chronyc("deny", "192.0.2.0/24") == "200 OK\n"
        load(daemon, 50)
    calls = traced.calls()
    assert {"recvmmsg", "sendmsg", "poll"} <= calls
    assert calls <= ALLOWED[Kind.WORKER], calls - ALLOWED[Kind.WORKER]
    assert not calls & {"open", "openat", "openat2", "creat", "stat", "newfstatat", "mmap", "mprotect"}, calls
    assert {pid: descriptors(pid) for pid in workers} == before
    daemon.stop()


def test_key_exchange_makes_only_listed_calls(make_daemon, tmp_path):
    """With the reading of new certificates, which is all it opens."""
    authority = Authority()
    pair = authority.issue("127.0.0.1").write(tmp_path)
    ke_port = free_tcp_port()
    nts = (f"ntsport {ke_port}", f"ntsservercert {pair[0]}", f"ntsserverkey {pair[1]}", "ntsprocesses 1")
    daemon = make_daemon(*SERVE, "workers 1", *nts, options=filtered(1)).start()
    daemon.ke_port = ke_port
    ke = children_of(daemon.pid)[-1]
    before = descriptors(ke)
    exchange(authority, daemon)
    with Traced(tmp_path, ke) as traced:
        for _ in range(5):
            exchange(authority, daemon)
        authority.issue("127.0.0.1").write(tmp_path)
        assert daemon.chronyc("rekey") == "200 OK\n"
        wait_until(lambda: "Reloaded NTS server certificates" in daemon.log_texts(), "new certificates")
        exchange(authority, daemon)
    calls = traced.calls()
    assert {"accept4", "openat"} & calls
    assert calls <= ALLOWED[Kind.NTS_KE], calls - ALLOWED[Kind.NTS_KE]
    opened = [match[1] for line in traced.lines if (match := re.search(r'openat\([^"]*"([^"]*)"', line))]
    assert set(opened) >= set(pair)
    assert not any(re.search(r"O_(WRONLY|RDWR|CREAT)", line) for line in traced.lines if "openat" in line)
    wait_until(lambda: descriptors(ke) == before, "sessions to be closed")
    assert ke == children_of(daemon.pid)[-1]
    daemon.stop()


@AS_ROOT
@pytest.mark.parametrize("level", [0, 2])
def test_no_process_keeps_more_than_it_needs(make_daemon, level):
    """Serve-only on port 123: the one capability for it, and that not in those who talk to strangers."""

    def serve_there() -> tuple[list[list[str]], bool]:
        ip("link", "set", "lo", "up")
        nobody = pwd.getpwnam("nobody")
        daemon = make_daemon(*SERVE, "workers 2", options=filtered(level), user="nobody", port=123)
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", "w") as file:
            file.write("1024\n")
        open_to_others(daemon.directory)
        daemon.run_directory.chmod(0o770)
        for directory in (daemon.directory, daemon.run_directory):
            os.chown(directory, nobody.pw_uid, nobody.pw_gid)
        daemon.start()
        answered = daemon.ask() is not None
        found = [rights(pid)[:5] for pid in (daemon.pid, *children_of(daemon.pid))]
        daemon.stop()
        return found, answered

    found, answered = in_network_namespace(serve_there)
    assert answered
    for_the_port = [NET_BIND_SERVICE, NET_BIND_SERVICE, NOTHING, NOTHING, "1"]
    nothing = [NOTHING, NOTHING, NOTHING, NOTHING, "1"]
    assert found == [for_the_port, for_the_port, nothing, nothing]


# a worker that turns against us: the first one of slot 0, once it serves
TREASON = """
import ctypes, sys
from ntpd_fast.server.engine import Engine
beat = Engine.beat
def betray(self, now):
    beat(self, now)
    if self.region.index == 0 and self.region.generation == 1:
        betray.beats += 1
        if betray.beats == 4:
            ctypes.CDLL(None).ptrace(0, 0, None, None)
betray.beats = 0
Engine.beat = betray
from ntpd_fast.cli.daemon import main
sys.exit(main())
"""


@pytest.mark.parametrize("level", [1, 2])
def test_forbidden_call_costs_one_worker(make_daemon, level):
    """It is replaced, and the log says what it was; the others go on."""
    launcher = [sys.executable, "-c", TREASON]
    daemon = make_daemon(*SERVE, "workers 2", options=filtered(level), launcher=launcher).start()
    control, victim, other = children_of(daemon.pid)
    wait_until(lambda: not is_running(victim), "the traitor to be killed")
    wait_until(lambda: len([p for p in children_of(daemon.pid) if is_running(p)]) == 3, "a new worker")
    assert {control, other} <= set(children_of(daemon.pid))
    said = f"Worker 0 (pid {victim}) was killed by SIGSYS, for a system call that its filter forbids"
    wait_until(lambda: said in daemon.log_texts(), "the log to say so")
    assert daemon.ask() is not None
    daemon.stop()


@pytest.mark.skipif(abi() == 0, reason="this kernel has no Landlock")
def test_control_writes_only_where_its_files_are(make_daemon, tmp_path):
    """Even as root: the path rules hold for everybody."""
    for name in ("state", "log", "dump"):
        (tmp_path / name).mkdir()
    daemon = make_daemon(
        *SERVE,
        f"driftfile {tmp_path}/state/drift",
        f"logdir {tmp_path}/log",
        f"dumpdir {tmp_path}/dump",
        "log tracking",
        "workers 0",
        options=filtered(2),
        launcher=[sys.executable, "-c", TRESPASS, str(tmp_path / "elsewhere"), str(tmp_path / "state/file")],
    )
    daemon.start()
    assert daemon.chronyc("cyclelogs") == "200 OK\n"
    wait_until(lambda: "elsewhere: EACCES, state: written" in daemon.errors(), f"it to try: {daemon.errors()}")
    assert not (tmp_path / "elsewhere").exists()
    assert (tmp_path / "state/file").read_text() == "x"
    assert daemon.stop() == 0
    assert daemon.left_behind() == []


TRESPASS = """
import errno, sys
elsewhere, state = sys.argv[1:3]
del sys.argv[1:3]
from ntpd_fast.control.commanding import Commands
def trespass(self):
    try:
        open(elsewhere, "w").write("x")
        said = "written"
    except OSError as error:
        said = errno.errorcode[error.errno]
    open(state, "w").write("x")
    print(f"elsewhere: {said}, state: written", file=sys.stderr, flush=True)
Commands.cycle_logs = trespass
from ntpd_fast.cli.daemon import main
sys.exit(main())
"""
