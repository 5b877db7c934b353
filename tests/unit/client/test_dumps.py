from __future__ import annotations

import os
import random
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntpd_fast.client.dumps import MAX_SIZE, DumpDirectory, Dumps, dump_name, dump_text, is_dump_name, load_text
from ntpd_fast.client.samplefilter import Sample
from ntpd_fast.client.source import SelectableSource, SourceKind
from ntpd_fast.client.sourcestats import SourceStats, StatsOptions
from ntpd_fast.clock.driver import Leap
from ntpd_fast.system.messages import Severity

S = 1_000_000_000
BASE = 1_700_000_000 * S
NOW = BASE + 3600 * S


def source(
    address: str = "10.0.0.1", *, name: str = "a.example", authenticated: bool = False, samples: int = 0
) -> SelectableSource:
    made = SelectableSource(
        SourceKind.NTP,
        SourceStats(StatsOptions(), 1e-9),
        refid=1,
        address=ip_address(address),
        name=name,
        authenticated=authenticated,
    )
    measure(made, samples)
    return made


def refclock(refid: int = 0x50505331, samples: int = 0) -> SelectableSource:
    made = SelectableSource(SourceKind.REFCLOCK, SourceStats(StatsOptions(asymmetry=0.0), 1e-9), refid=refid)
    measure(made, samples)
    return made


def measure(target: SelectableSource, samples: int) -> None:
    rng = random.Random(1)
    for i in range(samples):
        target.update_reachability(i % 4 != 1)
        target.set_status(3, Leap.INSERT)
        target.accumulate(Sample(BASE + 16 * i * S, rng.gauss(1e-4, 1e-5), 1e-3, 1e-6, 2e-3, 3e-3))


class MemoryStore:
    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.failing = ""

    def write(self, name: str, data: bytes) -> None:
        if self.failing:
            raise OSError(28, self.failing)
        self.files[name] = data

    def read(self, name: str) -> bytes | None:
        if self.failing:
            raise OSError(5, self.failing)
        return self.files.get(name)

    def remove_all(self) -> None:
        if self.failing:
            raise OSError(13, self.failing)
        self.files.clear()


class Fixture:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.logged: list[tuple[Severity, str]] = []
        self.dumps = Dumps(self.store, lambda severity, text: self.logged.append((severity, text)))


@pytest.fixture
def kept() -> Fixture:
    return Fixture()


def test_format() -> None:
    made = source(samples=10)
    lines = dump_text(made).split("\n")
    n = made.stats.n_samples
    assert n >= 7
    assert lines[:4] == ["SRC0", "a.example", "0 356 8 3 1", f"{n} 0"]
    assert len(lines) == 4 + n + 1
    assert lines[-1] == ""
    assert lines[4].startswith(f"{1700000000 + 16 * (10 - n)}.000000000 -")
    assert lines[4].endswith(" 1.000000e-03 1.000000e-06 2.000000e-03 3.000000e-03")


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (source(), "10.0.0.1.dat"),
        (source("2001:db8::1"), "2001:db8::1.dat"),
        (refclock(), "refid:50505331.dat"),
        (refclock(0x4E4D4500), "refid:4e4d4500.dat"),
    ],
)
def test_file_names(made: SelectableSource, expected: str) -> None:
    assert dump_name(made) == expected
    assert is_dump_name(expected)


@pytest.mark.parametrize("name", ["foo.dat", "127.1.dat", ".dat", "10.0.0.1", "refid:.dat", "refid:123456789.dat", "x"])
def test_other_files_are_left_alone(name: str) -> None:
    assert not is_dump_name(name)


@pytest.mark.parametrize("make", [source, refclock])
def test_everything_comes_back(make: type[SelectableSource], kept: Fixture) -> None:
    old = make(samples=20)
    kept.dumps.save([old])
    new = make()
    assert kept.dumps.load(new, NOW)
    assert new.stats.dump_lines() == old.stats.dump_lines()
    assert new.stats.frequency == pytest.approx(old.stats.frequency, rel=1e-4)
    assert new.stats.offset_s == pytest.approx(old.stats.offset_s, rel=1e-4)
    assert (new.reach, new.reach_size, new.stratum, new.leap) == (old.reach, 8, 3, Leap.INSERT)
    shown = "PPS1" if old.kind is SourceKind.REFCLOCK else "10.0.0.1"
    assert kept.logged == [(Severity.INFO, f"Loaded dump file for {shown}")]


def test_sources_without_samples_or_address_have_no_file(kept: Fixture) -> None:
    unresolved = source(samples=4)
    unresolved.address = None
    kept.dumps.save([source(), unresolved, refclock()])
    assert kept.store.files == {}
    assert not kept.dumps.load(unresolved, NOW)
    assert not kept.dumps.load(source(), NOW)
    assert kept.logged == []


@pytest.mark.parametrize(
    ("then", "now", "loaded"), [(False, False, True), (True, True, True), (True, False, True), (False, True, False)]
)
def test_measurements_without_authentication_are_not_trusted_with_it(
    then: bool, now: bool, loaded: bool, kept: Fixture
) -> None:
    kept.dumps.save([source(authenticated=then, samples=8)])
    new = source(authenticated=now)
    assert kept.dumps.load(new, NOW) is loaded
    assert bool(new.stats.n_samples) is loaded
    assert new.reachable is loaded


def test_file_of_another_name_is_refused(kept: Fixture) -> None:
    kept.dumps.save([source(name="b.example", samples=8)])
    assert not kept.dumps.load(source(), NOW)
    assert kept.logged == [(Severity.WARNING, "Could not load dump file for 10.0.0.1")]


def test_samples_of_the_future_are_refused(kept: Fixture) -> None:
    kept.dumps.save([source(samples=8)])
    new = source()
    assert not kept.dumps.load(new, BASE)
    assert new.stats.n_samples == 0


GOOD = dump_text(source(samples=5))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SRC0", "SRC1"),
        ("SRC0\n", ""),
        ("0 27 5 3 1", "0 27 5 16 1"),
        ("0 27 5 3 1", "0 27 5 3 3"),
        ("0 27 5 3 1", "0 400 5 3 1"),
        ("0 27 5 3 1", "0 27 9 3 1"),
        ("0 27 5 3 1", "2 27 5 3 1"),
        ("0 27 5 3 1", "0 38 5 3 1"),
        ("0 27 5 3 1", "0 27 5 3"),
        ("0 27 5 3 1", "0 27 5 -1 1"),
        ("0 27 5 3 1", "0  27 5 3 1"),
        ("5 0\n", "6 0\n"),
        ("5 0\n", "4 0\n"),
        ("5 0\n", "0 0\n"),
        ("5 0\n", "5 99999\n"),
        ("1700000032", "1700000000"),
        ("1.000000e-03", "nan"),
        ("1.000000e-03", "-1.0"),
        ("1.000000e-03", "inf"),
        ("1.000000e-06", "1e300"),
    ],
)
def test_damaged_files_are_refused(old: str, new: str) -> None:
    assert load_text(source(), GOOD, NOW)
    assert old in GOOD
    target = source()
    assert not load_text(target, GOOD.replace(old, new, 1), NOW)
    assert target.stats.n_samples == 0
    assert not target.reachable


@pytest.mark.parametrize("length", range(len(GOOD)))
def test_files_that_were_cut_off_are_refused(length: int) -> None:
    target = source()
    assert not load_text(target, GOOD[:length], NOW)
    assert target.stats.n_samples == 0


@given(
    st.integers(0, len(GOOD) - 1),
    st.integers(0, 20),
    st.text(alphabet=st.characters(max_codepoint=127), max_size=20),
)
def test_random_damage_loads_sane_values_or_nothing(at: int, cut: int, text: str) -> None:
    target = source()
    if load_text(target, GOOD[:at] + text + GOOD[at + cut :], NOW):
        assert 1 <= target.stats.n_samples <= 64
        assert target.stats.newest_ns <= NOW
        target.stats.selection_data(NOW, 1.0)
        target.stats.tracking_data()
    else:
        assert target.stats.n_samples == 0
        assert target.reach_size == 0


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"SRC0\na.example\n\xe9 1 1 1 1\n", b"\0" * 1000])
def test_bytes_that_are_no_text_are_refused(data: bytes, kept: Fixture) -> None:
    kept.store.files["10.0.0.1.dat"] = data
    assert not kept.dumps.load(source(), NOW)
    assert kept.logged == [(Severity.WARNING, "Could not load dump file for 10.0.0.1")]


def test_failures_of_writing_are_told_in_one_line(kept: Fixture) -> None:
    kept.store.failing = "No space left on device"
    kept.dumps.save([source(f"10.0.0.{i}", samples=3) for i in range(20)])
    assert kept.logged == [
        (Severity.ERROR, "Could not write dump file 10.0.0.19.dat : No space left on device (and 19 more)")
    ]


def test_failures_of_reading_and_removing_are_told(kept: Fixture) -> None:
    kept.store.failing = "Input/output error"
    assert not kept.dumps.load(source(), NOW)
    kept.dumps.remove_all()
    assert [text for _, text in kept.logged] == [
        "Could not load dump file for 10.0.0.1",
        "Could not remove dump files : Input/output error",
    ]


def test_directory(tmp_path: Path, kept: Fixture) -> None:
    dumps = Dumps(DumpDirectory(str(tmp_path)), lambda severity, text: kept.logged.append((severity, text)))
    dumps.save([source(samples=64), source("2001:db8::1", samples=8), refclock(samples=8)])
    assert sorted(os.listdir(tmp_path)) == ["10.0.0.1.dat", "2001:db8::1.dat", "refid:50505331.dat"]
    assert (tmp_path / "10.0.0.1.dat").stat().st_mode & 0o777 == 0o644
    new = source()
    assert dumps.load(new, NOW)
    assert not dumps.load(source("10.0.0.2"), NOW)
    (tmp_path / "foo.dat").write_text("")
    dumps.remove_all()
    assert os.listdir(tmp_path) == ["foo.dat"]


def test_strange_things_in_the_directory_are_refused(tmp_path: Path, kept: Fixture) -> None:
    os.mkfifo(tmp_path / "10.0.0.1.dat")
    (tmp_path / "10.0.0.2.dat").mkdir()
    (tmp_path / "10.0.0.3.dat").write_bytes(b"x" * (MAX_SIZE + 1))
    dumps = Dumps(DumpDirectory(str(tmp_path)), lambda severity, text: kept.logged.append((severity, text)))
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        assert not dumps.load(source(address), NOW)
    assert len(kept.logged) == 3


def test_largest_file_fits() -> None:
    made = source("2001:db8:1111:2222:3333:4444:5555:6666", name="n" * 255, samples=80)
    assert len(dump_text(made)) < MAX_SIZE / 2


def test_link_in_the_way_is_not_followed(tmp_path: Path, kept: Fixture) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    directory = tmp_path / "dumps"
    directory.mkdir()
    (directory / "10.0.0.1.dat").symlink_to(victim)
    (directory / "10.0.0.1.dat.tmp").symlink_to(victim)
    dumps = Dumps(DumpDirectory(str(directory)), lambda severity, text: kept.logged.append((severity, text)))
    dumps.save([source(samples=3)])
    assert victim.read_text() == "precious"
    assert not (directory / "10.0.0.1.dat").is_symlink()


def test_missing_directory_is_told(tmp_path: Path, kept: Fixture) -> None:
    dumps = Dumps(DumpDirectory(str(tmp_path / "none")), lambda severity, text: kept.logged.append((severity, text)))
    dumps.remove_all()
    dumps.save([source(samples=3)])
    assert not dumps.load(source(), NOW)
    assert [text for _, text in kept.logged] == [
        "Could not remove dump files : No such file or directory",
        "Could not write dump file 10.0.0.1.dat : No such file or directory",
    ]
