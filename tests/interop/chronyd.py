"""A private chronyd (Debian's) as an independent peer: own directory, free port, no control of the clock."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0


def chronyd_path() -> str | None:
    """The program, where it is installed."""
    return shutil.which("chronyd", path="/usr/sbin:/usr/bin:/sbin")


def free_port(family: socket.AddressFamily = socket.AF_INET) -> int:
    """A UDP port that nobody uses now."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1" if family is socket.AF_INET else "::1", 0))
        return int(sock.getsockname()[1])


class Chronyd:
    """A running chronyd."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self.command_socket = directory / "chronyd.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        """End it as a power cut does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return (self.directory / "chronyd.log").read_text()

    def command(self, *words: str) -> str:
        """What chronyc prints (`-c`: separated by commas) for a command."""
        done = subprocess.run(
            ["chronyc", "-c", "-h", str(self.command_socket), *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        return done.stdout


@contextmanager
def running(
    directory: Path, *lines: str, port: int | None = None, options: Sequence[str] = ()
) -> Iterator[Chronyd]:
    """Run chronyd with these configuration lines and a server port on all addresses."""
    program = chronyd_path()
    assert program is not None
    server = Chronyd(directory, free_port() if port is None else port)
    config = directory / "chrony.conf"
    config.write_text(
        "\n".join(
            [
                f"port {server.port}",
                "cmdport 0",
                f"bindcmdaddress {server.command_socket}",
                f"pidfile {directory / 'chronyd.pid'}",
                *lines,
                "",
            ]
        )
    )
    with (directory / "chronyd.log").open("w") as log:
        process = subprocess.Popen(
            [program, "-x", "-d", "-u", "root", *options, "-f", str(config)], stdout=log, stderr=subprocess.STDOUT
        )
        server.process = process
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not server.command_socket.exists():
                assert process.poll() is None, (directory / "chronyd.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield server
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)
