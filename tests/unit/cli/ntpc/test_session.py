"""Lines, status lines, failures of the output, and the hints about them."""

import errno

import pytest

from ntpd_fast.cli.ntpc import commands
from ntpd_fast.cli.ntpc.connection import Answer, Endpoint
from ntpd_fast.cli.ntpc.options import Options
from ntpd_fast.cli.ntpc.output import Output
from ntpd_fast.cli.ntpc.session import STATUS_LINES, Session
from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec.address import Address
from ntpd_fast.monitor.codec.commands import NULL, REPLIES, Number, Status
from ntpd_fast.monitor.codec.packet import ReplyHeader
from tests.unit.cli.ntpc.scripted import Run


def answer(number, payload=(), status=0, reply=None):
    if reply is None:
        reply = next((r.number for r in REPLIES.values() if type(payload) is r.message), NULL.number)
    return Answer(ReplyHeader(6, 2, 0, 0, number, reply, status, 0), payload)


class FakeConnection:
    """Gives the same answer to a command each time; None where it has none."""

    def __init__(self, answers=None, endpoint=None, failures=()):
        self.answers = answers or {}
        self.endpoint = endpoint
        self.failures = list(failures)
        self.asked = []
        self.retries = 2
        self.timeout_ms = 1000

    def exchange(self, number, payload):
        self.asked.append(number)
        found = self.answers.get(number)
        return answer(number) if found is None and number not in self.answers else found


def run(line, connection=None, *, extended=False, **options):
    ours = Run(connection or FakeConnection(), Options(words=(line,), **options), extended=extended)
    exit_status = ours.lines(Options(words=(line,), **options))
    return exit_status, ours


@pytest.mark.parametrize("line", ["", "   ", "\t", "! x", "#x", "; x", "%", "  # x"])
def test_empty_lines_and_comments_succeed_without_a_word(line):
    exit_status, ours = run(line, end_dots=True)
    assert (exit_status, ours.stdout, ours.stderr) == (0, "", "")


def test_white_space_between_words_does_not_matter():
    connection = FakeConnection()
    assert run("  reload\t  sources ", connection)[0] == 0
    assert connection.asked == [Number.RELOAD_SOURCES]


@pytest.mark.parametrize("line", ["Tracking", "track", "trackingx", "top", "watch tracking"])
def test_commands_are_whole_words_and_ours_are_hidden_from_chronyc(line):
    exit_status, ours = run(line)
    assert (exit_status, ours.stderr) == (1, "Unrecognized command\n")


@pytest.mark.parametrize("line", ["authhash md5", "password secret"])
def test_authentication_of_old_is_declined_and_no_failure(line):
    exit_status, ours = run(line)
    assert (exit_status, ours.stderr) == (0, "Authentication is no longer supported\n")


def test_a_dot_ends_every_command_that_was_one():
    assert run("reselect", end_dots=True)[1].stdout == "200 OK\n.\n"


@pytest.mark.parametrize(("status", "line"), STATUS_LINES.items())
def test_every_status_has_its_line(status, line):
    connection = FakeConnection({Number.RESELECT: answer(Number.RESELECT, status=status)})
    exit_status, ours = run("reselect", connection)
    assert ours.stdout == line + "\n"
    assert exit_status == (0 if status in (0, 8, 9) else 1)


def test_no_answer_and_the_wrong_answer():
    connection = FakeConnection({Number.TRACKING: None, Number.ACTIVITY: answer(Number.ACTIVITY)})
    assert run("tracking", connection)[1].stdout == "506 Cannot talk to daemon\n"
    assert run("activity", connection)[1].stdout == "200 OK\n508 Bad reply from daemon\n"


def test_the_rows_before_a_failure_stay():
    source = rep.SourceData(Address.parse("192.0.2.1"), 6, 2, 0, 0, 255, 1, 0.0, 0.0, 0.0)
    replies = [answer(15, source), answer(15, status=Status.NO_SUCH_SOURCE)]
    connection = FakeConnection({Number.N_SOURCES: answer(14, rep.SourceCount(2))})
    connection.exchange_sources = connection.exchange
    connection.exchange = lambda n, p: replies.pop(0) if n == 15 else connection.exchange_sources(n, p)
    exit_status, ours = run("sources", connection, numeric=True)
    assert exit_status == 1
    lines = ours.stdout.splitlines()
    assert lines[2].startswith("^* 192.0.2.1 ")
    assert lines[3] == "503 No such source"


def test_every_command_can_be_loaded():
    from importlib import import_module

    for name, row in commands.COMMANDS.items():
        module, _, function = row.target.partition(":")
        assert callable(getattr(import_module(f"ntpd_fast.cli.ntpc.{module}"), function)), name


class Failing:
    """An output that takes nothing."""

    def __init__(self, error):
        self.error = error
        self.said = bytearray()

    def session(self):
        def write(_):
            raise OSError(self.error, "no")

        return Session(FakeConnection(), Output(write, self.said.extend), extended=False)


@pytest.mark.parametrize(
    ("line", "succeeded"), [("reselect", True), ("keygen", False), ("help", False), ("activity", False)]
)
def test_output_that_is_not_taken_fails_what_was_to_be_read(line, succeeded):
    failing = Failing(errno.ENOSPC)
    session = failing.session()
    session.connection.answers[Number.ACTIVITY] = answer(Number.ACTIVITY, rep.Activity(1, 2, 3, 4, 5))
    assert session.run_line(line) == succeeded
    assert failing.said == b"Could not write to stdout\n"
    assert not session.quit


def test_a_broken_pipe_ends_the_session():
    failing = Failing(errno.EPIPE)
    session = failing.session()
    session.run_line("help")
    assert session.quit


def test_long_output_is_written_as_it_comes():
    written = []
    output = Output(written.append, written.append)
    for _ in range(5000):
        output.text("x" * 20 + "\n")
    assert len(written) == 1
    assert output.flush()
    assert sum(map(len, written)) == 5000 * 21


NO_SOCKET = OSError(errno.ENOENT, "No such file or directory")


@pytest.mark.parametrize(
    ("failures", "hint"),
    [
        ([], "no answer: does the daemon run there, and does its cmdallow cover this host?"),
        ([(Endpoint("/a"), NO_SOCKET), (Endpoint("/b"), NO_SOCKET)], "no daemon has this socket open: /a, /b"),
        ([(Endpoint(None, "::1", 323), OSError(errno.ECONNREFUSED, ""))], "nobody listens: [::1]:323"),
        ([(Endpoint(None, "192.0.2.1", 323), OSError(errno.ENETUNREACH, "Network is unreachable"))],
         "Network is unreachable: 192.0.2.1:323"),
    ],
)  # fmt: skip
def test_why_nobody_answers_is_explained_once(failures, hint):
    connection = FakeConnection({Number.TRACKING: None}, failures=failures)
    ours = Run(connection, Options(), extended=True)
    assert not ours.session.run_line("tracking")
    assert not ours.session.run_line("tracking")
    assert ours.stderr == f"hint: {hint}\n"
    assert ours.stdout == "506 Cannot talk to daemon\n" * 2


def test_chronyc_gives_no_hints():
    connection = FakeConnection({Number.TRACKING: None}, failures=[(Endpoint("/a"), NO_SOCKET)])
    assert run("tracking", connection)[1].stderr == ""


def test_who_may_use_a_closed_socket_is_named(tmp_path):
    path = tmp_path / "closed" / "sock"
    path.parent.mkdir()
    denied = OSError(errno.EACCES, "Permission denied")
    network = Endpoint(None, "127.0.0.1", 323)
    connection = FakeConnection(
        {Number.MAKESTEP: answer(Number.MAKESTEP, status=Status.UNAUTHORISED)},
        endpoint=network,
        failures=[(Endpoint(str(path)), denied)],
    )
    ours = run("makestep", connection, extended=True)[1]
    import grp
    import os
    import pwd

    owner = f"user {pwd.getpwuid(os.getuid()).pw_name} and group {grp.getgrgid(path.parent.stat().st_gid).gr_name}"
    assert ours.stderr.splitlines() == [
        "hint: asked over the network (127.0.0.1:323), where only reports are open",
        f"hint: permission denied, it is for {owner}: {path}",
    ]


def test_the_socket_for_reports_says_that_it_is_one():
    connection = FakeConnection(
        {Number.MAKESTEP: answer(Number.MAKESTEP, status=Status.UNAUTHORISED)}, endpoint=Endpoint("/m/sock")
    )
    ours = run("makestep", connection, extended=True)[1]
    assert ours.stderr == "hint: /m/sock is for reports only; changes need the daemon's main socket\n"


@pytest.mark.parametrize("status", [Status.INVALID, Status.BAD_PACKET_VERSION, Status.BAD_PACKET_LENGTH])
def test_daemons_of_other_versions_are_named_as_the_reason(status):
    connection = FakeConnection({Number.SERVER_STATS: answer(Number.SERVER_STATS, status=status)})
    assert "another version" in run("serverstats", connection, extended=True)[1].stderr


def test_client_state_is_changed_by_commands():
    connection = FakeConnection()
    ours = Run(connection, Options())
    for line in ("dns -n", "dns -6", "timeout 250", "retries 5"):
        assert ours.session.run_line(line)
    assert (ours.session.numeric, ours.session.family) == (True, 6)
    assert (connection.timeout_ms, connection.retries) == (250, 5)
    assert connection.asked == []


def test_selectopts_sends_different_bits_for_mask_and_options():
    sent = []

    class Recording(FakeConnection):
        def exchange(self, number, payload):
            sent.append((number, payload))
            return answer(number)

    for line in ("selectopts 127.0.0.2 +trust -require", "selectopts GPS +prefer", "selectopts ID#3"):
        assert run(line, Recording())[0] == 0
    assert [(number, payload[1:]) for number, payload in sent] == [
        (72, (0, 0xC, 0x20)),
        (72, (0x47505300, 0x2, 0x8)),
        (72, (0, 0, 0)),
    ]


@pytest.mark.parametrize(
    "line",
    ["selectopts", "selectopts TOOLONG +trust", "selectopts GPS trust", "selectopts GPS +foo", "selectopts GPS +"],
)
def test_wrong_selectopts(line):
    assert run(line)[1].stderr == "Invalid syntax for selectopts command\n"


@pytest.mark.parametrize("line", ["offset", "offset GPS", "offset GPS x", "offset TOOLONG 1"])
def test_wrong_offset(line):
    assert run(line)[1].stderr == "Invalid syntax for offset command\n"


def test_options_of_local_that_the_older_request_lacks_are_not_dropped_silently():
    unknown = answer(Number.LOCAL3, status=Status.INVALID)
    for line, asked, exit_status in [
        ("local stratum 5", [74, 56], 0),
        ("local orphan", [74, 56], 0),
        ("local off", [74, 56], 0),
        ("local activate 1", [74], 1),
        ("local orphan waitunsynced 60", [74], 1),
    ]:
        connection = FakeConnection({Number.LOCAL3: unknown})
        assert run(line, connection)[0] == exit_status
        assert connection.asked == asked


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("add server 127.0.0.1 foo", "Invalid option in add command"),
        ("add server 127.0.0.1 port", "Invalid value in add command"),
        ("add server 127.0.0.1 port 65536", "Invalid value in add command"),
        ("add server 127.0.0.1 key 0", "Invalid value in add command"),
        ("add server 127.0.0.1 version 5", "Invalid value in add command"),
        ("add server 127.0.0.1 maxpoll 33", "Invalid value in add command"),
        ("add server 127.0.0.1 extfield F325", "Invalid value in add command"),
        ("add host 127.0.0.1", "Invalid syntax for add command"),
        ("add server", "Invalid syntax for add command"),
        ("add server nosuch.invalid", "Invalid host/IP address"),
        ("add server " + "a" * 256, "Invalid host/IP address"),
    ],
)
def test_what_is_wrong_with_a_new_source_is_said(line, message):
    assert run(line)[1].stderr == message + "\n"


def test_waitsync_counts_failed_requests_and_gives_up(monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr("ntpd_fast.cli.ntpc.reports.tracking.time.sleep", slept.append)
    exit_status, ours = run("waitsync 3 0 0 0.01", FakeConnection({Number.TRACKING: None}))
    assert exit_status == 1
    assert ours.stdout == "506 Cannot talk to daemon\n" * 3
    assert slept == [0.1, 0.1]


@pytest.mark.parametrize(
    ("words", "length"),
    [("", 20), ("7 MD5", 20), ("7 SHA1 8", 10), ("7 SHA512 81", 11), ("7 SHA3-256 100000", 512), ("7 AES256 8", 32)],
)
def test_keys_have_the_length_asked_for_within_limits(words, length):
    _, ours = run(f"keygen {words}")
    number, kind, key = ours.stdout.split()
    assert [number, kind] == (words.split() or ["1", "SHA1"])[:2]
    assert key.startswith("HEX:")
    assert key == key.upper()
    assert len(bytes.fromhex(key[4:])) == length


def test_a_session_can_leave():
    ours = Run(FakeConnection(), Options())
    assert ours.session.run_line("quit")
    assert ours.session.quit
