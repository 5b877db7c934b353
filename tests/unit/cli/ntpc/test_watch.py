"""`watch` repeats a report, `top` wants a terminal, the prompt completes words."""

import json

import pytest

from ntpd_fast.cli.ntpc import watch
from ntpd_fast.cli.ntpc.interactive import completions, pieces
from ntpd_fast.cli.ntpc.options import Options
from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec.commands import Number, Status
from tests.unit.cli.ntpc.scripted import Run
from tests.unit.cli.ntpc.test_session import FakeConnection, answer

ACTIVITY = answer(Number.ACTIVITY, rep.Activity(1, 2, 3, 4, 5))


@pytest.fixture
def slept(monkeypatch):
    naps = []
    monkeypatch.setattr(watch.time, "sleep", naps.append)
    return naps


def run(line, connection, **options):
    ours = Run(connection, Options(**options), extended=True)
    return ours.session.run_line(line), ours


def test_a_report_is_printed_so_often_and_apart(slept):
    succeeded, ours = run("watch --count 3 --interval 5 activity", FakeConnection({Number.ACTIVITY: ACTIVITY}))
    assert succeeded
    assert ours.stdout.count("1 sources online") == 3
    assert ours.stdout.split("\n\n")[0].startswith("200 OK\n1 sources online\n")
    assert slept == [5.0, 5.0]


def test_json_is_a_document_a_line(slept):
    _, ours = run("watch --count 2 activity", FakeConnection({Number.ACTIVITY: ACTIVITY}), json=True)
    assert [json.loads(line)["online"] for line in ours.stdout.splitlines()] == [1, 1]


def test_it_ends_when_the_report_fails(slept):
    refused = answer(Number.ACTIVITY, status=Status.UNAUTHORISED)
    succeeded, ours = run("watch activity", FakeConnection({Number.ACTIVITY: refused}))
    assert not succeeded
    assert ours.stdout == "501 Not authorised\n"
    assert slept == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("watch", "Not a report: none given"),
        ("watch shutdown", "Not a report: shutdown"),
        ("watch watch activity", "Not a report: watch"),
        ("watch --count 0 activity", "Invalid count: 0"),
        ("watch --count x activity", "Invalid count: x"),
        ("watch --interval 0.01 activity", "Invalid interval: 0.01 (seconds, at least 0.1)"),
        ("watch --every 1 activity", "Unknown option of watch: --every"),
    ],
)
def test_only_reports_can_be_watched_and_the_wrong_word_is_named(line, message):
    connection = FakeConnection()
    succeeded, ours = run(line, connection)
    assert not succeeded
    assert ours.stderr == message + "\n"
    assert connection.asked == []


def test_top_wants_a_terminal(monkeypatch):
    monkeypatch.setattr("os.isatty", lambda _: False)
    succeeded, ours = run("top", FakeConnection())
    assert not succeeded
    assert ours.stderr == "top needs a terminal; watch prints reports anywhere\n"


@pytest.mark.parametrize(
    ("line", "text", "expected"),
    [
        ("", "trac", ["tracking"]),
        ("", "sourcest", ["sourcestats"]),
        ("add ", "", ["peer", "pool", "server"]),
        ("manual ", "", ["delete", "list", "off", "on", "reset"]),
        ("reload ", "", ["config", "sources"]),
        ("sources ", "-", ["-a", "-v"]),
        ("tracking ", "", []),
        ("add server ", "", []),
        ("", "zzz", []),
    ],
)
def test_words_are_completed(line, text, expected):
    assert completions(line + text, text, len(line)) == expected


def test_a_line_too_long_is_several():
    assert pieces("") == [""]
    assert [len(piece) for piece in pieces("x" * 5000)] == [2047, 2047, 906]
