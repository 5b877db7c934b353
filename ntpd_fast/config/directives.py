"""The table of directives: one row for each name the language knows.

A row says how the arguments are read, which fields of `Config` they set, how a change reaches a running
daemon, and what the directive is for (the manual page is made from it, the kind's `syntax` and `options_of`).
A new directive of our own is a row in `_OWN`, a field of `Config` and a name in `support`; `ours` is what
keeps it out of files checked for chrony.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from ntpd_fast._record import dataclass
from ntpd_fast.config.access import Access
from ntpd_fast.config.kinds import (
    AddedAddress,
    AddedWord,
    AddedWords,
    Address,
    ConfDir,
    Flag,
    Include,
    Int,
    Ints,
    Kind,
    Logs,
    Mode,
    Names,
    Obsolete,
    Real,
    SetAndPath,
    UnsignedPrefix,
    Word,
)
from ntpd_fast.config.model import (
    BIND_ADDRESSES_MAX,
    AuthSelectMode,
    LeapSecMode,
    OpenCommand,
    SourceKind,
    TrustedCerts,
)
from ntpd_fast.config.optioned import DriftFileKind, HwTimestamp, KernelClockKind, Local, Ratelimit, Refclock
from ntpd_fast.config.options import OTHER_RATELIMIT_OPTIONS, RATELIMIT_OPTIONS, OptionTable
from ntpd_fast.config.positional import (
    BroadcastKind,
    FallbackDriftKind,
    InitStepSlewKind,
    MailOnChangeKind,
    MakeStepKind,
    MaxChangeKind,
    SmoothTimeKind,
    TempCompKind,
)
from ntpd_fast.config.sources import Source


class Reload(Enum):
    """How a changed directive reaches a running daemon, the lightest way first."""

    IN_PLACE = 1
    """The running processes take the new value."""
    HANDOVER = 2
    """Processes that serve are added, end or hand over to new ones."""
    RESTART = 3
    """Only a new start of the daemon."""


IN_PLACE, HANDOVER, RESTART = Reload


@dataclass(frozen=True, slots=True)
class Directive:
    """One row. `since` is the first chrony with it (`1.x`: 1.20 or older, `dev`: after 4.8)."""

    name: str
    kind: Kind
    fields: tuple[str, ...]
    reload: Reload
    since: str
    description: str
    ours: bool = False
    printed: bool = True
    """Whether -p shows the line (it shows the included lines instead of include)."""
    alias_of: str | None = None


def _row(name: str, kind: Kind, fields: str, reload: Reload, since: str, description: str) -> Directive:
    return Directive(name, kind, tuple(fields.split()), reload, since, description)


def _nothing(name: str, kind: Kind, since: str, description: str, *, printed: bool = True) -> Directive:
    """A row that sets no field."""
    return Directive(name, kind, (), IN_PLACE, since, description, printed=printed)


_PORT = Int(0, 65535, "PORT")
_NATURAL = Int(0)
_SECONDS = Int(0, syntax="SECONDS")


def _measured_if_not_positive(precision_s: float) -> float | None:
    return min(max(precision_s, 1e-9), 1.0) if precision_s > 0.0 else None


_SOURCES = (
    _row("server", Source(SourceKind.SERVER), "sources", IN_PLACE, "1.x",
         "Ask this NTP server for the time."),
    _row("pool", Source(SourceKind.POOL), "sources", IN_PLACE, "2.0",
         "Ask several of the servers behind this name for the time."),
    _row("peer", Source(SourceKind.PEER), "sources", IN_PLACE, "1.x",
         "Exchange the time with this server in symmetric mode, each following the other."),
    _row("initstepslew", InitStepSlewKind(), "initstepslew", RESTART, "1.x",
         "Before anything else, correct the clock once from these servers (makestep is the better way)."),
    _row("refclock", Refclock(), "refclocks", RESTART, "1.24",
         "Use a clock attached to this machine as a source."),
    _row("manual", Flag(), "manual", IN_PLACE, "1.x",
         "Let the settime command give the time by hand."),
    _row("acquisitionport", _PORT, "acquisitionport", IN_PLACE, "1.x",
         "Send requests to servers from this port instead of a new one for each request."),
    _row("bindacqaddress", Address(), "bindacqaddress_ipv4 bindacqaddress_ipv6", IN_PLACE, "1.30",
         "Send requests to servers from this address of the machine."),
    _row("bindacqdevice", Word("INTERFACE"), "bindacqdevice", IN_PLACE, "4.0",
         "Send requests to servers only through this network interface."),
    _row("dscp", Int(0, 63), "dscp", IN_PLACE, "4.0",
         "Mark outgoing NTP packets with this Differentiated Services code point."),
    _row("dumpdir", Word("DIRECTORY"), "dumpdir", IN_PLACE, "1.x",
         "Keep the measurements of all sources here over a restart."),
    _row("maxsamples", _NATURAL, "maxsamples", IN_PLACE, "1.28",
         "Measurements kept of a source at most, where its line does not say."),
    _row("minsamples", _NATURAL, "minsamples", IN_PLACE, "1.28",
         "Measurements kept of a source at least, where its line does not say."),
    _row("refresh", _SECONDS, "refresh_s", IN_PLACE, "4.4",
         "Look up the names of working sources again after this time."),
    _row("sourcedir", AddedWords("[DIRECTORY]..."), "sourcedirs", IN_PLACE, "4.0",
         "Read more sources from the *.sources files of these directories, now and when told to."),
)

_NTS_CLIENT = (
    _row("ntsrefresh", _SECONDS, "ntsrefresh_s", IN_PLACE, "4.0",
         "Establish new NTS keys with a server after this time."),
    _row("ntsaeads", Ints(), "ntsaeads", HANDOVER, "4.6.1",
         "Encryption algorithms for NTS by their registered numbers, the preferred one first."),
    _row("ntsdumpdir", Word("DIRECTORY"), "ntsdumpdir", IN_PLACE, "4.0",
         "Keep NTS keys and cookies here over a restart."),
    _row("ntstrustedcerts", SetAndPath(TrustedCerts), "ntstrustedcerts", IN_PLACE, "4.0",
         "Trust the certificates of this file or directory when NTS servers are checked."),
    _row("nosystemcert", Flag(), "nosystemcert", IN_PLACE, "4.0",
         "Do not trust the certificate authorities of the system."),
    _row("nocerttimecheck", _NATURAL, "nocerttimecheck", IN_PLACE, "4.0",
         "Ignore the dates of certificates until the clock was corrected this many times."),
)

_SELECTION = (
    _row("authselectmode", Mode(AuthSelectMode), "authselectmode", IN_PLACE, "4.0",
         "How far sources without authentication may take part in the selection."),
    _row("combinelimit", Real("RATIO"), "combinelimit", IN_PLACE, "1.28",
         "Combine the selected source with those up to this many times as far away."),
    _row("maxdistance", Real("SECONDS"), "maxdistance_s", IN_PLACE, "2.2",
         "Do not select sources with a larger root distance."),
    _row("maxjitter", Real("SECONDS"), "maxjitter_s", IN_PLACE, "3.0",
         "Do not select sources whose offsets scatter more."),
    _row("maxstratum", _NATURAL, "maxstratum", IN_PLACE, "dev",
         "Do not select sources with a higher stratum."),
    _row("minstratum", _NATURAL, "minstratum", IN_PLACE, "dev",
         "Do not select sources with a lower stratum."),
    _row("minsources", Int(1), "minsources", IN_PLACE, "2.0",
         "Correct the clock only while this many sources can be selected."),
    _row("reselectdist", Real("SECONDS"), "reselectdist_s", IN_PLACE, "1.25",
         "Leave the selected source only for one that is nearer by this much."),
    _row("stratumweight", Real("SECONDS"), "stratumweight_s", IN_PLACE, "1.25",
         "Distance that each stratum counts for when sources are compared."),
)

_CLOCK = (
    _row("clockprecision", Real("SECONDS", convert=_measured_if_not_positive), "clockprecision_s", RESTART,
         "4.0", "Precision of the system clock, instead of measuring it."),
    _row("corrtimeratio", Real("RATIO", 0.0), "corrtimeratio", IN_PLACE, "1.27",
         "How many update intervals a correction of the clock may take."),
    _row("driftfile", DriftFileKind(), "driftfile", IN_PLACE, "1.x",
         "Remember the frequency error of the clock in this file."),
    _row("fallbackdrift", FallbackDriftKind(), "fallbackdrift", IN_PLACE, "1.25",
         "Return to averages of the frequency after this long without a source, as powers of two seconds."),
    _row("leapsecmode", Mode(LeapSecMode), "leapsecmode", IN_PLACE, "2.0",
         "How the clock is corrected for a leap second."),
    _row("leapsectz", Word("TIMEZONE"), "leapsectz", IN_PLACE, "1.27",
         "Learn of leap seconds from this time zone of the system."),
    _row("leapseclist", Word("FILE"), "leapseclist", IN_PLACE, "4.6",
         "Learn of leap seconds from this list."),
    _row("makestep", MakeStepKind(), "makestep", IN_PLACE, "1.24",
         "Step the clock instead of slewing it, for large offsets among the first updates."),
    _row("maxchange", MaxChangeKind(), "maxchange", IN_PLACE, "1.27",
         "Refuse larger offsets after the first updates, and exit when they stay."),
    _row("maxclockerror", Real("PPM", 0.0), "maxclockerror_ppm", IN_PLACE, "1.25",
         "How fast the clock may drift while nobody looks."),
    _row("maxdrift", Real("PPM", 0.0, 100_000.0), "maxdrift_ppm", IN_PLACE, "2.4",
         "Largest frequency error that is believed of the clock."),
    _row("maxupdateskew", Real("PPM", convert=abs), "maxupdateskew_ppm", IN_PLACE, "1.x",
         "Do not use estimates of the frequency that are less certain than this."),
    _row("maxslewrate", Real("PPM", 0.0), "maxslewrate_ppm", IN_PLACE, "1.30",
         "How fast the clock may be slewed."),
    _row("tempcomp", TempCompKind(), "tempcomp", IN_PLACE, "1.25",
         "Correct the frequency by the temperature that this file holds."),
)

_SERVER = (
    _row("allow", Access(True), "access", IN_PLACE, "1.x",
         "Answer NTP requests from this address or subnet, or from everywhere."),
    _row("deny", Access(False), "access", IN_PLACE, "1.x",
         "Do not answer NTP requests from this address or subnet, or from anywhere."),
    _row("bindaddress", AddedAddress(BIND_ADDRESSES_MAX), "bindaddress_ipv4 bindaddress_ipv6", IN_PLACE, "1.x",
         "Answer NTP requests on this address of the machine, and only on such."),
    _row("binddevice", Word("INTERFACE"), "binddevice", RESTART, "4.0",
         "Answer NTP requests only through this network interface."),
    _row("broadcast", BroadcastKind(), "broadcasts", IN_PLACE, "1.x",
         "Send the time to this broadcast or multicast address at this interval in seconds."),
    _row("clientloglimit", UnsignedPrefix(), "clientloglimit_bytes", RESTART, "1.23.1",
         "Memory that the records of clients may take."),
    _row("noclientlog", Flag(), "noclientlog", RESTART, "1.x",
         "Keep no records of clients."),
    _row("local", Local(), "local", IN_PLACE, "1.x",
         "Serve the time of this machine when there is no source."),
    _row("ntpsigndsocket", Word("DIRECTORY"), "ntpsigndsocket", IN_PLACE, "3.0",
         "Have Samba sign the answers to its clients through the socket in this directory."),
    _row("port", _PORT, "port", IN_PLACE, "1.x",
         "Port on which NTP requests are answered, or 0 for none."),
    _row("ratelimit", Ratelimit(3, RATELIMIT_OPTIONS), "ratelimit", IN_PLACE, "2.3",
         "Limit how often NTP requests from one address are answered."),
    _row("smoothtime", SmoothTimeKind(), "smoothtime", RESTART, "2.0",
         "Serve a time whose frequency (in ppm, and in ppm per second) changes slowly."),
    _row("ptpport", _PORT, "ptpport", RESTART, "4.2",
         "Port for NTP inside PTP messages, or 0 for none."),
    _row("ptpdomain", Int(0, 255), "ptpdomain", RESTART, "4.6",
         "PTP domain of NTP inside PTP messages."),
)

_NTS_SERVER = (
    _row("ntsport", _PORT, "ntsport", RESTART, "4.0",
         "TCP port on which NTS keys are established."),
    _row("ntsservercert", AddedWord("FILE"), "ntsservercerts", HANDOVER, "4.0",
         "Certificate of the NTS server, with its chain."),
    _row("ntsserverkey", AddedWord("FILE"), "ntsserverkeys", HANDOVER, "4.0",
         "Private key of the certificate that stands in the same place among the certificates."),
    _row("ntsprocesses", Int(0, 1000), "ntsprocesses", RESTART, "4.0",
         "Processes that establish NTS keys, or 0 to do it in the control process."),
    _row("maxntsconnections", Int(1), "maxntsconnections", HANDOVER, "4.0",
         "Clients whose NTS keys each of these processes establishes at the same time."),
    _row("ntsntpserver", Word("NAME"), "ntsntpserver", HANDOVER, "4.0",
         "NTP server to which NTS clients are sent, instead of this machine."),
    _row("ntsrotate", _SECONDS, "ntsrotate_s", IN_PLACE, "4.0",
         "Make new keys for cookies after this time; 0 leaves them to somebody else."),
    _row("ntsratelimit", Ratelimit(6, OTHER_RATELIMIT_OPTIONS), "ntsratelimit", HANDOVER, "4.0",
         "Limit how often one address may establish NTS keys."),
)

_COMMANDS = (
    _row("bindcmdaddress", Address(), "bindcmdaddress_ipv4 bindcmdaddress_ipv6 bindcmdaddress_path", RESTART,
         "1.x", "Take commands on this address, or on the Unix socket of this path (/ for none)."),
    _row("bindcmddevice", Word("INTERFACE"), "bindcmddevice", RESTART, "4.0",
         "Take commands only through this network interface."),
    _row("cmdallow", Access(True), "cmd_access", IN_PLACE, "1.x",
         "Answer monitoring requests from this address or subnet, or from everywhere."),
    _row("cmddeny", Access(False), "cmd_access", IN_PLACE, "1.x",
         "Do not answer monitoring requests from this address or subnet, or from anywhere."),
    _row("cmdport", _PORT, "cmdport", RESTART, "1.x",
         "UDP port on which monitoring requests are answered, or 0 for none."),
    _row("cmdratelimit", Ratelimit(-4, OTHER_RATELIMIT_OPTIONS), "cmdratelimit", IN_PLACE, "2.3",
         "Limit how often monitoring requests from one address are answered."),
    _row("opencommands", Names(OpenCommand), "opencommands", IN_PLACE, "4.7",
         "Reports that may be asked for over UDP, not only over the Unix socket."),
)

_RTC = (
    _row("hwclockfile", Word("FILE"), "hwclockfile", RESTART, "1.30",
         "Learn from this file of hwclock(8) whether the real-time clock keeps UTC."),
    _row("rtcautotrim", Real("SECONDS"), "rtcautotrim_s", RESTART, "1.30",
         "Set the real-time clock when its error is estimated to reach this."),
    _row("rtcdevice", Word("DEVICE"), "rtcdevice", RESTART, "1.x",
         "Device of the real-time clock."),
    _row("rtcfile", Word("FILE"), "rtcfile", RESTART, "1.x",
         "Measure the real-time clock and remember its error in this file."),
    _row("rtconutc", Flag(), "rtconutc", RESTART, "1.x",
         "The real-time clock keeps UTC, not local time."),
    _row("rtcsync", Flag(), "rtcsync", RESTART, "1.25",
         "Let the kernel set the real-time clock every 11 minutes."),
)

_OTHERS = (
    _row("log", Logs(), "logs", IN_PLACE, "1.x",
         "Write these logs."),
    _row("logbanner", _NATURAL, "logbanner", IN_PLACE, "1.25",
         "Repeat the titles of the columns after this many lines of a log; 0 never writes them."),
    _row("logchange", Real("SECONDS"), "logchange_s", IN_PLACE, "1.x",
         "Warn in the system log when the clock is wrong by more than this."),
    _row("logdir", Word("DIRECTORY"), "logdir", IN_PLACE, "1.x",
         "Directory of the logs."),
    _row("mailonchange", MailOnChangeKind(), "mailonchange", IN_PLACE, "1.x",
         "Send a mail when the clock is wrong by more than this many seconds."),
    _row("hwtimestamp", HwTimestamp(), "hwtimestamps", RESTART, "3.0",
         "Let this network interface, or those that match, stamp NTP packets."),
    _row("hwtstimeout", Real("SECONDS", 0.0, 1.0), "hwtstimeout_s", RESTART, "4.4",
         "Wait this long for the interface to tell when a request was sent."),
    _row("maxtxbuffers", Int(0, 1_048_576), "maxtxbuffers", RESTART, "dev",
         "Sent messages that are remembered until the interface tells when they left."),
    _row("keyfile", Word("FILE"), "keyfile", IN_PLACE, "1.x",
         "Read symmetric keys from this file."),
    _row("lock_all", Flag(), "lock_all", RESTART, "1.24",
         "Keep the memory of the daemon from being paged out."),
    _row("pidfile", Word("FILE", off="/"), "pidfile", RESTART, "1.x",
         "Write the process ID to this file (/ for none)."),
    _row("sched_priority", Int(0, 100), "sched_priority", RESTART, "1.24",
         "Run with this real-time priority."),
    _row("user", Word("NAME"), "user", RESTART, "1.28",
         "Run as this user."),
    _nothing("include", Include(), "1.25",
             "Read the files that match as if their lines stood here.", printed=False),
    _nothing("confdir", ConfDir(), "4.0",
             "Read the *.conf files of these directories in the order of their names.", printed=False),
    _nothing("commandkey", Obsolete(), "1.x",
             "Of no use any more: commands are not authenticated with keys."),
    _nothing("generatecommandkey", Obsolete(), "1.27",
             "Of no use any more: commands are not authenticated with keys."),
    _nothing("linux_freq_scale", Obsolete(), "1.x", "Of no use any more: the kernel tells its tick."),
    _nothing("linux_hz", Obsolete(), "1.x", "Of no use any more: the kernel tells its tick."),
    _nothing("dumponexit", Obsolete(told=False), "1.x", "Of no use any more: dumpdir alone says it."),
    Directive("ntscachedir", Word("DIRECTORY"), ("ntsdumpdir",), IN_PLACE, "4.0",
              "Another name of ntsdumpdir.", alias_of="ntsdumpdir"),
)

_OWN = (
    Directive("workers", Int(0, 256), ("workers",), HANDOVER, "0.1",
              "Processes that answer NTP requests, or 0 to answer them in the control process.", ours=True),
    Directive("clientlogprefix6", Int(1, 128), ("clientlogprefix6",), RESTART, "0.1",
              "Remember IPv6 clients by this many leading bits of their address, 128 by the whole of it.", ours=True),
    Directive("cmdgroup", Word("GROUP"), ("cmdgroup",), RESTART, "0.1",
              "Give this group a Unix socket of its own, for reports and no changes.", ours=True),
    Directive("kernelclock", KernelClockKind(), ("kernelclock",), RESTART, "0.1",
              "Serve the system clock as others keep it: synchronised or not, and as good as the kernel says.",
              ours=True),
    Directive("ntssharedkey", Word("FILE"), ("ntssharedkey",), IN_PLACE, "0.1",
              "Derive the keys for NTS cookies from the secret in this file, as all servers behind one name do.",
              ours=True),
)

# Titles are those of the manual page.
GROUPS: tuple[tuple[str, tuple[Directive, ...]], ...] = (
    ("Time sources", _SOURCES),
    ("Network Time Security of the client", _NTS_CLIENT),
    ("Selection of sources", _SELECTION),
    ("System clock", _CLOCK),
    ("Serving time", _SERVER),
    ("Network Time Security of the server", _NTS_SERVER),
    ("Commands and monitoring", _COMMANDS),
    ("Real-time clock", _RTC),
    ("Logs, files and the process", _OTHERS),
    ("Directives that chrony does not have", _OWN),
)
DIRECTIVES: Mapping[str, Directive] = {row.name: row for _, group in GROUPS for row in group}


def options_of(row: Directive) -> OptionTable:
    """The table of the options that may follow on the directive's line; empty where there are none."""
    options: OptionTable = getattr(row.kind, "options", {})
    return options


def canonical(row: Directive) -> str:
    """The name a row goes by in the model: that of the row it is an alias of, or its own."""
    return row.alias_of or row.name
