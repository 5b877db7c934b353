"""Our daemon as a user starts it: a process of its own with a configuration file, in a private directory.

Never touches the clock (`-x`); stopped, and its whole family waited for, at the end of the `with` block.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import FILTER

ROOT = Path(__file__).parents[1]
# Without the clock, whatever a test does: nobody may forget it.
COMMAND = (sys.executable, "-m", "ntpd_fast.cli.start", "-x")
START_S = 20.0


def free_port() -> int:
    """A UDP port that nobody uses on loopback, IPv4 and IPv6."""
    for _ in range(100):
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six, socket.socket(type=socket.SOCK_DGRAM) as four:
            six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            six.bind(("::1", 0))
            port: int = six.getsockname()[1]
            try:
                four.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


@dataclass
class Daemon:
    """A running daemon."""

    process: subprocess.Popen[bytes]
    directory: Path
    port: int
    cmdport: int

    @property
    def socket(self) -> str:
        return str(self.directory / "run" / "chronyd.sock")

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def kill(self) -> None:
        """End it as a power cut does; with more than one process, the others notice."""
        self.process.kill()
        self.process.wait(10)

    def chronyc(self, *words: str, host: str | None = None) -> str:
        """What the real chronyc prints on the daemon's socket (or over UDP to `host`); its status must be 0."""
        where = ["-h", self.socket] if host is None else ["-h", host, "-p", str(self.cmdport)]
        command = ["chronyc", "-n", *where, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, (words, done.stdout, done.stderr, self.log)
        return done.stdout


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TZ": "UTC"}


@contextmanager
def running(
    lines: Sequence[str] = (), *, options: Sequence[str] = ("-d",), port: int | None = None, local: bool = True,
    lasts: bool = True,
) -> Iterator[Daemon]:
    """Start with these configuration lines beside a local reference and access for loopback.

    One that `lasts` has to be there at the end of the block.
    """
    with tempfile.TemporaryDirectory(prefix="ntpd-fast-") as name:
        directory = Path(name)
        (directory / "run").mkdir(mode=0o700)
        port = free_port() if port is None else port
        cmdport = free_port()
        common = [
            f"port {port}", f"cmdport {cmdport}", f"bindcmdaddress {directory}/run/chronyd.sock",
            "bindcmdaddress 127.0.0.1", f"pidfile {directory}/run/pid", "allow 127.0.0.0/8", "allow ::1",
        ]
        if local:
            common.append("local stratum 10")
        (directory / "conf").write_text("\n".join([*common, *lines]) + "\n")
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [*COMMAND, "-u", "root", *FILTER, "-f", str(directory / "conf"), *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), cwd=directory,
            )
        daemon = Daemon(process, directory, port, cmdport)
        try:
            wait_until_answering(daemon)
            yield daemon
            assert not lasts or process.poll() is None, daemon.log
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def wait_until_answering(daemon: Daemon) -> None:
    """Until the command socket answers; AssertionError with the log when it does not."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert daemon.process.poll() is None, daemon.log
        if os.path.exists(daemon.socket):
            done = subprocess.run(
                ["chronyc", "-h", daemon.socket, "tracking"], capture_output=True, text=True, timeout=20, check=False
            )
            if done.returncode == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"the daemon does not answer:\n{daemon.log}")
