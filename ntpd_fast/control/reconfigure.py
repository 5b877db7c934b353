"""How a changed configuration reaches the parts of control: one table of fields and what follows from a change.

Rules: a step is taken only when one of its fields has changed, in the order of the table; it takes the new value from
the configuration and leaves alone what it finds otherwise, so that samples, runtime commands and open files outlive a
reload that does not concern them. Nothing here can refuse any more: what cannot be had (a directory, a file) is told by
the part that wants it, as at the start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ntpd_fast._auth import KeyTableFull
from ntpd_fast._record import dataclass, replace
from ntpd_fast.clock.driftfile import DriftFile
from ntpd_fast.clock.leapdb import LeapDb
from ntpd_fast.clock.manual import Manual
from ntpd_fast.clock.reference import ReferenceOptions
from ntpd_fast.config import ConfigError
from ntpd_fast.config.diff import compare
from ntpd_fast.config.model import Config, LogKind
from ntpd_fast.control.broadcast import Broadcaster
from ntpd_fast.control.clockwork import Clockwork
from ntpd_fast.control.dataplane import ClientAccounts, DataPlane
from ntpd_fast.control.dumping import Dumping
from ntpd_fast.control.journal import Journal
from ntpd_fast.control.keys import Keys
from ntpd_fast.control.logfiles import LogFiles
from ntpd_fast.control.mailing import Mailing
from ntpd_fast.control.ntsclient import NtsClient
from ntpd_fast.control.reload import KEY_EXCHANGE
from ntpd_fast.control.reports import AccessBackend
from ntpd_fast.control.setup import Setup
from ntpd_fast.control.upstream import Upstream
from ntpd_fast.monitor.dispatch import Dispatcher
from ntpd_fast.monitor.permissions import open_commands
from ntpd_fast.server.access import AccessTable, AccessTableFull
from ntpd_fast.system.messages import Log, Severity

if TYPE_CHECKING:
    from ntpd_fast.control.nts import NtsServerKeys


@dataclass(slots=True)
class Parts:
    """What control consists of, as far as a configuration rules it. The optional ones were not configured at start."""

    setup: Setup
    log: Log
    plane: DataPlane
    accounts: ClientAccounts
    access: AccessBackend
    command_access: AccessBackend
    dispatcher: Dispatcher
    keys: Keys
    files: LogFiles
    mailing: Mailing
    clockwork: Clockwork
    manual: Manual
    nts: NtsClient
    upstream: Upstream
    dumping: Dumping
    broadcaster: Broadcaster
    server_keys: NtsServerKeys | None
    journal: Journal


Apply = Callable[[Parts, Config], None]


@dataclass(frozen=True, slots=True)
class Step:
    """`apply(parts, config)` when one of `fields` (of Config) has changed."""

    fields: frozenset[str]
    apply: Apply


def _step(fields: str, apply: Apply) -> Step:
    return Step(frozenset(fields.split()), apply)


def _access(parts: Parts, config: Config) -> None:
    try:
        parts.access.replace(AccessTable.from_rules(config.access))
    except AccessTableFull as error:
        parts.log(Severity.ERROR, f"Could not change NTP access : {error}")


def _command_access(parts: Parts, config: Config) -> None:
    parts.command_access.replace(AccessTable.from_rules(config.cmd_access))


def _command_limit(parts: Parts, config: Config) -> None:
    parts.accounts.set_limit(config.cmdratelimit)


def _open_commands(parts: Parts, config: Config) -> None:
    parts.dispatcher.over_udp = open_commands(config.opencommands)


def _answering(parts: Parts, config: Config) -> None:
    parts.plane.publish_serving(
        net_correction=config.ptpport != 0, signd=config.ntpsigndsocket is not None, limit=config.ratelimit
    )


def _logs(parts: Parts, config: Config) -> None:
    files, clockwork = parts.files, parts.clockwork
    files.reconfigure(config)
    files.attach(parts.upstream.sources.hooks)
    clockwork.reference.set_outlets(replace(clockwork.reference.outlets, tracking_log=files.tracking))


def _mail(parts: Parts, config: Config) -> None:
    parts.mailing.reconfigure(config)
    reference = parts.clockwork.reference
    reference.set_outlets(replace(reference.outlets, mail=parts.mailing.tell))


def _clock(parts: Parts, config: Config) -> None:
    parts.clockwork.clock.set_limits(
        max_slew_rate_ppm=config.maxslewrate_ppm,
        max_drift_ppm=config.maxdrift_ppm,
        max_clock_error_ppm=config.maxclockerror_ppm,
    )


def _temperature(parts: Parts, config: Config) -> None:
    try:
        parts.clockwork.compensate(config, parts.files.writer(LogKind.TEMPCOMP))
    except ConfigError as error:
        # the file of points has changed since it was checked
        parts.log(Severity.ERROR, str(error))


def _leap_seconds(parts: Parts, config: Config) -> None:
    leap_db = LeapDb.open(leapseclist=config.leapseclist, leapsectz=config.leapsectz, log=parts.log)
    parts.clockwork.reference.set_leap_db(leap_db)


def _drift(parts: Parts, config: Config) -> None:
    parts.clockwork.reference.set_drift_store(DriftFile(config.driftfile.path) if config.driftfile else None)


def _discipline(parts: Parts, config: Config) -> None:
    restarted = parts.setup.run.restarted
    parts.clockwork.reference.reconfigure(ReferenceOptions.from_config(config, restarted=restarted))


def _manual(parts: Parts, config: Config) -> None:
    parts.manual.enabled = config.manual


def _selection(parts: Parts, config: Config) -> None:
    parts.upstream.sources.reconfigure(config)


def _nts_client(parts: Parts, config: Config) -> None:
    parts.nts.follow(config)


def _sources(parts: Parts, config: Config) -> None:
    parts.upstream.reconfigure(config)


def _signing(parts: Parts, config: Config) -> None:
    parts.upstream.signer.follow(config.ntpsigndsocket)


def _dumps(parts: Parts, config: Config) -> None:
    parts.dumping.reconfigure(config.dumpdir)


def _broadcasts(parts: Parts, config: Config) -> None:
    parts.broadcaster.reconfigure(config.broadcasts)


def _nts_server(parts: Parts, config: Config) -> None:
    if parts.server_keys is not None:
        parts.server_keys.follow(config)


STEPS = (
    # first whoever is told of what the others do
    _step("logs logdir logbanner", _logs),
    _step("mailonchange", _mail),
    _step("access", _access),
    _step("cmd_access", _command_access),
    _step("cmdratelimit", _command_limit),
    _step("opencommands", _open_commands),
    _step("ratelimit ntpsigndsocket", _answering),
    _step("maxslewrate_ppm maxdrift_ppm maxclockerror_ppm", _clock),
    _step("tempcomp logs logdir logbanner", _temperature),
    _step("leapseclist leapsectz", _leap_seconds),
    _step("driftfile", _drift),
    _step(
        "corrtimeratio driftfile fallbackdrift leapsecmode local logchange_s mailonchange makestep maxchange"
        " maxupdateskew_ppm",
        _discipline,
    ),
    _step("manual", _manual),
    _step(
        "authselectmode combinelimit maxdistance_s maxjitter_s maxstratum minstratum minsources reselectdist_s"
        " stratumweight_s local maxclockerror_ppm minsamples maxsamples",
        _selection,
    ),
    _step(
        "ntsaeads ntsrefresh_s ntsdumpdir ntstrustedcerts nosystemcert nocerttimecheck bindacqaddress_ipv4"
        " bindacqaddress_ipv6 bindacqdevice sources",
        _nts_client,
    ),
    # sources find everything that rules them in place
    _step(
        "sources sourcedirs refresh_s acquisitionport bindacqaddress_ipv4 bindacqaddress_ipv6 bindacqdevice dscp port",
        _sources,
    ),
    _step("ntpsigndsocket", _signing),
    _step("dumpdir", _dumps),
    _step("broadcasts", _broadcasts),
    # keys, and in a single process the exchange; processes that exchange keys are the supervisor's
    Step(KEY_EXCHANGE | {"ntsdumpdir", "ntsrotate_s", "ntssharedkey"}, _nts_server),
)
"""Everything that control changes while it runs, in this order. Keys are read by every reload (`reloading`)."""

BY_EVERY_RELOAD = frozenset({"keyfile"})
"""What is taken up even if no line has changed: the file may have. So are certificates."""

BY_THE_SUPERVISOR = frozenset({"workers", "bindaddress_ipv4", "bindaddress_ipv6", "port", "dscp"})
"""Sockets and processes (`renewal`; with a single process `reloading`)."""


def reconfigure(parts: Parts, old: Config, new: Config) -> None:
    """Let every part follow from `old` to `new`, which `parts.setup` has adopted."""
    changed = compare(old, new).fields
    for step in STEPS:
        if step.fields & changed:
            step.apply(parts, new)
    parts.journal.forget(changed)
    if parts.server_keys is not None and not changed & KEY_EXCHANGE:
        parts.server_keys.reload_certificates()
    if new.keyfile is not None or old.keyfile is not None:
        parts.keys.replace(new.keyfile, parts.setup.keys)
        try:
            parts.plane.publish_keys(parts.keys.rows())
        except KeyTableFull as error:
            parts.log(Severity.ERROR, f"Could not use {new.keyfile} : {error}")


def describe(needs_restart: tuple[str, ...]) -> str:
    """One line about what a reload could not change; empty when there is nothing."""
    if not needs_restart:
        return ""
    return f"Changed directives that need a restart : {', '.join(needs_restart)}"


def tell_outcome(log: Log, needs_restart: tuple[str, ...]) -> None:
    """The end of a reload in the log."""
    log(Severity.INFO, "Reloaded the configuration")
    if text := describe(needs_restart):
        log(Severity.WARNING, text)
