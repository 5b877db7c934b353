"""Lines, words and the bounds on what is read."""

import time
from pathlib import Path

import pytest

from ntpd_fast.config import ConfigError, load
from ntpd_fast.config.lexer import FILES_MAX, LINES_MAX, SIZE_MAX, split_line
from tests.unit.config.conftest import Write, hosts, load_text


@pytest.mark.parametrize("mark", ["!", ";", "#", "%"])
def test_comment_ignores_the_line(mark: str, write: Write) -> None:
    assert load_text(write, f" \t{mark}port 99\nport 1\n").port == 1


def test_white_space_is_that_of_c() -> None:
    line = split_line(b"\t port\v\f 1 \r", None, 1)
    assert line is not None
    assert line.words == ["port", "1"]
    # Python's own idea of white space is wider.
    line = split_line("port\x1c1 2\u00a03\u20284".encode(), None, 1)
    assert line is not None
    assert line.words == ["port\x1c1", "2\u00a03\u20284"]


def test_bytes_that_are_not_utf8_survive(write: Write) -> None:
    config = load_text(write, b"logdir /var/l\xf6g\n")
    assert config.logdir is not None
    assert config.logdir.encode("utf-8", "surrogateescape") == b"/var/l\xf6g"
    with pytest.raises(ConfigError, match=r"Invalid directive .* at line 1 in file"):
        load_text(write, b"\xff\xfe\n")


@pytest.mark.parametrize("line", [b"port 0\0", b"port 0 \0 1", b"\0", b"allow 10.0.0.0/8\0 junk", b"\0port 1"])
def test_nul_is_refused(line: bytes, write: Write) -> None:
    with pytest.raises(ConfigError, match="Unexpected NUL byte at line 2 in file"):
        load_text(write, b"port 1\n" + line + b"\nport 2\n")


def test_nul_in_a_comment_is_a_comment(write: Write) -> None:
    assert load_text(write, b"# \0\nport 1\n").port == 1


@pytest.mark.parametrize("newline", [b"\n", b""])
@pytest.mark.parametrize("start", [b"#", b"logdir /"])
def test_line_length_at_the_bound(start: bytes, newline: bytes, write: Write) -> None:
    fits = start.ljust(2047 - len(newline), b"x") + newline
    load_text(write, fits)
    with pytest.raises(ConfigError, match="String too long at line 1 in file"):
        load_text(write, b"x" + fits if start == b"#" else start + b"x" + fits.removeprefix(start))


def test_white_space_counts_for_the_length(write: Write) -> None:
    with pytest.raises(ConfigError, match="String too long at line 2 in file"):
        load_text(write, b"\nport 1".ljust(2050) + b"\n")


def _refused_within_a_second(path: str, text: str) -> None:
    start = time.process_time()  # of this process: other load on the machine is no fault of ours
    with pytest.raises(ConfigError, match=text):
        load(path, resolver=hosts)
    assert time.process_time() - start < 1.0


def test_ten_megabytes_are_refused_at_once(write: Write) -> None:
    path = write("big.conf", b"allow 10.0.0.1\n" * 700_000)
    assert path.stat().st_size > 10_000_000
    _refused_within_a_second(str(path), f"More than {SIZE_MAX} bytes of configuration")


def test_size_at_the_bound(write: Write) -> None:
    comment = b"#".ljust(1023, b"x") + b"\n"
    load(str(write("fits.conf", comment * (SIZE_MAX // 1024))))
    with pytest.raises(ConfigError, match="More than"):
        load(str(write("over.conf", comment * (SIZE_MAX // 1024) + b"\n")))


def test_size_counts_over_all_files(write: Write) -> None:
    comment = b"#".ljust(1023, b"x") + b"\n"
    half = write("half.conf", comment * (SIZE_MAX // 2048))
    with pytest.raises(ConfigError, match=f"Could not read {half} : More than"):
        load(str(write("main.conf", f"include {half}\n" * 2)))


def test_endless_file_is_refused() -> None:
    _refused_within_a_second("/dev/zero", "Could not read /dev/zero : More than")


def test_ten_thousand_includes_are_refused_at_once(write: Write) -> None:
    one = write("one.conf", "port 1\n")
    _refused_within_a_second(str(write("main.conf", f"include {one}\n" * 10_000)), "configuration files")


def test_thousands_of_matching_files_are_refused_at_once(tmp_path: Path) -> None:
    for number in range(2 * FILES_MAX):
        (tmp_path / f"{number}.conf").touch()
    main = tmp_path / "main"
    main.write_text(f"include {tmp_path}/*.conf\n")
    _refused_within_a_second(str(main), "configuration files")


def test_number_of_files_at_the_bound(write: Write) -> None:
    one = write("one.conf", "port 1\n")
    load(str(write("main.conf", f"include {one}\n" * (FILES_MAX - 1))))
    with pytest.raises(ConfigError, match=f"Could not open {one} : More than {FILES_MAX} configuration files"):
        load(str(write("main.conf", f"include {one}\n" * FILES_MAX)))


def test_number_of_directives_at_the_bound(write: Write) -> None:
    load_text(write, b"manual\n" * LINES_MAX)
    with pytest.raises(ConfigError, match=f"More than {LINES_MAX} directives at line {LINES_MAX + 1} in file"):
        load_text(write, b"manual\n" * (LINES_MAX + 1))
