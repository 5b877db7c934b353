"""Leap second tables: the system's own, made-up ones, and broken ones."""

from __future__ import annotations

import calendar
import os
import struct
import zoneinfo
from pathlib import Path

import pytest

from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.leapdb import (
    DECEMBER_2012_S,
    JUNE_2012_S,
    NTP_EPOCH_OFFSET_S,
    START_1972_S,
    ZONE_DIRECTORIES,
    LeapDb,
    LeapSecondsList,
    LeapSource,
    LeapSourceError,
    LeapTable,
    RightTimeZone,
    is_leap_day,
    parse_leap_seconds_list,
    parse_tzif_leaps,
)
from ntpd_fast.system.messages import Severity


def utc(*fields: int) -> int:
    return calendar.timegm((*fields, *[0] * (6 - len(fields))))


HISTORY = [
    (utc(1972, 1, 1), 10),
    (utc(2009, 1, 1), 34),
    (utc(2012, 7, 1), 35),
    (utc(2015, 7, 1), 36),
    (utc(2017, 1, 1), 37),
]
EXPIRES = utc(2030, 6, 28)


def listing(changes: list[tuple[int, int]], expires: int = EXPIRES) -> str:
    lines = ["#  a comment", f"#$\t{utc(2025, 1, 1) + NTP_EPOCH_OFFSET_S}", f"#@\t{expires + NTP_EPOCH_OFFSET_S}"]
    lines += [f"{at + NTP_EPOCH_OFFSET_S}\t{tai}\t# note" for at, tai in changes]
    return "\n".join([*lines, "#h\tdeadbeef", ""])


def tzif(changes: list[tuple[int, int]], *, version: bytes = b"2", expiry: int | None = None) -> bytes:
    """A file of a zone without transitions that has these leap seconds."""
    records = []
    previous = 10
    for at, tai in changes[1:]:
        # a negative leap second is recorded where it would have been
        records.append((at + previous - 10 - (tai < previous), tai - 10))
        previous = tai
    if expiry is not None:
        records.append((expiry + previous - 10, previous - 10))
    blocks = b""
    for size in "l", "q":
        kept = [r for r in records if size == "q" or r[0] < 2**31]
        header = b"TZif" + version + bytes(15) + struct.pack(">6L", 0, 0, len(kept), 0, 1, 4)
        body = struct.pack(">lBB", 0, 0, 0) + b"UTC\0"
        blocks += header + body + b"".join(struct.pack(f">{size}l", *record) for record in kept)
        if version < b"2":
            break
    return blocks + b"\nUTC0\n"


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (utc(2012, 6, 30), (Leap.INSERT, 34)),
        (utc(2012, 6, 30, 23, 59, 59), (Leap.INSERT, 34)),
        (utc(2012, 7, 1), (Leap.NORMAL, 35)),
        (utc(2012, 6, 29, 23, 59, 59), (Leap.NORMAL, 34)),
        (utc(2016, 12, 31, 1), (Leap.INSERT, 36)),
        (utc(2024, 6, 30), (Leap.NORMAL, 37)),
        (utc(1960, 1, 1), (Leap.NORMAL, 0)),
    ],
)
def test_a_table_knows_the_leap_second_of_a_day(when: int, expected: tuple[Leap, int]) -> None:
    for table in (
        parse_leap_seconds_list(listing(HISTORY)),
        parse_tzif_leaps(tzif(HISTORY)),
        parse_tzif_leaps(tzif(HISTORY, version=b"\0")),
        parse_tzif_leaps(tzif(HISTORY, version=b"4", expiry=EXPIRES)),
    ):
        assert table.lookup(when) == expected
        assert table.is_plausible()


def test_a_negative_leap_second_is_a_deletion() -> None:
    changes = [*HISTORY, (utc(2029, 7, 1), 36)]
    for table in (parse_leap_seconds_list(listing(changes)), parse_tzif_leaps(tzif(changes))):
        assert table.lookup(utc(2029, 6, 30)) == (Leap.DELETE, 37)
        assert table.lookup(utc(2029, 7, 1)) == (Leap.NORMAL, 36)


def test_the_files_of_this_system_agree() -> None:
    zone = RightTimeZone("right/UTC").load()
    listed = LeapSecondsList("/usr/share/zoneinfo/leap-seconds.list").load()
    assert zone.is_plausible()
    assert zone.changes == listed.changes
    assert RightTimeZone(":right/UTC").load() == zone
    assert RightTimeZone("/usr/share/zoneinfo/right/UTC").load() == zone


@pytest.mark.parametrize("name", ["UTC", "right/Nowhere", "../../../../etc/passwd", "/etc/passwd", "", "right"])
def test_zones_without_leap_seconds_cannot_be_used(name: str) -> None:
    with pytest.raises(LeapSourceError):
        RightTimeZone(name).load()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "#$ 1\n",
        "#@ 1\n",
        "#$ x\n#@ 1\n",
        listing(HISTORY) + "12\n",
        listing(HISTORY) + "x y\n",
        listing(HISTORY[::-1]),
        listing([(i, i) for i in range(20_000)]),
    ],
)
def test_broken_lists_are_refused(text: str) -> None:
    with pytest.raises(LeapSourceError):
        parse_leap_seconds_list(text)


def test_broken_zone_files_are_refused_wherever_they_are_cut() -> None:
    data = tzif(HISTORY)
    end = len(data) - len("\nUTC0\n")
    for length in range(0, end, 3):
        with pytest.raises(LeapSourceError):
            parse_tzif_leaps(data[:length])
    for position in range(0, len(data), 5):
        mutated = bytearray(data)
        mutated[position] ^= 0xFF
        try:
            table = parse_tzif_leaps(bytes(mutated))
        except LeapSourceError:
            continue
        assert len(table.changes) < 100


@pytest.mark.parametrize("changes", [HISTORY[:1], HISTORY[:2], [*HISTORY[:3], (utc(2013, 1, 1), 36)]])
def test_tables_that_do_not_know_2012_are_implausible(changes: list[tuple[int, int]]) -> None:
    assert not LeapTable(tuple(changes)).is_plausible()


class Logged(list[tuple[Severity, str]]):
    def __call__(self, severity: Severity, text: str) -> None:
        self.append((severity, text))


class Scripted:
    """A source that gives what the test says."""

    using, failed, expired = "using", "failed", "expired"

    def __init__(self, table: LeapTable | None) -> None:
        self.table = table
        self.loads = 0

    def load(self) -> LeapTable:
        self.loads += 1
        if self.table is None:
            raise LeapSourceError("gone")
        return self.table


def test_the_list_wins_over_the_zone_and_bad_sources_are_told(tmp_path: Path) -> None:
    good = tmp_path / "good.list"
    good.write_text(listing(HISTORY))
    log = Logged()
    assert LeapDb.open(leapseclist=str(good), leapsectz="right/UTC", log=log) is not None
    assert log == [(Severity.INFO, f"Using leap second list {good}")]
    log.clear()
    assert LeapDb.open(leapseclist="/nowhere", leapsectz="right/UTC", log=log) is not None
    assert log == [
        (Severity.WARNING, "Leap second list /nowhere failed check, ignoring"),
        (Severity.INFO, "Using right/UTC timezone to obtain leap second data"),
    ]
    log.clear()
    assert LeapDb.open(leapseclist=None, leapsectz="UTC", log=log) is None
    assert log == [(Severity.WARNING, "Timezone UTC failed leap second check, ignoring")]
    assert LeapDb.open(leapseclist=None, leapsectz=None, log=log) is None


def test_lookups_read_the_source_again_every_12_hours_only() -> None:
    source = Scripted(LeapTable(tuple(HISTORY), EXPIRES))
    log = Logged()
    leap_db = LeapDb(source, log)
    assert leap_db.reload()
    day = utc(2016, 12, 31)
    for second in range(0, 43_200, 600):
        assert leap_db.lookup(day + second) == (Leap.INSERT, 36)
    assert source.loads == 1
    assert leap_db.lookup(day + 43_200) == (Leap.INSERT, 36)
    assert source.loads == 2
    assert leap_db.lookup(day + 86_400) == (Leap.NORMAL, 37)
    source.table = None
    # what was known stays known
    for later in range(2, 6):
        assert leap_db.lookup(day + later * 86_400) == (Leap.NORMAL, 37)
    assert log == [(Severity.WARNING, "failed")]
    # told again only when it was good meanwhile
    source.table = LeapTable(tuple(HISTORY), EXPIRES)
    leap_db.lookup(day + 7 * 86_400)
    source.table = None
    leap_db.lookup(day + 8 * 86_400)
    assert log == [(Severity.WARNING, "failed")] * 2
    assert leap_db.tai_offset_s(utc(2016, 1, 1)) == 36
    assert leap_db.tai_offset_s(utc(1960, 1, 1)) is None


def test_an_expired_list_is_told_once() -> None:
    source: LeapSource = Scripted(LeapTable(tuple(HISTORY), EXPIRES))
    log = Logged()
    leap_db = LeapDb(source, log)
    leap_db.reload()
    leap_db.lookup(EXPIRES - 1)
    assert log == []
    for day in range(5):
        assert leap_db.lookup(EXPIRES + day * 86_400) == (Leap.NORMAL, 37)
    assert log == [(Severity.WARNING, "expired")]


def test_files_are_read_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "long.list"
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(LeapSourceError, match="longer than"):
        LeapSecondsList(str(path)).load()


@pytest.mark.parametrize("kind", ["pipe", "directory", "nothing"])
def test_what_is_no_file_holds_nobody_up(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "list"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    for source in LeapSecondsList(str(path)), RightTimeZone(str(path)):
        with pytest.raises(LeapSourceError):
            source.load()


def test_leap_days() -> None:
    assert is_leap_day(utc(2025, 6, 30))
    assert is_leap_day(utc(2025, 12, 31, 23, 59, 59))
    assert not is_leap_day(utc(2025, 7, 1))
    assert not is_leap_day(utc(2025, 3, 31))


def test_moments_written_as_numbers():
    assert calendar.timegm((2012, 6, 30, 12, 0, 0)) == JUNE_2012_S
    assert calendar.timegm((2012, 12, 31, 12, 0, 0)) == DECEMBER_2012_S
    assert calendar.timegm((1972, 1, 1, 0, 0, 0)) == START_1972_S
    assert set(ZONE_DIRECTORIES) >= {path for path in zoneinfo.TZPATH if path.startswith("/usr/share/zoneinfo")}
