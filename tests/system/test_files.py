"""Logs, dumps and the initial correction of the whole daemon, with the lines distributions ship."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.daemon import running
from tests.interop import chronyd
from tests.interop.test_upstream import wait_for
from tests.processes import PATIENCE_S, children_of, wait_until


def shipped(directory: Path) -> list[str]:
    """What the stock configuration of EL 10 has beside its pool, with paths of our own."""
    (directory / "keys").touch(mode=0o600)
    return [
        f"driftfile {directory}/state/drift", "makestep 1.0 3", "rtcsync", f"keyfile {directory}/keys",
        f"ntsdumpdir {directory}/state", f"dumpdir {directory}/state/dumps", "leapsectz right/UTC",
        f"logdir {directory}/state/logs", "log measurements statistics tracking selection",
    ]  # fmt: skip


def test_logs_and_dumps_are_written_and_loaded_again(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir(mode=0o700)
    with chronyd.running(tmp_path / "server", "local stratum 3", "allow") as server:
        lines = [*shipped(tmp_path), f"server 127.0.0.1 port {server.port} iburst minpoll 0 maxpoll 0"]
        with running(lines, local=False) as daemon:
            wait_for(daemon, "tracking", r"^Stratum +: 4$")
            time.sleep(2)
            logs = tmp_path / "state" / "logs"
            assert {path.name for path in logs.iterdir()} == {
                "measurements.log", "statistics.log", "tracking.log", "selection.log",
            }  # fmt: skip
            assert re.search(r" 127\.0\.0\.1 +N  3 111 111 1111 ", (logs / "measurements.log").read_text())
            (logs / "tracking.log").rename(logs / "tracking.log.1")
            assert "200 OK" in daemon.chronyc("cyclelogs")
            time.sleep(3)
            assert "127.0.0.1" in (logs / "tracking.log").read_text()
            assert "200 OK" in daemon.chronyc("dump")
            dumps = tmp_path / "state" / "dumps"
            assert (dumps / "127.0.0.1.dat").read_text().startswith("SRC0\n")
        assert (dumps / "127.0.0.1.dat").exists()
        assert len((tmp_path / "state" / "drift").read_text().split()) == 2
        with running(lines, options=("-d", "-r"), local=False) as daemon:
            assert "Loaded dump file for 127.0.0.1" in daemon.log
            wait_for(daemon, "tracking", r"^Stratum +: 4$")


def test_the_initial_correction_comes_before_the_sources() -> None:
    # nobody answers on port 123 of this address: the correction is given up, then the daemon goes on
    with running(["initstepslew 10 127.0.0.9"], local=False) as daemon:
        deadline = time.monotonic() + 30
        while "No suitable source for initstepslew" not in daemon.log:
            assert time.monotonic() < deadline, daemon.log
            time.sleep(0.2)
        assert "0 sources online" in daemon.chronyc("activity")


RESTORED = "Could not step system clock"
"""What is seen of an attempt to restore the time where the clock is not ours (-x), of chronyd 4.3 as well."""


def drift(directory: Path, date_s: float) -> Path:
    """A drift file written at that time."""
    path = directory / "drift"
    path.write_text("            1.000000             0.500000\n")
    os.utime(path, (date_s, date_s))
    return path


def story(texts: list[str]) -> list[str]:
    """What the log says of the clock and of the drift file, in that order."""
    return [text for text in texts if re.match("Disabled control|Could not step|System time|Frequency|Setting", text)]


@pytest.mark.parametrize(
    ("options", "ahead_s"), [(["-s"], 1e6), (["-s"], -1e6), (["-r", "-R", "-s"], 1e6), (["-Q", "-s"], 1e6)]
)
def test_the_time_is_restored_as_chronyd_does_it(make_daemon, tmp_path: Path, options: list[str], ahead_s: float):
    path = drift(tmp_path, time.time() + ahead_s)
    lines = [f"driftfile {path}", "makestep 1 3", f"dumpdir {tmp_path}/dumps"]
    daemon = make_daemon(*lines, options=("-d", "-t", "1", *options))
    done = daemon.run()
    seen = story(done.texts)
    assert seen == [
        "Disabled control of system clock",
        *([RESTORED] if ahead_s > 0 else []),
        f"Frequency 1.000 +/- 0.500 ppm read from {path}",
    ]
    # with or without a measurement: the next start goes on from here
    assert abs(path.stat().st_mtime - time.time()) < PATIENCE_S
    drift(tmp_path, time.time() + ahead_s)
    theirs = subprocess.run(
        [chronyd.chronyd_path(), "-x", "-d", "-u", "root", "-t", "1", *options, "-f", daemon.config],
        capture_output=True, timeout=PATIENCE_S, check=False, text=True,
    )  # fmt: skip
    assert story([line.partition(" ")[2] for line in theirs.stderr.splitlines()]) == seen
    assert theirs.returncode == done.returncode == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_the_time_is_restored_once(make_daemon, tmp_path: Path, workers: int) -> None:
    path = drift(tmp_path, time.time() + 1e6)
    lines = ("local", "allow", f"workers {workers}", f"driftfile {path}")
    daemon = make_daemon(*lines, options=("-d", "-s")).start()
    assert daemon.log_texts().count(RESTORED) == 1
    assert daemon.ask() is not None
    if workers:
        # a control that takes over finds the clock as its predecessor has corrected it since
        os.kill(children_of(daemon.pid)[0], signal.SIGKILL)
        wait_until(lambda: "Resumed the state of the clock" in daemon.log_texts(), daemon.errors())
        assert "Reference ID    : 7F7F0101" in daemon.chronyc("tracking")
        assert daemon.log_texts().count(RESTORED) == 1
    daemon.stop()


def test_what_is_said_of_the_real_time_clock(make_daemon, tmp_path: Path) -> None:
    warning = "Setting the clock from the RTC (-s) has no effect yet, only the drift file is used"
    device = tmp_path / "rtc"
    daemon = make_daemon(f"rtcdevice {device}", options=("-d", "-s")).start()
    daemon.stop()
    assert warning not in daemon.log_texts()
    device.touch()
    daemon.start().stop()
    assert daemon.log_texts().count(warning) == 1
