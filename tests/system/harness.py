"""A daemon of ours for tests: private directory, own ports, never the machine's clock, stopped by its pid.

Also the little that tests need to talk to it: one NTP request, chronyc on its socket, a look at its processes.
"""

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

from ntpd_fast.cli.daemon import main
from ntpd_fast.control import rest  # noqa: F401  (tests take descriptors away as soon as a daemon answers)
from tests.processes import FILTER, PATIENCE_S, children_of, is_running, wait_until

ROOT = Path(__file__).parents[2]
REQUEST = struct.pack("!B39xQ", 4 << 3 | 3, 0x0123456789ABCDEF)
PROGRAM = [sys.executable, "-m", "ntpd_fast.cli.start"]


def free_port() -> int:
    """A UDP port that nobody uses in either family at this moment."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other,
        ):
            one.bind(("0.0.0.0", 0))
            port = one.getsockname()[1]
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                other.bind(("::", port))
            except OSError:
                continue
            return port


def ask(address: str = "127.0.0.1", port: int = 123, timeout_s: float = 5.0, source: str = "") -> bytes | None:
    """One NTP request (from the address `source`); the answer, or None."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(timeout_s)
        if source:
            client.bind((source, 0))
        client.connect((address, port))
        client.send(REQUEST)
        try:
            return client.recv(1024)
        except (TimeoutError, ConnectionRefusedError):
            return None


@dataclass(frozen=True)
class Done:
    """A daemon that ran to its end."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def texts(self) -> list[str]:
        """The lines of stderr without their time."""
        return [line.partition(" ")[2] for line in self.stderr.splitlines()]


def pipes() -> dict[int, int]:
    """Descriptors of this process's pipes and who they are (inode numbers)."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(f"/proc/self/fd/{name}")
            if stat.S_ISFIFO(status.st_mode):
                found[int(name)] = status.st_ino
    return found


def open_to_others(directory: Path) -> None:
    """Let other users reach a directory of ours and write in it; pytest closes what it makes."""
    directory.chmod(0o777)
    for parent in directory.parents:
        if parent.stat().st_uid == os.getuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)


class Daemon:
    """`directives` are lines of its configuration; those for port, sockets and pid file come from here.

    It runs in a fork of the test process, which has all modules in memory already: a start costs a few milliseconds.
    With `launcher` (a command that takes the options) it is started like any program.
    """

    def __init__(
        self,
        directory: Path,
        *directives: str,
        options: tuple[str, ...] = ("-d",),
        user: str | None = None,
        environment: dict[str, str] | None = None,
        launcher: list[str] | None = None,
        port: int | None = None,
    ) -> None:
        self.directory = directory
        self.port = free_port() if port is None else port
        self.run_directory = directory / "run"
        self.run_directory.mkdir(mode=0o770, exist_ok=True)
        self.pidfile = self.run_directory / "daemon.pid"
        self.command_socket = self.run_directory / "command.sock"
        self.config = directory / "daemon.conf"
        lines = [
            f"port {self.port}",
            "cmdport 0",
            f"bindcmdaddress {self.command_socket}",
            f"pidfile {self.pidfile}",
            *directives,
        ]
        self.config.write_text("".join(f"{line}\n" for line in lines))
        self.error_path = directory / "stderr"
        self.output_path = directory / "stdout"
        self.launcher = launcher
        rights = ["-u", user or "root"] if os.getuid() == 0 else ["-U"]
        self.arguments = ["-x", *rights, *FILTER, *options, "-f", str(self.config)]
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        self.started_pid: int | None = None

    def start(self, *, wait: bool = True, pass_fds: tuple[int, ...] = ()) -> "Daemon":
        """Start in the foreground; with `wait`, return when it is ready."""
        ready, tell_ready = os.pipe()
        arguments = [*self.arguments, "-N", str(tell_ready)]
        self.started_pid = self._spawn(arguments, (tell_ready, *pass_fds))
        os.close(tell_ready)
        try:
            if wait:
                assert select.select([ready], [], [], PATIENCE_S)[0], f"not ready: {self.errors()}"
                assert os.read(ready, 10) == b"\n", f"did not start: {self.errors()}"
        finally:
            os.close(ready)
        return self

    def _spawn(self, arguments: list[str], keep: tuple[int, ...]) -> int:
        before = pipes()
        pid = os.fork()
        if pid:
            return pid
        status = 1
        # What the tests before this one have left in cycles must not be finalised here: sockets among it would close
        # descriptors that by then belong to the daemon.
        gc.freeze()
        try:
            os.chdir(self.directory)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            for number, path in ((0, os.devnull), (1, self.output_path), (2, self.error_path)):
                opened = os.open(path, flags if number else os.O_RDONLY, 0o666)
                os.dup2(opened, number)
            # Where a test before this one has used uvloop, libuv makes itself new pipes at each fork, and closes the
            # numbers of those it had: they may not become the daemon's.
            libuvs = [number for number, inode in pipes().items() if inode not in before.values()]
            for number in keep:
                os.set_inheritable(number, True)
            start = 3
            for number in sorted({*keep, *libuvs}):
                if start < number:
                    os.closerange(start, number)
                start = number + 1
            os.closerange(start, 4096)
            for number in signal.valid_signals():
                if callable(signal.getsignal(number)):
                    signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.environ.clear()
            os.environ.update(self.environment)
            if self.launcher is not None:
                os.execvp(self.launcher[0], [*self.launcher, *arguments])
            logging.getLogger().handlers.clear()
            sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
            sys.argv = ["ntpd-fast", *arguments]
            status = main()
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def run(self) -> Done:
        """Run to its end."""
        for path in (self.output_path, self.error_path):
            path.write_text("")
        self.started_pid = self._spawn(self.arguments, ())
        status = self.wait()
        return Done(status, self.output_path.read_text(), self.error_path.read_text())

    def wait(self) -> int:
        """Its exit status, once it ends by itself."""
        pid = self.pid
        done: list[int] = []

        def has_ended() -> bool:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                done.append(os.waitstatus_to_exitcode(status))
            return bool(ended)

        wait_until(has_ended, f"the daemon to end: {self.errors()}")
        self.started_pid = None
        return done[0]

    @property
    def pid(self) -> int:
        assert self.started_pid is not None
        return self.started_pid

    def errors(self) -> str:
        """Everything written to stderr so far."""
        return self.error_path.read_text()

    def log_texts(self) -> list[str]:
        """The lines of stderr without their time."""
        return [line.partition(" ")[2] for line in self.errors().splitlines()]

    def ask(self, address: str = "127.0.0.1", timeout_s: float = 5.0) -> bytes | None:
        return ask(address, self.port, timeout_s)

    def chronyc(self, *words: str) -> str:
        """What Debian's chronyc prints for a command on the Unix socket."""
        done = subprocess.run(
            ["chronyc", "-h", str(self.command_socket), *words],
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
            text=True,
        )
        return done.stdout + done.stderr

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal; its exit status. Nobody may be left."""
        family = children_of(self.pid)
        os.kill(self.pid, number)
        status = self.wait()
        wait_until(lambda: not any(is_running(pid) for pid in family), "children to end")
        return status

    def left_behind(self) -> list[str]:
        """Files in its run directory."""
        return sorted(path.name for path in self.run_directory.iterdir())

    def close(self) -> None:
        """Whatever a test did: nobody is left."""
        if self.started_pid is not None:
            family = children_of(self.pid)
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.started_pid = None
            wait_until(lambda: not any(is_running(pid) for pid in family), "orphans to end")
