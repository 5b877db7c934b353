"""What a line of the log looks like, wherever it goes."""

import logging
import os
import re
import socket
import stat
import time

import pytest

from ntpd_fast.system import log as under_test
from ntpd_fast.system.log import Limited, Syslog, descriptors, set_up, severity_of

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


@pytest.fixture(autouse=True)
def restored_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers = handlers
    root.setLevel(level)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "daemon.log"


def test_line_of_a_log_file(path):
    set_up("ntpd-fast", file=str(path))
    logging.info("Selected source %s", "192.0.2.1")
    logging.debug("not shown")
    logging.critical("No room")
    lines = path.read_text().splitlines()
    assert re.fullmatch(f"{STAMP} Selected source 192\\.0\\.2\\.1", lines[0])
    assert re.fullmatch(f"{STAMP} Fatal error : No room", lines[1])
    assert len(lines) == 2
    stamp = time.strptime(lines[0].split()[0], "%Y-%m-%dT%H:%M:%SZ")
    assert abs(time.mktime(stamp) - time.mktime(time.gmtime())) < 5
    assert stat.S_IMODE(path.stat().st_mode) & ~0o640 == 0


def test_debug_level_shows_severities(path):
    set_up("ntpd-fast", file=str(path), level=-1)
    for severity in under_test.SEVERITIES:
        logging.log(severity, "text")
    letters = [re.fullmatch(f"{STAMP} (.): *(Fatal error : )?text", line) for line in path.read_text().splitlines()]
    assert [letter[1] for letter in letters if letter] == ["D", "I", "W", "E", "F"]


@pytest.mark.parametrize(("level", "shown"), [(-5, 5), (-1, 5), (0, 4), (1, 3), (2, 2), (3, 1), (9, 1)])
def test_threshold_is_clamped(path, level, shown):
    set_up("ntpd-fast", file=str(path), level=level)
    for severity in under_test.SEVERITIES:
        logging.log(severity, "text")
    assert len(path.read_text().splitlines()) == shown
    assert severity_of(level) in under_test.SEVERITIES


def test_stderr_is_flushed_line_by_line(capsys):
    set_up("ntpd-fast", to_stderr=True)
    logging.info("one")
    assert re.fullmatch(f"{STAMP} one\n", capsys.readouterr().err)


def test_bug_brings_its_traceback(path):
    set_up("ntpd-fast", file=str(path))
    try:
        raise RuntimeError("surprise")
    except RuntimeError:
        logging.exception("Unexpected error")
    text = path.read_text()
    assert "Unexpected error\nTraceback" in text
    assert "RuntimeError: surprise" in text


def test_file_that_was_rotated_away_is_opened_anew(path):
    handler = set_up("ntpd-fast", file=str(path))
    assert isinstance(handler, under_test.LogFile)
    assert descriptors() == [handler.fileno()]
    logging.info("one")
    handler.reopen()
    path.rename(f"{path}.1")
    logging.info("two")
    handler.reopen()
    logging.info("three")
    assert [line.split()[1] for line in path.read_text().splitlines()] == ["three"]
    with open(f"{path}.1") as old:
        assert len(old.readlines()) == 2
    assert descriptors() == [handler.fileno()]


def test_missing_directory_is_the_callers_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        set_up("ntpd-fast", file=str(tmp_path / "missing" / "log"))


def test_full_disk_does_not_stop_us(tmp_path):
    set_up("ntpd-fast", file="/dev/full")
    logging.info("lost")


def test_syslog_datagrams(tmp_path):
    path = str(tmp_path / "log")
    handler = Syslog("chronyd", path)
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
    logging.info("before there is a syslog daemon")
    for _ in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
            daemon.bind(path)
            daemon.settimeout(1)
            logging.warning("two\nlines")
            for word in ("two", "lines"):
                line = daemon.recv(1000).decode()
                # facility daemon (3), severity warning (4)
                assert re.fullmatch(rf"<28>\w{{3}} [ \d]\d \d\d:\d\d:\d\d chronyd\[{os.getpid()}\]: {word}", line)
        os.unlink(path)
    assert descriptors() == [handler.fileno()]


def test_deaf_syslog_daemon_does_not_stop_us(tmp_path):
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(path)
        logging.getLogger().addHandler(Syslog("ntpd-fast", path))
        started = time.monotonic()
        for _ in range(2000):
            logging.error("line")
        assert time.monotonic() - started < 5


def test_limited_lines(path):
    set_up("ntpd-fast", file=str(path))
    now_ns = 0
    limited = Limited(logging.getLogger("x"), interval_s=10, monotonic_ns=lambda: now_ns)
    for second in (0, 1, 9, 10, 11, 25):
        now_ns = second * 1_000_000_000
        limited.log(logging.WARNING, "lost %d", second)
    assert [line.split(" ", 1)[1] for line in path.read_text().splitlines()] == [
        "lost 0",
        "lost 10 (and 2 more like it)",
        "lost 25 (and 1 more like it)",
    ]
