"""`make run`: a server to look at, started as whoever runs it, beside whatever keeps this machine's time.

Everything it makes is in one private directory; it serves loopback only, from the machine's clock as it is, and does
not touch that clock. Once it is up it is asked once over the network, and its answer shown.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from ntpd_fast._record import dataclass

PORT: Final = 11123
COMMAND_PORT: Final = 11323
ANSWER_S: Final = 2.0
# sun_path of <linux/un.h>, with its terminating zero
_SOCKET_PATH_MAX: Final = 107
_NTP_EPOCH_S: Final = 2_208_988_800
_NS_PER_S: Final = 1_000_000_000

CONFIGURATION: Final = """\
# Time for this machine only, from its own clock as it is (-x: the clock is not touched).
local stratum 10
allow 127.0.0.0/8
allow ::1

# As many processes as there are CPUs; 0 would answer from the control process.
workers {workers}

# Ports and paths of an ordinary user
port {port}
cmdport {command_port}
bindcmdaddress {directory}/chronyd.sock
pidfile {directory}/ntpd-fast.pid
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said, and how its clock compares to ours (RFC 5905 section 8)."""

    leap: int
    stratum: int
    refid: int
    offset_s: float
    delay_s: float


def ask(address: str, port: int, timeout_s: float = ANSWER_S) -> Answer:
    """One client request over UDP. Raises OSError (TimeoutError) when no answer comes, ValueError for nonsense."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(timeout_s)
        client.connect((address, port))
        # The server returns our transmit timestamp as it is: a random one tells its answer from a forged one.
        cookie = secrets.token_bytes(8)
        sent_ns = time.time_ns()
        client.send(struct.pack("!B39x8s", 4 << 3 | 3, cookie))
        data = client.recv(1024)
        received_ns = time.time_ns()
    if len(data) < 48 or data[24:32] != cookie or data[0] & 7 != 4:
        raise ValueError("no answer to our request")
    first, stratum = data[0], data[1]
    (refid,) = struct.unpack_from("!I", data, 12)
    receive_ns, transmit_ns = (_unix_ns(data[start : start + 8]) for start in (32, 40))
    offset_ns = (receive_ns - sent_ns + transmit_ns - received_ns) / 2
    delay_ns = (received_ns - sent_ns) - (transmit_ns - receive_ns)
    return Answer(first >> 6, stratum, refid, offset_ns / _NS_PER_S, delay_ns / _NS_PER_S)


def _unix_ns(stamp: bytes) -> int:
    """An NTP timestamp of the era in which we live now."""
    seconds, fraction = int.from_bytes(stamp[:4]), int.from_bytes(stamp[4:])
    now_s = time.time_ns() // _NS_PER_S + _NTP_EPOCH_S
    seconds += (now_s - seconds + (1 << 31)) >> 32 << 32
    return (seconds - _NTP_EPOCH_S) * _NS_PER_S + (fraction * _NS_PER_S >> 32)


def main(arguments: list[str] | None = None) -> int:
    """Run the demonstration until Ctrl-C; its exit status."""
    parser = argparse.ArgumentParser(prog="make run", description="Run a time server for this machine only.")
    parser.add_argument("--directory", type=Path, default=Path(".run"), help="where its files are (default .run)")
    parser.add_argument("--port", type=int, default=PORT, help=f"UDP port served (default {PORT})")
    parser.add_argument("--command-port", type=int, default=COMMAND_PORT, help="UDP port of the command protocol")
    parser.add_argument("--once", action="store_true", help="end after the first answer")
    options = parser.parse_args(arguments)
    directory: Path = options.directory.resolve()
    config = prepare(directory, options.port, options.command_port)
    daemon, ready = start(config)
    try:
        if not ready:
            return daemon.wait() or 1
        status = show(directory, options.port, options.command_port)
        if not options.once:
            print("\nCtrl-C ends it.", flush=True)
            daemon.wait()
    except KeyboardInterrupt:
        status = 0
    finally:
        if daemon.poll() is None:
            daemon.send_signal(signal.SIGTERM)
        daemon_status = daemon.wait()
    return status or daemon_status


def prepare(directory: Path, port: int, command_port: int) -> Path:
    """The private directory and the configuration in it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The daemon trusts its command socket only in a directory that is ours alone.
    os.chown(directory, os.getuid(), os.getgid())
    directory.chmod(0o700)
    config = directory / "ntpd-fast.conf"
    text = CONFIGURATION.format(
        workers=len(os.sched_getaffinity(0)), port=port, command_port=command_port, directory=directory
    )
    if len(str(directory / "chronyd.sock")) > _SOCKET_PATH_MAX:
        # Too long a path for a Unix socket: there is still the UDP port for reports.
        text = text.replace(f"bindcmdaddress {directory}/chronyd.sock", "bindcmdaddress /")
    config.write_text(text)
    return config


def start(config: Path) -> tuple[subprocess.Popen[bytes], bool]:
    """Start the daemon; whether it got ready."""
    read_end, write_end = os.pipe()
    rights = ["-u", "root"] if os.getuid() == 0 else ["-U"]
    daemon = subprocess.Popen(
        [sys.executable, "-m", "ntpd_fast.cli.start", "-d", "-x", *rights, "-N", str(write_end), "-f", str(config)],
        pass_fds=(write_end,),
    )
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        return daemon, pipe.read(1) == b"\n"


def show(directory: Path, port: int, command_port: int) -> int:
    """Ask it once over each family and say how to go on; 1 when it does not answer over IPv4."""
    status = 0
    print()
    for address in ("127.0.0.1", "::1"):
        try:
            answer = ask(address, port)
        except (OSError, ValueError) as error:
            print(f"{address:>9} port {port}: {error}")
            status = status or (1 if address == "127.0.0.1" else 0)
        else:
            print(
                f"{address:>9} port {port}: stratum {answer.stratum}, leap {answer.leap},"
                f" reference {answer.refid:08X}, offset {answer.offset_s:+.6f} s, delay {answer.delay_s:.6f} s"
            )
    path = directory / "chronyd.sock"
    command = f"-h {path}" if path.exists() else f"-h 127.0.0.1 -p {command_port}"
    python = os.path.relpath(sys.executable) if os.path.isabs(sys.executable) else sys.executable
    ways = [("what it knows", f"{python} -m ntpd_fast.cli.control {command} tracking")]
    if shutil.which("chronyc"):
        ways.append(("the same, with chronyc", f"chronyc {command} tracking"))
    if shutil.which("chronyd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
        ways.append(("what chronyd makes of it", f"chronyd -Q -x 'server 127.0.0.1 port {port} iburst maxsamples 1'"))
    print()
    for what, line in ways:
        print(f"  {what + ':':<26}{line}")
    print(f"  {'its configuration:':<26}{directory / 'ntpd-fast.conf'}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
