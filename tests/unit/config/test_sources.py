"""Files of sources: what counts, what is passed over, what is said about it."""

import os
import time
from pathlib import Path

import pytest

from ntpd_fast.config import sources
from ntpd_fast.config.model import SourceConfig, SourceKind, SourceOptions
from ntpd_fast.config.sources import SourceFiles, read_sourcedirs
from tests.unit.config.conftest import CORPUS, Write, parse


def read(*directories: object) -> SourceFiles:
    return read_sourcedirs([[str(directory) for directory in directories]])


def names(files: SourceFiles) -> list[str]:
    return [source.name for source in files.sources]


def test_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CORPUS)
    config = parse("sourcedir fixtures/sources.d fixtures/sources-b.d", "sourcedir fixtures/missing", "sourcedir")
    files = read_sourcedirs(config.sourcedirs)
    port = SourceOptions(port=11123)
    assert files.sources == (
        SourceConfig(SourceKind.SERVER, "127.0.0.3", port),
        SourceConfig(SourceKind.SERVER, "127.0.0.1", SourceOptions(port=11123, iburst=True)),
        SourceConfig(SourceKind.POOL, "pool.example.net", SourceOptions(iburst=True)),
    )
    bad = "fixtures/sources-b.d/bad.sources"
    assert files.notes == (
        f"Ignored line: allow is no source at line 1 in file {bad}",
        f"Ignored line: Invalid option in server directive at line 2 in file {bad}",
        f"Ignored unfinished line at line 4 in file {bad}",
    )


def test_only_good_lines_count(write: Write, tmp_path: Path) -> None:
    write(
        "a.sources",
        b"# comment\n\n  SERVER one\nserver\npool two nosuch\nnosuch\nallow\nserver bad minpoll x\n"
        b"include /x\npeer three\nserver f\xf6ur\nserver \0five\npool six maxsources 2\r\n   ",
    )
    files = read(tmp_path)
    assert names(files) == ["one", "three", "f\udcf6ur", "six"]
    assert [source.where.line for source in files.sources] == [3, 10, 11, 13]
    assert files.sources[3].options.maxsources == 2
    assert len(files.notes) == 7
    assert all(str(tmp_path / "a.sources") in note for note in files.notes)


@pytest.mark.parametrize("line", [b"server two", b"server " + b"x" * 2041 + b"\nserver three\n"])
def test_unfinished_or_too_long_line_ends_the_file(line: bytes, write: Write, tmp_path: Path) -> None:
    path = write("a.sources", b"server one\n" + line)
    write("b.sources", "server four\n")
    files = read(tmp_path)
    assert names(files) == ["one", "four"]
    assert files.notes == (f"Ignored unfinished line at line 2 in file {path}",)


def test_longest_line_counts(write: Write, tmp_path: Path) -> None:
    write("a.sources", b"server " + b"x" * 2039 + b"\nserver b\n")
    assert names(read(tmp_path)) == ["x" * 2039, "b"]


def test_order_and_repetition(write: Write, tmp_path: Path) -> None:
    write("a/2.sources", "server a2\n")
    write("a/1.sources", "server a1\n")
    write("b/1.sources", "server b1\n")
    write("b/3.sources", "server b3\n")
    write("b/3.conf", "server no\n")
    write("b/.4.sources", "server no\n")
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert names(read(a, b)) == ["a1", "a2", "b3"]
    assert names(read_sourcedirs([[b], [a, b]])) == ["b1", "b3", "a1", "a2", "b3"]


def test_unusable_lists_hold_nothing(write: Write, tmp_path: Path) -> None:
    write("1.sources", "server a\n")
    assert names(read(*[tmp_path] * 10)) == ["a"]
    assert read(*[tmp_path] * 11) == SourceFiles((), ())
    assert read() == SourceFiles((), ())
    assert read("/no/such", "a\0b", tmp_path / "1.sources") == SourceFiles((), ())


def test_file_that_cannot_be_read_is_told(write: Write, tmp_path: Path) -> None:
    (tmp_path / "a.sources").mkdir()
    os.symlink("/no/such", tmp_path / "b.sources")
    write("c.sources", "server c\n")
    files = read(tmp_path)
    assert names(files) == ["c"]
    assert files.notes == (
        f"Could not open {tmp_path}/a.sources : Is a directory",
        f"Could not open {tmp_path}/b.sources : No such file or directory",
    )


def test_unusable_value_is_told(write: Write, tmp_path: Path) -> None:
    path = write("a.sources", "server a offset nan\n")
    assert read(tmp_path).notes == (f"Ignored value of offset option in server directive at line 1 in file {path}",)


def test_ten_thousand_sources(write: Write, tmp_path: Path) -> None:
    write("a.sources", "".join(f"server s{number}.example iburst key 7\n" for number in range(10_000)))
    start = time.process_time()
    files = read(tmp_path)
    assert time.process_time() - start < 2.0
    assert len(files.sources) == 10_000
    assert files.notes == ()


def test_number_of_sources_at_the_bound(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SOURCES_MAX", 3)
    path = write("a.sources", "server a\nserver b\nserver c\n")
    assert read(tmp_path).notes == ()
    write("a.sources", "server a\nserver b\nserver c\nserver d\nserver e\n")
    files = read(tmp_path)
    assert names(files) == ["a", "b", "c"]
    assert files.notes == (f"Ignored sources beyond 3 at line 4 in file {path}",)


def test_number_of_notes_is_bounded(write: Write, tmp_path: Path) -> None:
    write("a.sources", "nosuch\n" * 1000 + "server a\n")
    files = read(tmp_path)
    assert names(files) == ["a"]
    assert len(files.notes) == 11
    assert files.notes[-1] == "More lines of files with sources were ignored"


def test_fifo_among_the_files_does_not_hold_us_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.sources")
    start = time.monotonic()
    files = read(tmp_path)
    assert time.monotonic() - start < 1.0
    assert files == SourceFiles((), (f"Could not open {tmp_path}/a.sources : Not a regular file",))
