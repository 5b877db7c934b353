"""What `top` draws, from samples that the test makes up."""

import pytest

from ntpd_fast.cli.ntpc.session import CommandError
from ntpd_fast.cli.ntpc.top import parse
from ntpd_fast.cli.ntpc.top_view import HEADING, KEPT_MAX, NORMAL, WARNING, View
from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec.address import UNSPECIFIED, Address
from tests.unit.cli.ntpc.test_clients import client

TRACKING = rep.Tracking(0x7F000001, UNSPECIFIED, 2, 0, 0, 0.0, 1e-6, 2e-6, 1.5, 0.0, 0.1, 0.0, 0.0, 64.0)
ACTIVITY = rep.Activity(3, 1, 0, 0, 2)


def stats(received, dropped=0):
    return rep.ServerStats(ntp_hits=received, ntp_drops=dropped, cmd_hits=5)


def texts(view, width=120, height=24):
    return [text for text, _ in view.render(width, height)]


def line(view, start):
    return next(text for text in texts(view) if text.startswith(start))


def sample(view, now_s, *clients):
    view.take_clients(now_s, clients, 1.0)
    view.end_pass()


def test_rates_are_differences_between_samples():
    view = View()
    view.take_server(100.0, stats(1000, 10), TRACKING, ACTIVITY)
    assert line(view, "Requests") == "Requests  0/s  (1,000 in all)"
    view.take_server(102.0, stats(401_000, 4010), TRACKING, ACTIVITY)
    assert line(view, "Requests") == "Requests  200,000/s  (401,000 in all)"
    assert line(view, "Dropped") == "Dropped   2,000/s  (1.0%)"


def test_a_daemon_started_again_has_no_negative_rates():
    view = View()
    view.take_server(100.0, stats(1000), TRACKING, ACTIVITY)
    view.take_server(102.0, stats(10), TRACKING, ACTIVITY)
    assert line(view, "Requests") == "Requests  0/s  (10 in all)"


def test_clock_and_sources_are_summed_up():
    view = View()
    view.take_server(0.0, stats(0), TRACKING, ACTIVITY)
    assert line(view, "Clock") == ("Clock     stratum 2  Normal  offset +1000ns  rms 2000ns  frequency +1.500 ppm")
    assert line(view, "Sources") == "Sources   3 online  1 offline  2 unresolved"


def test_an_unsynchronised_clock_is_a_warning():
    view = View()
    view.take_server(0.0, None, TRACKING._replace(leap_status=3), None)
    styles = dict(view.render(120, 24))
    assert WARNING in styles.values()
    assert line(view, "Server") == "Server    statistics are not open to us"


def test_a_client_seen_twice_has_its_true_rate_and_before_that_its_average():
    view = View()
    sample(view, 100.0, client("10.0.0.1", hits=50, interval=-3))
    assert line(view, "10.0.0.1").split()[1:3] == ["8.0", "0.0"]
    sample(view, 110.0, client("10.0.0.1", hits=250, drops=30, interval=-3))
    assert line(view, "10.0.0.1").split()[1:5] == ["20.0", "3.0", "250", "30"]


@pytest.mark.parametrize(
    ("order", "first"), [("rate", "10.0.0.1"), ("hits", "10.0.0.2"), ("drops", "10.0.0.3"), ("address", "10.0.0.0")]
)
def test_clients_are_sorted_as_asked(order, first):
    view = View(order)
    sample(
        view,
        1.0,
        client("10.0.0.3", hits=5, drops=9),
        client("10.0.0.2", hits=90),
        client("10.0.0.1", hits=10, interval=-5),
        client("10.0.0.0", hits=1),
    )
    assert texts(view)[[s for _, s in view.render(120, 24)].index(HEADING) + 1].startswith(first)
    view.set_order("address")
    assert view.addresses(1) == [Address.parse("10.0.0.0")]


def test_the_last_pass_stays_while_the_next_is_read():
    view = View()
    sample(view, 1.0, client("10.0.0.1"))
    view.take_clients(2.0, [client("10.0.0.9", interval=-9)], 0.4)
    assert line(view, "10.0.0.1")
    assert "reading the list: 40%" in texts(view)[-1]
    assert "1 clients by rate" in texts(view)[-1]


def test_a_million_clients_take_bounded_memory():
    view = View("hits")
    for start in range(0, 30_000, 8):
        page = [client(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", hits=i) for i in range(start, start + 8)]
        view.take_clients(1.0, page, 0.5)
        assert len(view._pass_clients) <= 4 * KEPT_MAX + 8
    view.end_pass()
    assert len(view._clients) == KEPT_MAX
    assert view._clients[0].record.ntp_hits == 29_999
    assert "30,000 clients" in texts(view)[-1]


@pytest.mark.parametrize(("width", "height"), [(0, 0), (1, 1), (5, 3), (40, 10), (200, 60)])
def test_it_fits_any_window(width, height):
    view = View()
    view.take_server(0.0, stats(1), TRACKING, ACTIVITY)
    sample(view, 1.0, *[client(f"10.0.0.{i}") for i in range(100)])
    lines = view.render(width, height)
    assert len(lines) <= height
    assert all(len(text) <= width for text, _ in lines)
    if height >= 10:
        assert len(lines) == height


def test_messages_and_pause_are_in_the_last_line():
    view = View()
    view.paused = True
    assert texts(view)[-1].startswith("PAUSED")
    view.message = "The daemon does not answer"
    assert view.render(120, 24)[-1] == ("The daemon does not answer", WARNING)


def test_names_replace_addresses():
    view = View()
    sample(view, 1.0, client("10.0.0.1"))
    view.names[Address.parse("10.0.0.1")] = "host.example.net"
    assert line(view, "host.example.net")
    assert dict(view.render(120, 24))[line(view, "host.example.net")] == NORMAL


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("--by size", "Invalid order: size (rate, hits, drops, address)"),
        ("--interval 0", "Invalid interval: 0 (seconds, at least 0.2)"),
        ("--interval", "Invalid interval: none given (seconds, at least 0.2)"),
        ("-x", "Unknown option of top: -x"),
    ],
)
def test_wrong_arguments_are_named(rest, message):
    with pytest.raises(CommandError) as caught:
        parse(rest)
    assert str(caught.value) == message


def test_arguments():
    assert parse("--by drops --interval 0.5") == ("drops", 0.5)
