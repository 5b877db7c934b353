"""Reading the daemon for `top`: pieces of bounded time, and what is refused is left out."""

import pytest

from ntpd_fast.cli.ntpc import top
from ntpd_fast.cli.ntpc.options import Options
from ntpd_fast.cli.ntpc.output import Output
from ntpd_fast.cli.ntpc.reports.sources import SOURCES
from ntpd_fast.cli.ntpc.top import Reader
from ntpd_fast.cli.ntpc.top_view import View
from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec.address import Address
from ntpd_fast.monitor.codec.commands import Number, Status
from tests.unit.cli.ntpc.scripted import Run
from tests.unit.cli.ntpc.test_clients import MANY, Server
from tests.unit.cli.ntpc.test_session import FakeConnection, answer
from tests.unit.cli.ntpc.test_top_view import ACTIVITY, TRACKING, line, stats, texts


class Daemon(FakeConnection):
    """One with a client list."""

    def __init__(self, records, **answers):
        super().__init__(
            {
                Number.SERVER_STATS: answer(Number.SERVER_STATS, stats(5)),
                Number.TRACKING: answer(Number.TRACKING, TRACKING),
                Number.ACTIVITY: answer(Number.ACTIVITY, ACTIVITY),
            }
        )
        self.clients = Server(records)

    def exchange(self, number, payload):
        if number == Number.CLIENT_ACCESSES_BY_INDEX3 and number not in self.answers:
            return self.clients.exchange(number, payload)
        return super().exchange(number, payload)


@pytest.fixture
def clock(monkeypatch):
    """Each look at it takes 10 ms."""
    now = [100.0]

    def monotonic():
        now[0] += 0.01
        return now[0]

    monkeypatch.setattr(top.time, "monotonic", monotonic)
    return now


def reader(connection):
    view = View("hits")
    return Reader(Run(connection, Options(), extended=True).session, view), view


def test_the_list_is_read_in_pieces_and_shown_when_it_is_through(clock):
    daemon = Daemon(MANY)
    reading, view = reader(daemon)
    reading.turn(0.3)
    assert 0 < len(daemon.clients.requests) < 30
    assert 0.0 < view.progress < 1.0
    assert not view.addresses(10)
    for _ in range(10):
        reading.turn(0.3)
    assert len(view.addresses(10)) == 10
    assert line(view, "Requests") == "Requests  0/s  (5 in all)"
    assert "500 clients by hits" in texts(view)[-1]


def test_a_turn_ends_with_the_pass(clock):
    daemon = Daemon(MANY[:20])
    reading, _ = reader(daemon)
    reading.turn(100.0)
    assert len(daemon.clients.requests) == 3


def test_what_is_not_open_to_us_is_left_out_and_said(clock):
    daemon = Daemon(MANY)
    daemon.answers[Number.SERVER_STATS] = answer(Number.SERVER_STATS, status=Status.UNAUTHORISED)
    daemon.answers[Number.CLIENT_ACCESSES_BY_INDEX3] = answer(68, status=Status.UNAUTHORISED)
    reading, view = reader(daemon)
    reading.turn(0.1)
    assert line(view, "Server") == "Server    statistics are not open to us"
    assert texts(view)[-1] == "The client list is not open to us, or not kept"
    assert line(view, "Clock")


def test_a_daemon_that_went_away_is_said(clock):
    reading, view = reader(FakeConnection(dict.fromkeys((Number.SERVER_STATS, Number.TRACKING, Number.ACTIVITY))))
    reading.turn(0.1)
    assert texts(view)[-1] == "The daemon does not answer"


def test_only_coloured_output_has_colours():
    source = rep.SourceData(Address.parse("192.0.2.1"), 6, 2, 0, 0, 255, 1, 0.0, 0.0, 0.0)
    values = ("^", "*", "192.0.2.1", 2, 6, 255, 1, 0.0, 0.0, 0.0)
    for color, expected in ((True, b"\x1b[1;32m^* "), (False, b"^* ")):
        written = bytearray()
        output = Output(written.extend, written.extend, color=color)
        output.row(SOURCES, values, (source, "192.0.2.1"))
        output.flush()
        assert written.startswith(expected)
        assert written.endswith(b"\x1b[0m\n") == color
