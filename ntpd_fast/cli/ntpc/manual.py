"""Manual time input: `manual` and `settime`."""

from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec import requests as req
from ntpd_fast.monitor.codec.commands import Number
from ntpd_fast.monitor.codec.layout import NS_PER_S

from . import arguments as arg
from .fields import utc
from .output import Report
from .session import CommandError, Session
from .template import Template

_OPTIONS = {"off": 0, "on": 1, "reset": 2}

MANUAL_LIST = Report(
    Template("{%2d} {DATETIME} {%10.2f} {%10.2f} {%10.2f}"),
    (
        ("index", lambda r: r[0]),
        ("time", lambda r: utc(r[1].when_ns)),
        ("slewed_offset_s", lambda r: r[1].slewed_offset),
        ("original_offset_s", lambda r: r[1].orig_offset),
        ("residual_s", lambda r: r[1].residual),
    ),
    header="#    Date     Time(UTC)    Slewed   Original   Residual",
)
SETTIME = Report(
    Template("Clock was {%.2f} seconds fast.  Frequency change = {%.2f}ppm, new frequency = {%.2f}ppm"),
    (
        ("offset_s", lambda r: r.offset),
        ("frequency_change_ppm", lambda r: r.dfreq_ppm),
        ("new_frequency_ppm", lambda r: r.new_afreq_ppm),
    ),
)


def manual(session: Session, rest: str) -> None:
    if rest in _OPTIONS:
        session.plain(Number.MANUAL, req.Option(_OPTIONS[rest]))
    elif rest.startswith("list"):
        _list(session)
    elif rest.startswith("delete"):
        index = arg.integer(rest.partition(" ")[2])
        if index is None:
            raise CommandError("Bad syntax for manual delete command")
        session.plain(Number.MANUAL_DELETE, req.Index(index))
    else:
        raise CommandError("Invalid syntax for manual command")


def _list(session: Session) -> None:
    samples = session.report(Number.MANUAL_LIST, rep.ManualList).samples
    session.output.information(f"210 n_samples = {len(samples)}")
    session.output.begin(MANUAL_LIST)
    for index, sample in enumerate(samples):
        session.output.row(MANUAL_LIST, (index, *sample), (index, sample))


def settime(session: Session, rest: str) -> None:
    from .getdate import parse_date

    seconds = parse_date(rest)
    if seconds is None:
        session.output.status("510 - Could not parse date string")
        raise CommandError("")
    request = req.SetTime(seconds * NS_PER_S)
    result = session.report(Number.SETTIME, rep.ManualTimestamp, request, verbose=True)
    session.output.row(SETTIME, result, result)
