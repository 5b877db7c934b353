"""Tables with a line for each source: `sources`, `sourcestats`, `selectdata`, `authdata`; and `sourcename`."""

from collections.abc import Iterator
from typing import TypeVar

from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec import requests as req
from ntpd_fast.monitor.codec.address import Address, Family
from ntpd_fast.monitor.codec.commands import Number
from ntpd_fast.monitor.codec.layout import Message

from .. import fields as f
from ..output import Report
from ..session import CommandError, Session
from ..template import Template

M = TypeVar("M", bound=Message)

_REFCLOCK_MODE = 2
_MODES = "^=#"
_STATES = "*?x~+-"
_MODE_WORDS = ("server", "peer", "refclock")
_STATE_WORDS = ("selected", "not_selectable", "falseticker", "jittery", "combined", "selectable")
_AUTH_MODES = ("-", "SK", "NTS")
_AUTH_WORDS = ("none", "symmetric_key", "nts")
_OPTION_LETTERS = "NPTR"
# SGR codes of what is followed, what helps, what is wrong.
_STATE_COLORS = {"*": "1;32", "+": "32", "x": "31", "~": "33", "?": "2", "-": ""}

SOURCES = Report(
    Template("{%c}{%c} {%-27s}  {%2d}  {%2d}   {%3o}  {AGO}  {SOFF}[{SOFF}] +/- {OFF}"),
    (
        ("mode", lambda r: f.word(_MODE_WORDS, r[0].mode)),
        ("state", lambda r: f.word(_STATE_WORDS, r[0].state)),
        ("name", lambda r: r[1]),
        ("address", lambda r: None if is_refclock(r[0]) else f.address(r[0].ip_addr)),
        ("stratum", lambda r: r[0].stratum),
        ("poll_log2_s", lambda r: r[0].poll),
        ("reachability", lambda r: r[0].reachability),
        ("last_sample_ago_s", lambda r: f.age_s(r[0].since_sample)),
        ("last_sample_offset_s", lambda r: r[0].latest_meas),
        ("last_sample_measured_offset_s", lambda r: r[0].orig_latest_meas),
        ("last_sample_error_s", lambda r: r[0].latest_meas_err),
    ),
    header="MS Name/IP address         Stratum Poll Reach LastRx Last sample               ",
    captions=(
        "\n"
        "  .-- Mode: '^' server, '=' peer, '#' reference clock of this host.\n"
        " / .- State: '*' followed, '+' combined with it, '-' good but left out,\n"
        "| /          'x' falseticker, '~' too variable, '?' not usable.\n"
        "||                                   .- Interval of polls, log2 s.\n"
        "||                                   |     .- The last 8 polls, octal (377: all were answered).\n"
        "||                                   |     |           .- Offset, corrected for slews since,\n"
        "||                                   |     |           |  [ as measured ], +/- its largest error.\n"
        "||                                   |     |           |\n"
    ),
    color=lambda r: _STATE_COLORS.get(_letter(_STATES, r[0].state), ""),
)
SOURCESTATS = Report(
    Template("{%-25s} {%3u} {%3u}  {AGO} {SFREQ} {FREQ}  {SOFF}  {OFF}"),
    (
        ("name", lambda r: r[1]),
        ("address", lambda r: f.address(r[0].ip_addr)),
        ("reference_id", lambda r: f.refid(r[0].ref_id)),
        ("samples", lambda r: r[0].n_samples),
        ("runs", lambda r: r[0].n_runs),
        ("span_s", lambda r: r[0].span_seconds),
        ("residual_frequency_ppm", lambda r: r[0].resid_freq_ppm),
        ("skew_ppm", lambda r: r[0].skew_ppm),
        ("offset_s", lambda r: r[0].est_offset),
        ("offset_error_s", lambda r: r[0].est_offset_err),
        ("standard_deviation_s", lambda r: r[0].sd),
    ),
    header="Name/IP Address            NP  NR  Span  Frequency  Freq Skew  Offset  Std Dev",
    captions=(
        "                            .- Samples that the line is fitted to (NP).\n"
        "                            |   .- Runs of residuals of the same sign (NR).\n"
        "                            |   |     .- Time they span.\n"
        "                            |   |     |          .- Frequency left to correct, ppm.\n"
        "                            |   |     |          |          .- Its error bound, ppm.\n"
        "                            |   |     |          |          |        .- Offset now.\n"
        "                            |   |     |          |          |        |       .- Standard deviation\n"
        "                            |   |     |          |          |        |       |  of the samples.\n"
        "                            |   |     |          |          |        |       |\n"
    ),
)
SELECTDATA = Report(
    Template("{%s} {%-25s} {YN} {%c}{%c}{%c}{%c}{%c} {%c}{%c}{%c}{%c}{%c} {AGO} {%5.1f} {SOFF} {SOFF}  {LEAPLETTER}"),
    (
        ("state", lambda r: f.letter(r[0].state_char)),
        ("name", lambda r: r[1]),
        ("address", lambda r: f.address(r[0].ip_addr)),
        ("reference_id", lambda r: f.refid(r[0].ref_id)),
        ("authenticated", lambda r: r[0].authentication),
        ("configured_options", lambda r: f.select_options(r[0].conf_options)),
        ("effective_options", lambda r: f.select_options(r[0].eff_options)),
        ("last_sample_ago_s", lambda r: f.age_s(r[0].last_sample_ago)),
        ("score", lambda r: r[0].score),
        ("interval_low_s", lambda r: r[0].lo_limit),
        ("interval_high_s", lambda r: r[0].hi_limit),
        ("leap_status", lambda r: f.leap(r[0].leap)),
    ),
    header="S Name/IP Address        Auth COpts EOpts Last Score     Interval  Leap",
    captions=(
        "  State: N noselect option, M samples missing, s not synchronised, d distance too large,\n"
        "         ~ too variable, w waits for others, S no recent samples, O orphan, T not trusted,\n"
        "         x falseticker, W waits for more sources, P others preferred, U waits for an update,\n"
        "         D distant, L outlier, + combined, * followed.\n"
        "  Auth: Y when authentication is on. Last: age of the last sample.\n"
        "  COpts, EOpts: options as configured and in effect: N noselect, P prefer, T trust, R require.\n"
        "  Score: against the source followed. Interval: the offsets the true one may have.\n"
        "  Leap: N normal, + insert, - delete, ? not synchronised.\n"
    ),
    color=lambda r: _STATE_COLORS.get(r[0].state_char, ""),
)
AUTHDATA = Report(
    Template("{%-27s} {%4s} {%5u} {%4d} {%4d} {AGO} {%4d} {%4d} {%4d} {%4d}"),
    (
        ("name", lambda r: r[1]),
        ("address", lambda r: f.address(r[2])),
        ("mode", lambda r: f.word(_AUTH_WORDS, r[0].mode)),
        ("key_id", lambda r: r[0].key_id),
        ("key_type", lambda r: r[0].key_type),
        ("key_length_bits", lambda r: r[0].key_length),
        ("last_key_establishment_ago_s", lambda r: f.age_s(r[0].last_ke_ago)),
        ("key_establishment_attempts", lambda r: r[0].ke_attempts),
        ("nak_received", lambda r: bool(r[0].nak)),
        ("cookies", lambda r: r[0].cookies),
        ("cookie_length_bytes", lambda r: r[0].cookie_length),
    ),
    header="Name/IP address             Mode KeyID Type KLen Last Atmp  NAK Cook CLen",
    captions=(
        "  Mode: NTS, SK symmetric key, - none. KeyID: number of the key, with NTS of the key establishment.\n"
        "  Type, KLen: algorithm and length of the key in bits.\n"
        "  Last: age of the key establishment. Atmp: attempts since.\n"
        "  NAK: 1 when the server refused our last cookie.\n"
        "  Cook, CLen: cookies in hand, and the length of one in bytes.\n"
    ),
)


def _letter(letters: str, number: int) -> str:
    return letters[number] if number < len(letters) else " "


def is_refclock(source: rep.SourceData) -> bool:
    return source.mode == _REFCLOCK_MODE and source.ip_addr.family == Family.INET4


def _each(session: Session, count: int, number: Number, wanted: type[M]) -> Iterator[M]:
    for index in range(count):
        yield session.report(number, wanted, req.Index(index))


def _count(session: Session) -> int:
    return session.report(Number.N_SOURCES, rep.SourceCount).n_sources


def _options(rest: str) -> tuple[bool, bool]:
    """(show sources without address, verbose)."""
    words = rest.split()
    return "-a" in words, "-v" in words


def _is_hidden(address: Address, show_all: bool) -> bool:
    return address.family == Family.ID and not show_all


def sources(session: Session, rest: str) -> None:
    show_all, verbose = _options(rest)
    count = _count(session)
    session.output.begin(SOURCES, verbose=verbose)
    for source in _each(session, count, Number.SOURCE_DATA, rep.SourceData):
        if _is_hidden(source.ip_addr, show_all):
            continue
        name = session.source_name(source.ip_addr, source.ip_addr.number, is_refclock=is_refclock(source))
        values = (
            _letter(_MODES, source.mode),
            _letter(_STATES, source.state),
            name,
            source.stratum,
            source.poll,
            source.reachability,
            source.since_sample,
            source.latest_meas,
            source.orig_latest_meas,
            source.latest_meas_err,
        )
        session.output.row(SOURCES, values, (source, name))


def sourcestats(session: Session, rest: str) -> None:
    show_all, verbose = _options(rest)
    count = _count(session)
    session.output.begin(SOURCESTATS, verbose=verbose)
    for stats in _each(session, count, Number.SOURCESTATS, rep.SourceStats):
        if _is_hidden(stats.ip_addr, show_all):
            continue
        name = session.source_name(stats.ip_addr, stats.ref_id, is_refclock=not stats.ip_addr.packed)
        values = (
            name,
            stats.n_samples,
            stats.n_runs,
            stats.span_seconds,
            stats.resid_freq_ppm,
            stats.skew_ppm,
            stats.est_offset,
            stats.sd,
        )
        session.output.row(SOURCESTATS, values, (stats, name))


def _option_letters(bits: int) -> list[str]:
    return [letter if bits >> i & 1 else "-" for i, letter in enumerate(_OPTION_LETTERS)] + ["-"]


def selectdata(session: Session, rest: str) -> None:
    show_all, verbose = _options(rest)
    count = _count(session)
    session.output.begin(SELECTDATA, verbose=verbose)
    for data in _each(session, count, Number.SELECT_DATA, rep.SelectData):
        if _is_hidden(data.ip_addr, show_all):
            continue
        name = session.source_name(data.ip_addr, data.ref_id, is_refclock=not data.ip_addr.packed)
        values = (
            f.letter(data.state_char) or " ",
            name,
            data.authentication,
            *_option_letters(data.conf_options),
            *_option_letters(data.eff_options),
            data.last_sample_ago,
            data.score,
            data.lo_limit,
            data.hi_limit,
            data.leap,
        )
        session.output.row(SELECTDATA, values, (data, name))


def authdata(session: Session, rest: str) -> None:
    show_all, verbose = _options(rest)
    count = _count(session)
    session.output.begin(AUTHDATA, verbose=verbose)
    for source in _each(session, count, Number.SOURCE_DATA, rep.SourceData):
        if source.mode == _REFCLOCK_MODE or _is_hidden(source.ip_addr, show_all):
            continue
        data = session.report(Number.AUTH_DATA, rep.AuthData, req.OneAddress(source.ip_addr))
        name = session.source_name(source.ip_addr, 0, is_refclock=False)
        values = (
            name,
            _AUTH_MODES[data.mode] if data.mode < len(_AUTH_MODES) else "?",
            data.key_id,
            data.key_type,
            data.key_length,
            data.last_ke_ago,
            data.ke_attempts,
            data.nak,
            data.cookies,
            data.cookie_length,
        )
        session.output.row(AUTHDATA, values, (data, name, source.ip_addr))


def sourcename(session: Session, rest: str) -> None:
    address = session.host_address(rest)
    if address is None:
        raise CommandError("Could not read address")
    session.output.value("name", session.configured_name(address))
