"""Logs, dumps and the initial correction of the whole daemon, with the lines distributions ship."""

import re
import time
from pathlib import Path

from tests.daemon import running
from tests.interop import chronyd
from tests.interop.test_upstream import wait_for


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
