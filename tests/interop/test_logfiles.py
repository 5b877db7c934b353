"""Our log files and those of Debian's chronyd in the same scenario: same titles, same columns, same numbers.

Both ask the same server twice as a client of their own for a few seconds. What a line must look like is written down
here column by column; that chronyd's files match shows that it is right, that ours match is the point.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest
import uvloop

from ntpd_fast.client.poller import Poller, PollerOptions
from ntpd_fast.client.sources import Sources, key_authenticators
from ntpd_fast.clock.drivers.null import NullDriver
from ntpd_fast.clock.local import LocalClock
from ntpd_fast.clock.reference import Outlets, Reference, ReferenceOptions
from ntpd_fast.config.loader import parse_lines
from ntpd_fast.control.logfiles import LogFiles
from ntpd_fast.system.messages import Severity
from ntpd_fast.system.timers import AsyncioScheduler
from tests import daemon
from tests.interop.chronyd import chronyd_path, running

pytestmark = pytest.mark.skipif(chronyd_path() is None, reason="chronyd is not installed")

RUN_S = 4.0
BANNER_INTERVAL = 5

DATE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
ADDRESS = r"[0-9a-fA-F.:]+ *"
E3 = r"[ -]\d\.\d{3}e[+-]\d\d"


def integer(width: int) -> str:
    """What %{width}d prints."""
    return rf"(?=[ \d-]{{{width}}}) *-?\d+"


def fixed(width: int, digits: int) -> str:
    """What %{width}.{digits}f prints."""
    return rf"(?=[ \d.-]{{{width}}}) *-?\d+\.\d{{{digits}}}"


HEAD = rf"(?P<date>{DATE}) (?P<address>.{{15}})"
LINES = {
    "measurements": re.compile(
        rf"{HEAD} [N+?-] {integer(2)} [01]{{3}} [01]{{3}} [01]{{4}}  {integer(2)} {integer(2)} {fixed(4, 2)}"
        rf"(?: {E3}){{5}} [0-9A-F]{{8}} \d[BI] [DKH] [DKH]"
    ),
    "statistics": re.compile(
        rf"{HEAD}(?: {E3}){{5}} \d\.\de[+-]\d\d {integer(3)} {integer(3)} {integer(3)} {fixed(5, 2)}"
    ),
    "selection": re.compile(
        rf"{HEAD} [NsMrd~wSOTxWPUD+*] -[N-][P-][T-][R-] [ 0-7]{{3}}[0-7] {fixed(5, 2)}(?: {E3}){{3}}"
    ),
    "tracking": re.compile(
        rf"{HEAD} {integer(2)} {fixed(10, 3)} {fixed(10, 3)} {E3} [N+?-] {integer(2)}(?: {E3}){{5}}"
    ),
}


def check(path: Path) -> tuple[str, list[str]]:
    """The title of a log and its entries, after checking banners and every column."""
    lines = path.read_text().splitlines()
    title = lines[1]
    entries = 0
    found = []
    while lines:
        if entries % BANNER_INTERVAL == 0:
            assert lines[:3] == ["=" * len(title), title, "=" * len(title)]
            del lines[:3]
        if not lines:
            break
        line = lines.pop(0)
        match = LINES[path.stem].fullmatch(line)
        assert match, line
        assert re.fullmatch(ADDRESS, match["address"]), line
        # the columns end where the title does, unless a value is wider than its column
        assert len(line) >= len(title) - 1, line
        found.append(line)
        entries += 1
    return title, found


def run_ours(lines: list[str]) -> list[str]:
    """Our client half for a while; what it told."""
    logged: list[str] = []

    def log(severity: Severity, text: str) -> None:
        logged.append(text)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        config = parse_lines(lines)
        rng = random.Random(1)
        files = LogFiles(config, log)
        scheduler = AsyncioScheduler(loop, rng)
        clock = LocalClock(NullDriver(), scheduler, precision_s=1e-7, log=log)
        outlets = Outlets(tracking_log=files.tracking)
        reference = Reference(clock, ReferenceOptions.from_config(config), log=log, random=rng, outlets=outlets)
        poller = Poller(loop, clock, PollerOptions.from_config(config), log)
        sources = Sources(
            clock, reference, poller, config, log=log, random=rng, authenticators=key_authenticators({}, log)
        )
        files.attach(sources.hooks)
        for source in config.sources:
            sources.add(source, ip_address(source.name))
        sources.start()
        await asyncio.sleep(RUN_S)
        sources.close()
        poller.close()
        scheduler.close()
        files.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    return logged


def test_same_columns_as_chronyd(tmp_path: Path) -> None:
    directories = [tmp_path / name for name in ("server", "client", "theirs", "ours")]
    for directory in directories:
        directory.mkdir(mode=0o700)
    server_directory, client_directory, theirs, ours = directories
    with running(server_directory, "local stratum 3", "allow") as server:

        def client_lines(logdir: Path) -> list[str]:
            return [
                f"server 127.0.0.1 port {server.port} minpoll -3 maxpoll -3 prefer",
                f"server ::1 port {server.port} minpoll -3 maxpoll -3 xleave trust",
                "server 127.0.0.9 minpoll -2 maxpoll -2 noselect",
                f"logdir {logdir}",
                f"logbanner {BANNER_INTERVAL}",
                "log rawmeasurements statistics selection tracking",
            ]

        with running(client_directory, *client_lines(theirs), port=0):
            logged = run_ours(client_lines(ours))
    assert sorted(path.name for path in theirs.iterdir()) == sorted(path.name for path in ours.iterdir())
    assert not [text for text in logged if "Could not" in text]
    for name in LINES:
        their_title, their_entries = check(theirs / f"{name}.log")
        our_title, our_entries = check(ours / f"{name}.log")
        assert our_title == their_title
        assert min(len(our_entries), len(their_entries)) > BANNER_INTERVAL
        assert (ours / f"{name}.log").stat().st_mode == (theirs / f"{name}.log").stat().st_mode
        # a title ends at most one column before its lines do
        assert {len(line) for line in our_entries} & {len(line) for line in their_entries}


def lines_but_for_their_seconds(path: Path, least: int, alive: Callable[[], str]) -> list[str]:
    """The first `least` lines of a log that is being written, each date and time replaced by an X."""
    deadline = time.monotonic() + 30
    while True:
        lines = path.read_text().splitlines() if path.exists() else []
        if len(lines) > least:
            return [re.sub(rf"^{DATE}", "X", line) for line in lines[:least]]
        assert time.monotonic() < deadline, (lines, alive())
        time.sleep(0.1)


def test_temperature_compensation_is_logged_like_chronyds(tmp_path: Path) -> None:
    """Both whole daemons with the same sensor file: the same lines, but for the second in which each was written."""
    sensor = tmp_path / "sensor"
    sensor.write_text("40000\n")
    for name in ("chronyd", "theirs", "ours"):
        (tmp_path / name).mkdir(mode=0o700)

    def lines(logdir: Path) -> list[str]:
        compensation = f"tempcomp {sensor} 1 26000 0.0 0.000183 0.0"
        return [compensation, f"logdir {logdir}", "log tempcomp", "logbanner 3"]

    with (
        running(tmp_path / "chronyd", *lines(tmp_path / "theirs"), port=0) as chronyd,
        daemon.running(lines(tmp_path / "ours")) as ours,
    ):
        their_lines = lines_but_for_their_seconds(tmp_path / "theirs/tempcomp.log", 8, lambda: chronyd.log)
        our_lines = lines_but_for_their_seconds(tmp_path / "ours/tempcomp.log", 8, lambda: ours.log)
    assert our_lines == their_lines
    assert sum(line.startswith("X") for line in our_lines) >= 2
