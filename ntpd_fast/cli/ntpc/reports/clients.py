"""`clients`: who asked this server."""

from collections.abc import Iterator

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


def fetch(session: Session, min_hits: int = 0, *, reset: bool = False) -> Iterator[rep.ClientAccess]:
    """Every client of the daemon, page by page."""
    first = 0
    while True:
        request = req.ClientAccesses(first, CLIENTS_PER_REPLY, min_hits, int(reset))
        page = session.report(Number.CLIENT_ACCESSES_BY_INDEX3, rep.ClientAccesses, request)
        yield from (client for client in page.clients if client.ip.packed)
        if page.next_index >= page.n_indices or len(page.clients) < CLIENTS_PER_REPLY:
            return
        first = page.next_index


def clients(session: Session, rest: str) -> None:
    reset = nke = False
    min_hits = 0
    words = iter(rest.split())
    for word in words:
        if word == "-k":
            nke = True
        elif word == "-r":
            reset = True
        elif word == "-p":
            number = arg.unsigned(next(words, ""))
            if number is None:
                raise CommandError("Invalid syntax for clients command")
            min_hits = number
    report = CLIENTS_NKE if nke else CLIENTS
    session.output.begin(report)
    for client in fetch(session, min_hits, reset=reset):
        name = session.host_name(client.ip)
        session.output.row(report, row(client, name, nke), (client, name))


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
