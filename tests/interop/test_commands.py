"""Debian's chronyc and our daemon: every command gets the answer chronyd gives, and leaves the mark it should."""

import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.daemon import Daemon, free_port, running


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One that asks itself, so that there is always a source with samples."""
    port = free_port()
    sources = [f"server 127.0.0.1 port {port} minpoll 0 maxpoll 0 iburst", "server nonexistent.invalid"]
    with running(["manual", "workers 0", *sources], port=port) as daemon:
        yield daemon


def say(daemon: Daemon, line: str) -> str:
    done = subprocess.run(
        ["chronyc", "-n", "-h", daemon.socket, *line.split()], capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout + done.stderr


# In this order: they change the daemon.
ACCESS = [
    ("accheck 127.0.0.1", "208 Access allowed"),
    ("accheck 192.0.2.1", "209 Access denied"),
    ("allow 192.0.2.0/24", "200 OK"),
    ("accheck 192.0.2.1", "208 Access allowed"),
    ("deny 192.0.2.1", "200 OK"),
    ("accheck 192.0.2.1", "209 Access denied"),
    ("accheck 192.0.2.2", "208 Access allowed"),
    ("allow all 192.0.2.0/24", "200 OK"),
    ("accheck 192.0.2.1", "208 Access allowed"),
    ("deny all", "200 OK"),
    ("accheck 127.0.0.1", "209 Access denied"),
    ("allow", "200 OK"),
    ("accheck 2001:db8::1", "208 Access allowed"),
    ("allow 1.2.3.4/40", "507 Bad subnet"),
    ("cmdaccheck 192.0.2.1", "209 Access denied"),
    ("cmdallow 192.0.2", "200 OK"),
    ("cmdaccheck 192.0.2.1", "208 Access allowed"),
    ("cmddeny all", "200 OK"),
    ("cmdaccheck 192.0.2.1", "209 Access denied"),
]


def test_access_rules_take_effect_one_after_the_other(daemon):
    assert [(line, say(daemon, line).strip()) for line, _ in ACCESS] == ACCESS


def test_a_row_of_changes_does_not_stop_a_daemon_of_one_process(daemon):
    """Each makes a new table for the part that answers, which is the same process."""
    script = "\n".join(f"allow 10.{number}.0.0/16" for number in range(20))
    done = subprocess.run(
        ["chronyc", "-h", daemon.socket], input=script, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout == "200 OK\n" * 20
    assert "Traceback" not in daemon.log


def test_manual_input_is_taken_listed_and_forgotten(daemon):
    assert say(daemon, "manual list").startswith("210 n_samples = 0\n")
    assert say(daemon, "settime now").startswith("200 OK\nClock was ")
    assert say(daemon, "settime now") == "500 Failure\n"
    assert "Making a slew of " in daemon.log
    listed = say(daemon, "manual list").splitlines()
    assert listed[0] == "210 n_samples = 1"
    assert say(daemon, "manual delete 1") == "516 Sample index out of range\n"
    assert say(daemon, "manual delete 0") == "200 OK\n"
    assert say(daemon, "manual list").startswith("210 n_samples = 0\n")
    assert say(daemon, "manual off") == "200 OK\n"
    assert say(daemon, "settime now") == "505 Facility not enabled in daemon\n"
    assert say(daemon, "manual on") == "200 OK\n"
    assert say(daemon, "manual reset") == "200 OK\n"


def test_smoothing_is_reported_and_commanded():
    with running(["smoothtime 400 0.01"]) as daemon:
        assert say(daemon, "smoothtime activate") == "200 OK\n"
        assert say(daemon, "smoothing").startswith("Active         : Yes ")
        assert say(daemon, "smoothtime reset") == "200 OK\n"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("makestep", "500 Failure"),
        ("makestep 0.1 3", "200 OK"),
        ("maxupdateskew 5", "200 OK"),
        ("dfreq 0.5", "200 OK"),
        ("doffset 0.001", "200 OK"),
        ("local stratum 12 orphan distance 0.5", "200 OK"),
        ("local off", "200 OK"),
        ("local", "200 OK"),
        ("cyclelogs", "200 OK"),
        ("dump", "200 OK"),
        ("rekey", "200 OK"),
        ("rtcdata", "513 RTC driver not running"),
        ("trimrtc", "513 RTC driver not running"),
        ("writertc", "513 RTC driver not running"),
        ("minpoll 192.0.2.1 5", "503 No such source"),
        ("offline 192.0.2.1", "503 No such source"),
        ("delete 192.0.2.1", "503 No such source"),
        ("ntpdata 192.0.2.1", "503 No such source"),
        ("sourcename 192.0.2.1", "503 No such source"),
    ],
)
def test_what_stands_alone_is_answered_as_by_chronyd(daemon, line, answer):
    assert say(daemon, line).strip() == answer


def test_reports_have_all_their_lines(daemon):
    assert len(say(daemon, "tracking").splitlines()) == 13
    assert len(say(daemon, "serverstats").splitlines()) == 11
    assert len(say(daemon, "activity").splitlines()) == 6
    for table in ("sources", "sourcestats", "selectdata", "authdata", "clients"):
        assert len(say(daemon, table).splitlines()) >= 2


def test_over_the_network_there_are_reports_and_nothing_else(daemon):
    refused = "501 Not authorised"
    for line, answer in [("activity", "200 OK"), ("serverstats", refused), ("cyclelogs", refused)]:
        done = subprocess.run(
            ["chronyc", "-h", "127.0.0.1", "-p", str(daemon.cmdport), line],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        assert done.stdout.splitlines()[0] == answer


def test_shutdown_is_answered_and_ends_the_daemon():
    # What runs the daemon for tests wants it alive at the end, and shows its log when it is not.
    with pytest.raises(AssertionError, match=r"Received shutdown command\n.* ntpd-fast exiting"):
        shut_down()


def shut_down():
    with running() as daemon:
        assert say(daemon, "shutdown") == "200 OK\n"
        assert daemon.process.wait(10) == 0


def test_smoothing_that_is_not_configured_says_so_before_all():
    with running() as daemon:
        assert say(daemon, "smoothing") == "505 Facility not enabled in daemon\n"
        assert say(daemon, "smoothtime reset") == "505 Facility not enabled in daemon\n"
        assert say(daemon, "settime now") == "505 Facility not enabled in daemon\n"


def logged(daemon: Daemon, line: str, count: int = 1) -> list[str]:
    """What the daemon logs because of a command: that many lines, without their times."""
    before = len(daemon.log)
    assert say(daemon, line) == "200 OK\n"
    deadline = time.monotonic() + 5
    while daemon.log[before:].count("\n") < count and time.monotonic() < deadline:
        time.sleep(0.02)
    return [text[21:] for text in daemon.log[before:].splitlines()]


# In this order. What chronyd 4.3 logs for the same commands on the same source.
CHANGES = [
    ("minpoll 127.0.0.1 3", ["new minpoll 3", "new maxpoll 3"]),
    ("maxpoll 127.0.0.1 1", ["new maxpoll 1", "new minpoll 1"]),
    ("maxpoll 127.0.0.1 30", []),
    ("minpoll 127.0.0.1 -9", []),
    ("maxdelay 127.0.0.1 99999", ["new maxdelay 1000.000000"]),
    ("maxdelayratio 127.0.0.1 2", ["new maxdelayratio 2.000000"]),
    ("maxdelaydevratio 127.0.0.1 2.5", ["new maxdelaydevratio 2.500000"]),
    ("minstratum 127.0.0.1 2", ["new minstratum 2"]),
    ("polltarget 127.0.0.1 9", ["new polltarget 9"]),
    ("offline 127.0.0.1", ["offline"]),
    ("offline 127.0.0.0/8", []),
    ("online 127.0.0.1", ["online"]),
    ("online", []),
]


@pytest.mark.parametrize(("line", "changes"), CHANGES, ids=[line for line, _ in CHANGES])
def test_changes_of_a_source_are_logged_as_by_chronyd(daemon, line, changes):
    assert logged(daemon, line, len(changes)) == [f"Source 127.0.0.1 {change}" for change in changes]


def addresses(daemon: Daemon) -> list[str]:
    return [row.split(",")[2] for row in say(daemon, "-c sources -a").splitlines()]


def test_sources_come_and_go(daemon):
    before = addresses(daemon)
    assert before == ["127.0.0.1", "ID#0000000001"]
    for line, answer in [
        ("add server 127.0.0.20 port 31120 minpoll 3 maxpoll 5 noselect", "200 OK"),
        ("add server 127.0.0.20", "511 Source already present"),
        ("add peer 127.0.0.21 offline", "200 OK"),
        ("add pool 127.0.0.22 maxsources 2", "200 OK"),
        ("sourcename 127.0.0.20", "127.0.0.20"),
        ("sourcename ID#0000000001", "nonexistent.invalid"),
    ]:
        assert say(daemon, line).strip() == answer, line
    assert addresses(daemon) == [*before, "127.0.0.20", "127.0.0.21", "127.0.0.22"]
    row = say(daemon, "-c selectdata").splitlines()[-3].split(",")
    assert row[:4] == ["M", "127.0.0.20", "N", "N"]
    assert say(daemon, "-c sources").splitlines()[1].split(",")[4] == "3"
    for address in ("127.0.0.20", "127.0.0.21", "127.0.0.22"):
        assert say(daemon, f"delete {address}") == "200 OK\n"
        assert say(daemon, f"delete {address}") == "503 No such source\n"
    assert addresses(daemon) == before


def test_the_source_that_answers_is_reported_in_full(daemon):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        lines = dict(line.split(": ", 1) for line in say(daemon, "ntpdata 127.0.0.1").splitlines())
        fields = {name.strip(): value for name, value in lines.items()}
        if fields.get("NTP tests") == "111 111 1110":  # a daemon that asks itself
            break
        time.sleep(0.2)
    assert fields["Remote address"] == "127.0.0.1 (7F000001)"
    assert fields["Remote port"] == str(daemon.port)
    assert fields["NTP tests"] == "111 111 1110"
    assert (fields["TX timestamping"], fields["RX timestamping"]) == ("Kernel", "Kernel")
    assert say(daemon, "-c authdata").splitlines()[0] == "127.0.0.1,-,0,0,0,4294967295,0,0,0,0"


@pytest.mark.parametrize(
    "line",
    ["burst 1/2", "burst 1/2 127.0.0.1", "onoffline", "refresh", "reload sources", "reselect", "reselectdist 0.001",
     "reset sources"],
)  # fmt: skip
def test_commands_to_all_sources_are_taken(daemon, line):
    assert say(daemon, line) == "200 OK\n"
