"""Dump files between Debian's chronyd and our engine, in both directions."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest

from ntpd_fast.client.dumps import DumpDirectory, Dumps
from ntpd_fast.client.samplefilter import Sample
from ntpd_fast.client.source import SelectableSource, SourceKind
from ntpd_fast.client.sourcestats import SourceStats, StatsOptions
from ntpd_fast.clock.driver import Leap
from ntpd_fast.system.messages import Severity
from tests.interop.chronyd import chronyd_path, running

pytestmark = pytest.mark.skipif(chronyd_path() is None, reason="chronyd is not installed")

N_SAMPLES = 12


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def empty_source() -> SelectableSource:
    return SelectableSource(
        SourceKind.NTP,
        SourceStats(StatsOptions(), 1e-9),
        refid=0x7F000001,
        address=ip_address("127.0.0.1"),
        name="127.0.0.1",
    )


def dumps_in(directory: Path, logged: list[str]) -> Dumps:
    def log(severity: Severity, text: str) -> None:
        logged.append(text)

    return Dumps(DumpDirectory(str(directory)), log)


def make_directories(tmp_path: Path) -> tuple[Path, Path, Path]:
    directories = tuple(tmp_path / name for name in ("server", "client", "dumps"))
    for directory in directories:
        directory.mkdir(mode=0o700)
    server, client, dumps = directories
    return server, client, dumps


def test_we_load_what_chronyd_dumps(tmp_path: Path) -> None:
    server_directory, client_directory, dump_directory = make_directories(tmp_path)
    with (
        running(server_directory, "local stratum 3", "allow") as server,
        running(
            client_directory,
            f"server 127.0.0.1 port {server.port} minpoll -3 maxpoll -3",
            f"dumpdir {dump_directory}",
            port=0,
        ) as client,
    ):
        wait_for(lambda: int([*client.command("sourcestats").split(","), "0"][1]) >= N_SAMPLES)
        client.command("dump")
        wait_for((dump_directory / "127.0.0.1.dat").exists)
    text = (dump_directory / "127.0.0.1.dat").read_text()
    logged: list[str] = []
    source = empty_source()
    dumps = dumps_in(dump_directory, logged)
    assert dumps.load(source, time.time_ns())
    assert logged == ["Loaded dump file for 127.0.0.1"]
    assert source.stats.n_samples >= 3
    assert (source.reach, source.reach_size, source.stratum, source.leap) == (0o377, 8, 3, Leap.NORMAL)
    header, samples = text.split("\n")[:3], text.split("\n")[4:]
    # our regression may drop the oldest, and goes on counting updates with the same asymmetry
    dumps.save([source])
    again = (dump_directory / "127.0.0.1.dat").read_text().split("\n")
    assert again[:3] == header
    assert again[4:] == samples[-len(again[4:]) :]


def test_chronyd_loads_what_we_dump(tmp_path: Path) -> None:
    server_directory, client_directory, dump_directory = make_directories(tmp_path)
    source = empty_source()
    now_ns = time.time_ns()
    for i in range(N_SAMPLES):
        source.update_reachability(True)
        source.set_status(3, Leap.NORMAL)
        noise_s = 1e-6 * (-1) ** (i * i // 3)
        source.accumulate(
            Sample(now_ns - (N_SAMPLES - i) * 250_000_000, 1e-4 + noise_s, 2e-5, 1e-6, 2e-5, 2e-6)
        )
    kept = source.stats.n_samples
    assert kept >= 6
    dumps_in(dump_directory, []).save([source])
    with (
        running(server_directory, "local stratum 3", "allow") as server,
        running(
            client_directory,
            f"server 127.0.0.1 port {server.port} offline",
            f"dumpdir {dump_directory}",
            port=0,
            options=["-r"],
        ) as client,
    ):
        wait_for(lambda: "dump file" in client.log)
        assert "Loaded dump file for 127.0.0.1" in client.log
        assert int(client.command("sourcestats").split(",")[1]) == kept
        # the offset as it was measured; the clock has been corrected by it at once
        assert float(client.command("sources").split(",")[8]) == pytest.approx(-1e-4, abs=2e-6)
        assert not (dump_directory / "127.0.0.1.dat").exists()
