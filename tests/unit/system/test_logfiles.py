from __future__ import annotations

import os
from pathlib import Path

import pytest

from ntpd_fast.system.logfiles import LogFile
from ntpd_fast.system.messages import Severity

TITLE = "  Date  Value"
BANNER = ["=============", TITLE, "============="]


class Fixture:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.logged: list[tuple[Severity, str]] = []

    def file(self, banner_interval: int = 32) -> LogFile:
        return LogFile(
            str(self.path),
            TITLE,
            banner_interval=banner_interval,
            log=lambda severity, text: self.logged.append((severity, text)),
        )

    @property
    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()


@pytest.fixture
def kept(tmp_path: Path) -> Fixture:
    return Fixture(tmp_path / "test.log")


def test_nothing_is_opened_before_the_first_entry(kept: Fixture) -> None:
    file = kept.file()
    file.cycle()
    file.close()
    assert not kept.path.exists()


def test_entries_are_there_at_once_behind_a_banner(kept: Fixture) -> None:
    file = kept.file()
    file.write("one")
    assert kept.lines == [*BANNER, "one"]
    file.write("two")
    assert kept.lines == [*BANNER, "one", "two"]
    file.close()


@pytest.mark.parametrize(
    ("interval", "expected"),
    [(0, "0123456"), (1, "B0B1B2B3B4B5B6"), (3, "B012B345B6"), (100, "B0123456")],
)
def test_banner_interval(interval: int, expected: str, kept: Fixture) -> None:
    file = kept.file(interval)
    for number in range(7):
        file.write(str(number))
    file.close()
    assert kept.path.read_text() == "".join(
        "\n".join([*BANNER, ""]) if letter == "B" else f"{letter}\n" for letter in expected
    )


@pytest.mark.parametrize("mask", [0o022, 0o000])
def test_mode_is_0644(mask: int, kept: Fixture) -> None:
    old = os.umask(mask)
    try:
        kept.file().write("one")
    finally:
        os.umask(old)
    assert kept.path.stat().st_mode & 0o777 == 0o644


def test_cycle_follows_a_file_that_was_moved(kept: Fixture, tmp_path: Path) -> None:
    file = kept.file(2)
    file.write("one")
    kept.path.rename(tmp_path / "old.log")
    file.write("two")
    file.cycle()
    assert not kept.path.exists()
    file.write("three")
    assert (tmp_path / "old.log").read_text().splitlines() == [*BANNER, "one", "two"]
    assert kept.lines == [*BANNER, "three"]
    file.close()


def test_existing_file_is_continued_with_a_banner(kept: Fixture) -> None:
    kept.path.write_text("old\n")
    kept.file().write("new")
    assert kept.lines == ["old", *BANNER, "new"]


def test_log_that_cannot_be_opened_is_told_once(tmp_path: Path) -> None:
    kept = Fixture(tmp_path / "none" / "test.log")
    file = kept.file()
    for _ in range(3):
        file.write("lost")
    assert kept.logged == [(Severity.ERROR, f"Could not open {kept.path} : No such file or directory")]
    assert file.lost == 3
    kept.path.parent.mkdir()
    file.write("still shut")
    assert not kept.path.exists()
    file.cycle()
    file.write("one")
    assert kept.lines == [*BANNER, "one"]
    assert len(kept.logged) == 1


@pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
def test_nothing_but_a_file_is_written_to(kind: str, kept: Fixture, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("")
    if kind == "link":
        kept.path.symlink_to(victim)
    elif kind == "directory":
        kept.path.mkdir()
    else:
        os.mkfifo(kept.path)
    file = kept.file()
    file.write("one")
    assert file.lost == 1
    assert len(kept.logged) == 1
    assert kept.logged[0][1].startswith(f"Could not open {kept.path} : ")
    assert victim.read_text() == ""


def test_full_disk_is_told_once_until_it_works_again(kept: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    file = kept.file()
    file.write("one")
    with monkeypatch.context() as patch:

        def full(descriptor: int, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        patch.setattr(os, "write", full)
        file.write("two")
        file.write("three")
    file.write("four")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: len(data) - 1)
        file.write("five")
    assert kept.lines == [*BANNER, "one", "four"]
    assert file.lost == 3
    assert [text for _, text in kept.logged] == [
        f"Could not write {kept.path} : No space left on device",
        f"Could not write {kept.path} : Incomplete write",
    ]
