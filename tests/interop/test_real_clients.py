"""Real NTP clients get the time from us, over IPv4 and IPv6, and tshark finds nothing wrong with our answers."""

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.daemon import running
from tests.netns import in_network_namespace

ADDRESSES = ["127.0.0.1", "::1"]


def output_of(*command: str, timeout_s: float = 30.0) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("workers", [0, 2])
def test_chronyd_asks_once_and_finds_the_offset(address: str, workers: int, tmp_path: Path) -> None:
    with running([f"workers {workers}"], options=("-n",) if workers else ("-d",)) as daemon:
        line = f"server {address} port {daemon.port} iburst maxsamples 1"
        got = output_of("chronyd", "-Q", "-x", "-t", "5", f"pidfile {tmp_path}/pid", "cmdport 0", line)
        found = re.search(r"System clock wrong by (-?[0-9.]+) seconds \(ignored\)", got)
        assert found, got + daemon.log
        assert abs(float(found.group(1))) < 0.001
        stats = daemon.chronyc("serverstats")
        assert re.search(r"NTP packets received +: [1-9]", stats)


@pytest.mark.parametrize("address", ADDRESSES)
def test_ntpdate_and_ntpdig_query_us(address: str) -> None:
    """They know only port 123, so they and the daemon meet in a namespace of their own."""

    def in_namespace() -> tuple[str, str]:
        with running(port=123):
            return output_of("ntpdate", "-q", address), output_of("ntpdig", address)

    for printed in in_network_namespace(in_namespace):
        found = re.search(r"([+-][0-9.]+) \+/- ([0-9.]+) " + re.escape(address) + r" s10 no-leap", printed)
        assert found, printed
        assert abs(float(found.group(1))) < 0.01


def test_busybox_asks_us_where_it_has_an_ntp_client() -> None:
    busybox = shutil.which("busybox")
    assert busybox, "busybox is one of the peers 'make deps' installs"
    if "ntpd" not in output_of(busybox, "--list").split():
        return      # Debian builds it without; other distributions' is tried here

    def in_namespace() -> str:
        with running(port=123):
            return output_of(busybox, "ntpd", "-q", "-n", "-w", "-d", "-p", "127.0.0.1")

    assert "offset" in in_network_namespace(in_namespace)


def test_tshark_decodes_our_answers_without_complaint(tmp_path: Path) -> None:
    def in_namespace() -> list[dict[str, object]]:
        with running(port=123):
            capture = tmp_path / "capture.pcap"
            tshark = subprocess.Popen(
                ["tshark", "-q", "-i", "lo", "-f", "udp port 123", "-w", str(capture)],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )
            assert tshark.stderr is not None
            deadline = time.monotonic() + 15
            while not capture.exists() or capture.stat().st_size == 0:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            for address in ADDRESSES:
                output_of("ntpdate", "-q", address)
                line = f"server {address} iburst maxsamples 1 xleave extfield F323"
                output_of("chronyd", "-Q", "-x", "-t", "3", f"pidfile {tmp_path}/pid", "cmdport 0", line)
            time.sleep(0.5)
            tshark.send_signal(signal.SIGINT)
            tshark.wait(10)
            tshark.stderr.close()
            decoded = subprocess.run(
                ["tshark", "-r", str(capture), "-T", "json", "-e", "ntp.flags.mode", "-e", "ntp.stratum",
                 "-e", "_ws.malformed", "-e", "_ws.expert.severity", "-e", "ntp.refid"],
                capture_output=True, text=True, timeout=60, check=True,
            )
            return json.loads(decoded.stdout)

    packets = in_network_namespace(in_namespace)
    layers_of = [packet["_source"]["layers"] for packet in packets]
    answers = [layers for layers in layers_of if layers["ntp.flags.mode"] == ["4"]]
    assert len(answers) >= 4
    for layers in answers:
        assert "_ws.malformed" not in layers
        assert layers["ntp.stratum"] == ["10"]


def test_the_real_chronyc_shows_us() -> None:
    with running() as daemon:
        assert "7F7F0101" in daemon.chronyc("tracking")
        assert "0 sources online" in daemon.chronyc("activity")
        assert daemon.chronyc("sources").count("\n") == 2
        assert "Command packets received" in daemon.chronyc("serverstats")
        assert "7F7F0101" in daemon.chronyc("tracking", host="127.0.0.1")
        refused = output_of("chronyc", "-h", "127.0.0.1", "-p", str(daemon.cmdport), "serverstats")
        assert refused.strip() == "501 Not authorised"
        unknown = output_of("chronyc", "-h", daemon.socket, "rtcdata")
        assert unknown.strip() == "513 RTC driver not running"
