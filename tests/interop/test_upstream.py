"""The whole daemon follows real chronyd servers: basic, interleaved, with keys, IPv6, as a peer; and serves on."""

import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.daemon import COMMAND, Daemon, environment, free_port, running
from tests.interop import chronyd

KEYS = "1 MD5 HEX:000102030405060708090a0b0c0d0e0f\n2 SHA256 HEX:" + "1f" * 32 + "\n3 AES128 HEX:" + "2e" * 16 + "\n"


def wait_for(daemon: Daemon, command: str, pattern: str, timeout_s: float = 20.0) -> str:
    """The report, once it shows the pattern."""
    deadline = time.monotonic() + timeout_s
    report = ""
    while time.monotonic() < deadline:
        report = daemon.chronyc(command)
        if re.search(pattern, report, re.MULTILINE):
            return report
        time.sleep(0.2)
    raise AssertionError(f"no {pattern!r} in {command}:\n{report}\n{daemon.log}")


def field(report: str, name: str) -> str:
    found = re.search(rf"^{name} *: (.*)$", report, re.MULTILINE)
    assert found, report
    return found.group(1)


@pytest.mark.parametrize(
    ("options", "interleaved", "address", "workers"),
    [("", "No", "127.0.0.1", 0), ("xleave", "Yes", "127.0.0.1", 1), ("xleave", "Yes", "::1", 1),
     ("key 2", "No", "127.0.0.1", 0), ("key 3 xleave", "Yes", "127.0.0.1", 1)],
)
def test_a_chronyd_server_is_followed(
    options: str, interleaved: str, address: str, workers: int, tmp_path: Path
) -> None:
    keyfile = tmp_path / "keys"
    keyfile.write_text(KEYS)
    keyfile.chmod(0o600)
    (tmp_path / "server").mkdir(mode=0o700)
    lines = ("local stratum 3", "allow", f"keyfile {keyfile}")
    with chronyd.running(tmp_path / "server", *lines) as server:
        source = f"server {address} port {server.port} iburst minpoll 0 maxpoll 0 {options}"
        ours = [source, f"workers {workers}", f"keyfile {keyfile}"]
        with running(ours, options=("-n",) if workers else ("-d",), local=False) as daemon:
            wait_for(daemon, "tracking", r"^Stratum +: 4$")
            report = wait_for(daemon, "ntpdata", r"NTP tests +: 111 111 1111")
            if interleaved == "Yes":
                report = wait_for(daemon, "ntpdata", r"Interleaved +: Yes")
            assert field(report, "Authenticated") == ("Yes" if "key" in options else "No")
            assert field(report, "TX timestamping") == field(report, "RX timestamping") == "Kernel"
            assert abs(float(field(report, "Offset").split()[0])) < 1e-3
            assert f"^* {address}" in daemon.chronyc("sources")
            line = f"server 127.0.0.1 port {daemon.port} iburst maxsamples 1"
            asked = subprocess.run(
                ["chronyd", "-Q", "-x", "-t", "5", f"pidfile {tmp_path}/pid", "cmdport 0", line],
                capture_output=True, text=True, timeout=30, check=False,
            )
            assert "System clock wrong by" in asked.stderr + asked.stdout


@pytest.mark.parametrize("rule", ["deny all", "allow"])
def test_requests_from_the_server_port(rule: str, tmp_path: Path) -> None:
    """`acquisitionport` and `port` the same, as firewalls want it: also where nobody may ask us."""
    (tmp_path / "server").mkdir(mode=0o700)
    with chronyd.running(tmp_path / "server", "local stratum 3", "allow") as server:
        port = free_port()
        ours = [f"acquisitionport {port}", rule, f"server 127.0.0.1 port {server.port} iburst minpoll 0 maxpoll 0"]
        with running(ours, options=("-n",), local=False, port=port) as daemon:
            wait_for(daemon, "tracking", r"^Stratum +: 4$")
            assert "^* 127.0.0.1" in daemon.chronyc("sources")
            with socket.socket(type=socket.SOCK_DGRAM) as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))


def test_a_chronyd_peer_is_followed_by_a_worker_s_hand_over(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir(mode=0o700)
    theirs, ours = free_port(), free_port()
    lines = ("local stratum 3", "allow", f"peer 127.0.0.1 port {ours} minpoll 0 maxpoll 0 xleave")
    with (
        chronyd.running(tmp_path / "server", *lines, port=theirs),
        running(
            [f"peer 127.0.0.1 port {theirs} minpoll 0 maxpoll 0 xleave", "workers 1"], options=("-n",), local=False,
            port=ours,
        ) as daemon,
    ):
        wait_for(daemon, "tracking", r"^Stratum +: 4$", 40.0)
        assert "=* 127.0.0.1" in daemon.chronyc("sources")
        report = wait_for(daemon, "ntpdata", r"NTP tests +: 111 111 1111", 30.0)
        assert field(report, "Mode").startswith("Symmetric")


def test_a_print_once_run_tells_the_offset_and_ends_well(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir(mode=0o700)
    with chronyd.running(tmp_path / "server", "local stratum 3", "allow") as server:
        done = subprocess.run(
            [*COMMAND, "-Q", "-t", "5", f"server 127.0.0.1 port {server.port} iburst maxsamples 1"],
            capture_output=True, text=True, timeout=30, check=False, env=environment(), cwd=tmp_path,
        )
    assert done.returncode == 0, done.stderr
    assert re.search(r"System clock wrong by -?0\.00\d{4} seconds \(ignored\)", done.stderr + done.stdout)


def test_a_set_once_run_without_the_clock_ends_as_chronyds_does(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir(mode=0o700)
    ended = {}
    with chronyd.running(tmp_path / "server", "local stratum 3", "allow") as server:
        for name, command in (("ours", COMMAND), ("theirs", [str(chronyd.chronyd_path()), "-x"])):
            options = ["-q", "-t", "8", "-u", "root", f"server 127.0.0.1 port {server.port} iburst maxsamples 1"]
            quiet = [f"pidfile {tmp_path}/{name}.pid", "cmdport 0", "bindcmdaddress /"]
            ended[name] = subprocess.run(
                [*command, *options, *quiet],
                capture_output=True, text=True, timeout=30, check=False, env=environment(), cwd=tmp_path,
            )
    for name, done in ended.items():
        assert re.search(r"System clock wrong by -?0\.00\d{4} seconds \(step\)", done.stderr + done.stdout), name
        assert "Could not step system clock" in done.stderr + done.stdout, name
        assert done.returncode == 0, name


def test_a_print_once_run_without_an_answer_fails(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *COMMAND[1:], "-Q", "-t", "2", f"server 127.0.0.1 port {free_port()} iburst"],
        capture_output=True, text=True, timeout=30, check=False, env=environment(), cwd=tmp_path,
    )
    assert done.returncode == 1
