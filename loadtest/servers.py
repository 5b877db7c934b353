"""The servers that are compared: how each is started, and one running with a private directory and port.

Both speak the configuration language of chrony.conf, so a comparison gives both the same lines; what differs
is the command, and lines a kind of server adds. No server ever touches the clock (-x).
"""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtest import cpu
from loadtest.network import IPV6_PREFIX, free_port
from loadtest.requests import header
from loadtest.targets import Target, target

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0


class ServerError(RuntimeError):
    """A server did not start, or did not end."""


@dataclass(frozen=True)
class Kind:
    """A server program. command: its arguments, `{conf}` standing for the configuration file."""

    name: str
    command: tuple[str, ...]
    lines: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Kind":
        """`NAME=COMMAND`. ValueError when it is not that."""
        name, equals, command = text.partition("=")
        arguments = tuple(shlex.split(command))
        if not equals or not name or not any("{conf}" in argument for argument in arguments):
            raise ValueError(f"{text!r} is not NAME=COMMAND with {{conf}} in it")
        return cls(name, arguments)


def chronyd() -> Kind:
    """The distribution's chronyd, which refuses to start as an ordinary user unless told (-U)."""
    program = shutil.which("chronyd") or "/usr/sbin/chronyd"
    user = ("-u", "root") if os.geteuid() == 0 else ("-U",)
    return Kind("chronyd", (program, "-x", "-d", *user, "-f", "{conf}"))


def ntpd_fast(workers: int = 1) -> Kind:
    """This project's server, run from the tree or the installation that the tool itself runs from."""
    command = (sys.executable, "-m", "ntpd_fast.cli.start", "-x", "-d", "-u", "root", "-f", "{conf}")
    return Kind("ntpd-fast", command, (f"workers {workers}",))


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    name: str
    pid: int
    target: Target
    nts_port: int
    directory: Path

    @property
    def key_exchange(self) -> Target:
        return Target(self.target.address, self.nts_port)

    def cpu(self) -> cpu.CpuTime:
        return cpu.read(cpu.process_tree(self.pid))

    def memory_bytes(self) -> tuple[int, int]:
        return cpu.memory_bytes(cpu.process_tree(self.pid))

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")


def configuration(directory: Path, address: str, port: int, nts_port: int, lines: Sequence[str]) -> str:
    """Serve an unsynchronised machine's time from a private directory; nothing outside it is touched.

    In `lines` {directory} and {nts_port} stand for what this server was given.
    """
    common = (
        "local stratum 10",
        "allow 0.0.0.0/0",
        "allow ::/0",
        f"port {port}",
        f"bindaddress {address}",
        "cmdport 0",
        f"bindcmdaddress {directory}/cmd.sock",
        f"pidfile {directory}/pid",
    )
    given = (line.format(directory=directory, nts_port=nts_port) for line in lines)
    return "\n".join((*common, *given)) + "\n"


def answers(where: Target, timeout_s: float) -> bool:
    """Does anything answer an NTP request there?"""
    family = socket.AF_INET6 if where.address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout_s)
        try:
            sock.connect((str(where.address), where.port))
            sock.send(header(time.monotonic_ns()))
            return len(sock.recv(2048)) >= 48
        except OSError:
            return False


@contextmanager
def running(
    kind: Kind,
    address: str,
    lines: Sequence[str] = (),
    files: Mapping[str, bytes] | None = None,
    cores: set[int] | None = None,
) -> Iterator[Running]:
    """Start a server on the given cores and free ports and wait until it answers; stop it at the end.

    files are written to its directory first. ServerError, with what it logged, when it does not answer
    within START_TIMEOUT_S.
    """
    where = target(address, free_port(), (IPV6_PREFIX,))
    nts_port = free_port(socket.SOCK_STREAM)
    with tempfile.TemporaryDirectory(prefix="loadtest-") as name:
        directory = Path(name)
        conf = directory / "conf"
        conf.write_text(configuration(directory, address, where.port, nts_port, (*lines, *kind.lines)))
        for file, content in (files or {}).items():
            (directory / file).touch(mode=0o600)
            (directory / file).write_bytes(content)
        command = [argument.replace("{conf}", str(conf)) for argument in kind.command]
        own_cores = os.sched_getaffinity(0)
        with (directory / "log").open("wb") as log:
            # what it forks at once must be pinned too, so it inherits the cores
            os.sched_setaffinity(0, cores or own_cores)
            try:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            except OSError as error:
                raise ServerError(f"{kind.name}: {error}") from error
            finally:
                os.sched_setaffinity(0, own_cores)
        server = Running(kind.name, process.pid, where, nts_port, directory)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not answers(where, 0.1):
                if process.poll() is not None:
                    raise ServerError(f"{kind.name} ended at its start:\n{server.log()}")
                if time.monotonic() > deadline:
                    raise ServerError(f"{kind.name} does not answer:\n{server.log()}")
                time.sleep(0.02)
            yield server
            if process.poll() is not None:
                raise ServerError(f"{kind.name} ended under load ({process.returncode}):\n{server.log()}")
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL to it and its children when that is not enough."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            for pid in cpu.process_tree(process.pid):
                os.kill(pid, signal.SIGKILL)
            process.wait()
