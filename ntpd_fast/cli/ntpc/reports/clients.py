"""`clients`: who asked this server."""

from collections.abc import Callable, Iterable, Iterator
from heapq import heappush, heapreplace
from typing import NamedTuple

from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec import requests as req
from ntpd_fast.monitor.codec.commands import Number
from ntpd_fast.monitor.codec.replies import CLIENTS_PER_REPLY

from .. import arguments as arg
from .. import fields as f
from ..output import Report
from ..session import CommandError, Session
from ..template import Template

_HEADER = "Hostname                      NTP   Drop Int IntL Last  {:>6}   Drop Int  Last"

CLIENTS = Report(
    Template("{%-25s}  {%6u}  {%5u}  {INTERVAL}  {INTERVAL}  {AGO}  {%6u}  {%5u}  {INTERVAL}  {AGO}"),
    (
        ("address", lambda r: f.address(r[0].ip)),
        ("name", lambda r: r[1]),
        ("ntp_hits", lambda r: r[0].ntp_hits),
        ("ntp_drops", lambda r: r[0].ntp_drops),
        ("ntp_interval_s", lambda r: f.interval_s(r[0].ntp_interval)),
        ("ntp_limited_interval_s", lambda r: f.interval_s(r[0].ntp_timeout_interval)),
        ("ntp_last_ago_s", lambda r: f.age_s(r[0].last_ntp_hit_ago)),
        ("command_hits", lambda r: r[0].cmd_hits),
        ("command_drops", lambda r: r[0].cmd_drops),
        ("command_interval_s", lambda r: f.interval_s(r[0].cmd_interval)),
        ("command_last_ago_s", lambda r: f.age_s(r[0].last_cmd_hit_ago)),
        ("nts_ke_hits", lambda r: r[0].nke_hits),
        ("nts_ke_drops", lambda r: r[0].nke_drops),
        ("nts_ke_interval_s", lambda r: f.interval_s(r[0].nke_interval)),
        ("nts_ke_last_ago_s", lambda r: f.age_s(r[0].last_nke_hit_ago)),
    ),
    header=_HEADER.format("Cmd"),
)
CLIENTS_NKE = CLIENTS._replace(header=_HEADER.format("NTS-KE"))


class Selection(NamedTuple):
    """Which clients `clients` shows, and how."""

    min_hits: int = 0
    reset: bool = False
    nke: bool = False
    top: int = 0
    """Only so many, the busiest first; 0: all, as the daemon lists them."""
    by: str = "hits"
    prefixes: tuple[arg.Subnet, ...] = ()
    """Only clients in one of these; none: all."""


TOP_MAX = 100_000


def interval_rate(client: rep.ClientAccess) -> float:
    """Requests a second, from the average interval the daemon keeps."""
    return 0.0 if client.ntp_interval >= rep.UNKNOWN_INTERVAL else 2.0**-client.ntp_interval


# What `--by` and `top` sort by: the largest first.
ORDERS: dict[str, Callable[[rep.ClientAccess], float]] = {
    "hits": lambda client: client.ntp_hits,
    "drops": lambda client: client.ntp_drops,
    "rate": interval_rate,
}


def fetch(session: Session, min_hits: int = 0, *, reset: bool = False, first: int = 0) -> Iterator[rep.ClientAccess]:
    """Every client of the daemon from an index on, page by page."""
    while True:
        page = fetch_page(session, first, min_hits, reset=reset)
        yield from (client for client in page.clients if client.ip.packed)
        if is_last(page):
            return
        first = page.next_index


def fetch_page(session: Session, first: int, min_hits: int = 0, *, reset: bool = False) -> rep.ClientAccesses:
    request = req.ClientAccesses(first, CLIENTS_PER_REPLY, min_hits, int(reset))
    return session.report(Number.CLIENT_ACCESSES_BY_INDEX3, rep.ClientAccesses, request)


def is_last(page: rep.ClientAccesses) -> bool:
    return page.next_index >= page.n_indices or len(page.clients) < CLIENTS_PER_REPLY


def clients(session: Session, rest: str) -> None:
    selection = parse(rest, extended=session.extended)
    report = CLIENTS_NKE if selection.nke else CLIENTS
    session.output.begin(report)
    for client in busiest(session, selection) if selection.top else matching(session, selection):
        name = session.host_name(client.ip)
        session.output.row(report, row(client, name, selection.nke), (client, name))


def matching(session: Session, selection: Selection) -> Iterator[rep.ClientAccess]:
    """All clients of the selection, as the daemon lists them."""
    for client in fetch(session, selection.min_hits, reset=selection.reset):
        if not selection.prefixes or _is_inside(client, selection.prefixes):
            yield client


def busiest(session: Session, selection: Selection) -> list[rep.ClientAccess]:
    """The first `top` of the selection; of equals those the daemon lists first.

    What is sorted by hits need not even be sent when it has fewer than the least of those found so far.
    """
    order = ORDERS[selection.by]
    # (key, minus the place in the list, client): the least is at the front
    found: list[tuple[float, int, rep.ClientAccess]] = []
    first, min_hits, place = 0, selection.min_hits, 0
    while True:
        page = fetch_page(session, first, min_hits, reset=selection.reset)
        for client in page.clients:
            if not client.ip.packed or (selection.prefixes and not _is_inside(client, selection.prefixes)):
                continue
            place += 1
            entry = order(client), -place, client
            if len(found) < selection.top:
                heappush(found, entry)
            elif entry > found[0]:
                heapreplace(found, entry)
        if is_last(page):
            return [client for _, _, client in sorted(found, reverse=True)]
        if selection.by == "hits" and len(found) == selection.top:
            min_hits = max(min_hits, int(found[0][0]) + 1)
        first = page.next_index


def parse(rest: str, *, extended: bool) -> Selection:
    """chronyc ignores words it does not know; those of our own options are taken when `extended`."""
    selection = Selection()
    prefixes: list[arg.Subnet] = []
    words = iter(rest.split())
    for word in words:
        if word == "-k":
            selection = selection._replace(nke=True)
        elif word == "-r":
            selection = selection._replace(reset=True)
        elif word == "-p":
            selection = selection._replace(min_hits=_known(arg.unsigned(next(words, ""))))
        elif not extended:
            continue
        elif word == "--top":
            selection = selection._replace(top=_top(next(words, "")))
        elif word == "--by":
            selection = selection._replace(by=_order(next(words, "")))
        elif word == "--prefix":
            prefixes.append(_prefix(next(words, "")))
    return selection._replace(prefixes=tuple(prefixes))


def _known(number: int | None) -> int:
    if number is None:
        raise CommandError("Invalid syntax for clients command")
    return number


def _top(text: str) -> int:
    number = arg.whole_integer(text)
    if number is None or not 1 <= number <= TOP_MAX:
        raise CommandError(f"Invalid number of clients: {text or 'none given'} (1 to {TOP_MAX})")
    return number


def _order(text: str) -> str:
    if text not in ORDERS:
        raise CommandError(f"Invalid order: {text or 'none given'} ({', '.join(ORDERS)})")
    return text


def _prefix(text: str) -> arg.Subnet:
    subnet = arg.literal_subnet(text)
    if subnet is None or subnet.bits > len(subnet.address.packed) * 8:
        raise CommandError(f"Invalid prefix: {text or 'none given'}")
    return subnet


def _is_inside(client: rep.ClientAccess, prefixes: Iterable[arg.Subnet]) -> bool:
    for prefix in prefixes:
        if prefix.address.family == client.ip.family:
            shift = len(client.ip.packed) * 8 - prefix.bits
            if client.ip.number >> shift == prefix.address.number >> shift:
                return True
    return False


def row(client: rep.ClientAccess, name: str, nke: bool) -> tuple[str | int, ...]:
    """The values of a line of text."""
    if nke:
        other = (client.nke_hits, client.nke_drops, client.nke_interval, client.last_nke_hit_ago)
    else:
        other = (client.cmd_hits, client.cmd_drops, client.cmd_interval, client.last_cmd_hit_ago)
    return (
        name,
        client.ntp_hits,
        client.ntp_drops,
        client.ntp_interval,
        client.ntp_timeout_interval,
        client.last_ntp_hit_ago,
        *other,
    )
