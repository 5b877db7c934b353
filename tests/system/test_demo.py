"""`make run`: what a newcomer sees first."""

import os
import re
import socket
import subprocess
import sys

from tests.processes import PATIENCE_S
from tests.system.harness import ROOT, free_port


def run(*arguments: str, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ntpd_fast.cli.demo", "--once", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S * 2,
        check=False,
        **more,
    )


def test_server_is_started_asked_and_ended(tmp_path):
    directory, port = tmp_path / "run", free_port()
    done = run("--directory", str(directory), "--port", str(port), "--command-port", "0")
    assert done.returncode == 0, done.stderr
    for address in ("127.0.0.1", "::1"):
        pattern = rf"{address} port {port}: stratum 10, leap 0, reference 7F7F0101, offset ([-+.\d]+) s"
        answer = re.search(pattern, done.stdout)
        assert answer, done.stdout
        assert abs(float(answer[1])) < 0.1
    assert f"-h {directory}/chronyd.sock tracking" in done.stdout
    assert f"chronyd -Q -x 'server 127.0.0.1 port {port} iburst maxsamples 1'" in done.stdout
    assert [path.name for path in directory.iterdir()] == ["ntpd-fast.conf"]


def test_port_in_use_is_one_clear_line(tmp_path):
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six,
    ):
        four.bind(("0.0.0.0", free_port()))
        port = four.getsockname()[1]
        six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        six.bind(("::", port))
        done = run("--directory", str(tmp_path), "--port", str(port), "--command-port", "0")
    assert done.returncode == 1
    assert done.stderr.endswith(f"Fatal error : Could not open NTP socket on 0.0.0.0:{port} : Address already in use\n")


def test_directory_too_deep_for_a_unix_socket(tmp_path):
    directory = tmp_path / ("d" * 100)
    done = run("--directory", str(directory), "--port", str(free_port()), "--command-port", str(free_port()))
    assert done.returncode == 0, done.stderr
    assert "bindcmdaddress /\n" in (directory / "ntpd-fast.conf").read_text()
