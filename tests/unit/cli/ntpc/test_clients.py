"""`clients`: pages, the busiest, prefixes; a long list in bounded memory."""

import pytest

from ntpd_fast.cli.ntpc.connection import Answer
from ntpd_fast.cli.ntpc.options import Options
from ntpd_fast.cli.ntpc.reports.clients import Selection, parse
from ntpd_fast.cli.ntpc.session import CommandError
from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec.address import UNSPECIFIED, Address
from ntpd_fast.monitor.codec.packet import ReplyHeader
from tests.unit.cli.ntpc.scripted import Run


def client(text, hits=1, drops=0, interval=127):
    address = UNSPECIFIED if text is None else Address.parse(text)
    return rep.ClientAccess(address, hits, 0, 0, drops, 0, 0, interval, 127, 127, 127, 0, rep.NEVER, rep.NEVER)


class Server:
    """A client list served in pages, as the daemon does."""

    endpoint = None
    failures = ()

    def __init__(self, records):
        self.records = records
        self.requests = []

    def exchange(self, number, request):
        self.requests.append(request)
        found, index = [], request.first_index
        while index < len(self.records) and len(found) < request.n_clients:
            if self.records[index].ntp_hits >= request.min_hits:
                found.append(self.records[index])
            index += 1
        page = rep.ClientAccesses(len(self.records), index, tuple(found))
        return Answer(ReplyHeader(6, 2, 0, 0, number, 21, 0, 0), page)


def names(line, records, *, extended=True):
    server = Server(records)
    ours = Run(server, Options(numeric=True), extended=extended)
    assert ours.session.run_line(line), ours.stderr
    return [row.split()[0] for row in ours.stdout.splitlines()[2:]], server


MANY = [
    client(f"10.0.{i // 256}.{i % 256}", hits=i * 7919 % 1009, drops=i % 13, interval=i % 20 - 10) for i in range(500)
]


def test_pages_are_asked_for_until_the_end_of_the_table():
    found, server = names("clients", MANY)
    assert len(found) == 500
    assert [r.first_index for r in server.requests] == list(range(0, 500, 8))
    assert all(r.n_clients == 8 and r.reset == 0 for r in server.requests)


def test_slots_without_address_are_skipped():
    assert names("clients", [client("10.0.0.1"), client(None), client("10.0.0.2")])[0] == ["10.0.0.1", "10.0.0.2"]


def test_options_of_chronyc_reach_the_daemon():
    _, server = names("clients -p 5 -r -k", MANY)
    assert {(r.min_hits, r.reset) for r in server.requests} == {(5, 1)}


@pytest.mark.parametrize(
    ("by", "key"),
    [("hits", lambda c: c.ntp_hits), ("drops", lambda c: c.ntp_drops), ("rate", lambda c: -c.ntp_interval)],
)
def test_the_busiest_come_first(by, key):
    found, _ = names(f"clients --top 20 --by {by}", MANY)
    expected = sorted((key(c) for c in MANY), reverse=True)[:20]
    by_name = {str(c.ip): key(c) for c in MANY}
    assert [by_name[name] for name in found] == expected


def test_a_long_list_is_not_sent_for_the_few_with_most_hits():
    many = [client(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", hits=i * 7919 % 10007) for i in range(10000)]
    found, server = names("clients --top 5", many)
    by_name = {str(c.ip): c.ntp_hits for c in many}
    assert [by_name[name] for name in found] == sorted(by_name.values(), reverse=True)[:5]
    assert len(server.requests) < 30


def test_equals_are_listed_as_the_daemon_lists_them():
    records = [client(f"10.0.0.{i}", hits=5 + i % 2) for i in range(20)]
    assert names("clients --top 12", records)[0] == [
        *(f"10.0.0.{i}" for i in range(1, 20, 2)), "10.0.0.0", "10.0.0.2"
    ]


def test_clients_of_unknown_interval_are_the_slowest():
    records = [client("10.0.0.1"), client("10.0.0.2", interval=10)]
    assert names("clients --top 2 --by rate", records)[0] == ["10.0.0.2", "10.0.0.1"]


def test_prefixes_choose_and_several_are_a_union():
    records = [client(t) for t in ("10.0.0.1", "10.1.0.1", "192.0.2.1", "2001:db8::1", "2001:db9::1")]
    assert names("clients --prefix 10/8", records)[0] == ["10.0.0.1", "10.1.0.1"]
    assert names("clients --prefix 2001:db8::/32 --prefix 192.0.2.1", records)[0] == ["192.0.2.1", "2001:db8::1"]
    assert names("clients --prefix ::/0", records)[0] == ["2001:db8::1", "2001:db9::1"]


def test_chronyc_does_not_know_our_options():
    assert len(names("clients --top 1 --prefix 10/8", MANY, extended=False)[0]) == 500


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--top", "Invalid number of clients: none given (1 to 100000)"),
        ("--top 0", "Invalid number of clients: 0 (1 to 100000)"),
        ("--top 100001", "Invalid number of clients: 100001 (1 to 100000)"),
        ("--top 5x", "Invalid number of clients: 5x (1 to 100000)"),
        ("--by size", "Invalid order: size (hits, drops, rate)"),
        ("--prefix 10/33", "Invalid prefix: 10/33"),
        ("--prefix", "Invalid prefix: none given"),
        ("-p", "Invalid syntax for clients command"),
        ("-p x", "Invalid syntax for clients command"),
    ],
)
def test_the_argument_that_is_wrong_is_named(line, message):
    with pytest.raises(CommandError) as caught:
        parse(line, extended=True)
    assert str(caught.value) == message


def test_defaults():
    assert parse("", extended=True) == Selection()
    assert parse("unknown words -x", extended=True) == Selection()
