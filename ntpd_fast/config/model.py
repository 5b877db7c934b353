"""The frozen model of a whole configuration: what every other part of the daemon reads.

Rules it keeps:
- values are effective: what the parser accepts but the daemon limits (`minpoll -32`) is limited here,
  so nobody else clamps; an option that was not given is its documented default, never "unset" unless
  the field says what None means;
- no value is a NaN; a float may be infinite only where its field says so;
- field names are the directives' names, with the unit appended where it could be mistaken;
- positions (`where`) never take part in comparisons: two equal configurations are equal wherever their
  lines stand.

Ranges and defaults: chrony.conf(5); a variable that holds a `Config` is called `config` or `..._config`
(the test that finds accepted-and-ignored directives looks for it).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from ipaddress import IPv4Address, IPv6Address

from ntpd_fast._record import dataclass, field, replace

IPAddress = IPv4Address | IPv6Address

POLL_MIN = -7
POLL_MAX = 24
SAMPLES_MAX = 64
MAXSOURCES_MAX = 16
BIND_ADDRESSES_MAX = 16
"""Addresses of each family that a server can be bound to: each takes sockets and half a megabyte a worker."""
MAXUNREACH_DEFAULT = 100_000
INTERVAL_MAX_S = 2.0**24


@dataclass(frozen=True, slots=True)
class Where:
    """A line of a file, or the ordinal of a directive on the command line (`file` is None then)."""

    file: str | None
    line: int

    def __str__(self) -> str:
        if self.file is None:
            return f"at line {self.line}"
        return f"at line {self.line} in file {self.file}"


class SourceKind(StrEnum):
    SERVER = "server"
    POOL = "pool"
    PEER = "peer"


class ExtField(Enum):
    """Extension fields that can be asked for with a source's `extfield` option (value: field type)."""

    EXP_MONO_ROOT = 0xF323
    NET_CORRECTION = 0x010A


class AuthSelectMode(StrEnum):
    REQUIRE = "require"
    PREFER = "prefer"
    MIX = "mix"
    IGNORE = "ignore"


class LeapSecMode(StrEnum):
    SYSTEM = "system"
    STEP = "step"
    SLEW = "slew"
    IGNORE = "ignore"


class LogKind(StrEnum):
    """Names of the `log` directive. `RAWMEASUREMENTS` is always accompanied by `MEASUREMENTS`."""

    MEASUREMENTS = "measurements"
    RAWMEASUREMENTS = "rawmeasurements"
    STATISTICS = "statistics"
    TRACKING = "tracking"
    RTC = "rtc"
    REFCLOCKS = "refclocks"
    TEMPCOMP = "tempcomp"
    SELECTION = "selection"


class OpenCommand(StrEnum):
    """Commands that `opencommands` can open to UDP clients."""

    ACTIVITY = "activity"
    AUTHDATA = "authdata"
    CLIENTS = "clients"
    MANUAL = "manual"
    NTPDATA = "ntpdata"
    RTCDATA = "rtcdata"
    SELECTDATA = "selectdata"
    SERVERSTATS = "serverstats"
    SMOOTHING = "smoothing"
    SOURCENAME = "sourcename"
    SOURCES = "sources"
    SOURCESTATS = "sourcestats"
    TRACKING = "tracking"


OPENCOMMANDS_DEFAULT = frozenset(
    {
        OpenCommand.ACTIVITY,
        OpenCommand.MANUAL,
        OpenCommand.RTCDATA,
        OpenCommand.SMOOTHING,
        OpenCommand.SOURCENAME,
        OpenCommand.SOURCES,
        OpenCommand.SOURCESTATS,
        OpenCommand.TRACKING,
    }
)


class RxFilter(StrEnum):
    """Receive filter demanded of a network interface."""

    ALL = "all"
    NTP = "ntp"
    PTP = "ptp"
    NONE = "none"


def _limit(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Options of server, pool and peer lines, of `*.sources` files and of the `add` command.

    Whoever fills one from elsewhere than the configuration (the command protocol) calls `clamped()`.
    """

    minpoll: int = 6
    """Shortest polling interval, log2 s, -7..24."""
    maxpoll: int = 10
    """Longest polling interval, log2 s, minpoll..24."""
    iburst: bool = False
    burst: bool = False
    key: int | None = None
    """Symmetric key ID, 1..2^32-1; None: not authenticated with a key. `nts` beats it."""
    nts: bool = False
    ntsport: int = 4460
    """TCP port of the NTS-KE server, 0..65535."""
    certset: int = 0
    """Set of trusted certificates, 0..2^32-1."""
    maxdelay_s: float = 3.0
    """Largest accepted round-trip delay, 0..1000 s."""
    maxdelayratio: float = 0.0
    """Largest accepted delay as a multiple of the minimum delay, 0..1e6; 0: off."""
    maxdelaydevratio: float = 10.0
    """Largest accepted (delay - minimum delay) / standard deviation, 0..1e6."""
    maxdelayquant: float = 0.0
    """Quantile of the delay that replaces `maxdelaydevratio`, 0.05..0.95; 0: off."""
    mindelay_s: float = 0.0
    """Fixed minimum delay in seconds; 0: estimated. May be infinite."""
    asymmetry: float | None = None
    """Fixed asymmetry of the jitter, -0.5..0.5; None: estimated."""
    offset_s: float = 0.0
    """Correction added to measured offsets, seconds. Finite."""
    minsamples: int | None = None
    """Smallest number of samples kept; None: the directive of this name. See `sample_limits`."""
    maxsamples: int | None = None
    """Largest number of samples kept; None: the directive of this name. See `sample_limits`."""
    maxunreach: int = MAXUNREACH_DEFAULT
    """Largest number of polls without answer before the source is no longer selectable, >= 0."""
    filter_length: int = 0
    """Number of polls combined by the median filter into one sample, >= 0; 0: no filter."""
    offline: bool = False
    auto_offline: bool = False
    prefer: bool = False
    noselect: bool = False
    trust: bool = False
    require: bool = False
    xleave: bool = False
    polltarget: int = 8
    """Number of samples the polling interval is adapted to, >= 1."""
    port: int = 123
    """UDP port of the server, 0..65535."""
    presend: int = 100
    """Polling interval (log2 s) from which an extra packet is sent 2 s ahead; 100: never."""
    minstratum: int = 0
    """Least stratum the source is counted with, 0..15."""
    version: int | None = None
    """NTP version of requests, 1..4; None: chosen by what is used (4, or 3 for long MACs)."""
    copy: bool = False
    extfields: frozenset[ExtField] = frozenset()
    family: int | None = None
    """4 or 6: only addresses of this family; None: any."""
    maxsources: int = 4
    """Number of servers wanted from a pool, 1..16."""

    def clamped(self) -> SourceOptions:
        """The same options with every value inside the range its field documents."""
        minpoll = min(self.minpoll, POLL_MAX) if self.minpoll >= POLL_MIN else 6
        maxpoll = min(self.maxpoll, POLL_MAX) if self.maxpoll >= POLL_MIN else 10
        asymmetry = self.asymmetry
        if asymmetry is not None and not -0.5 <= asymmetry <= 0.5:
            asymmetry = None
        return replace(
            self,
            minpoll=minpoll,
            maxpoll=max(minpoll, maxpoll),
            maxdelay_s=_limit(self.maxdelay_s, 0.0, 1000.0),
            maxdelayratio=_limit(self.maxdelayratio, 0.0, 1e6),
            maxdelaydevratio=_limit(self.maxdelaydevratio, 0.0, 1e6),
            maxdelayquant=_limit(self.maxdelayquant, 0.05, 0.95) if self.maxdelayquant > 0.0 else 0.0,
            mindelay_s=max(self.mindelay_s, 0.0),
            asymmetry=asymmetry,
            minstratum=min(self.minstratum, 15),
            maxsources=min(self.maxsources, MAXSOURCES_MAX),
        )


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One server, pool or peer line. `name` is an IP literal or a host name, not yet resolved."""

    kind: SourceKind
    name: str
    options: SourceOptions = SourceOptions()
    where: Where = field(default=Where(None, 0), compare=False)


@dataclass(frozen=True, slots=True)
class RefclockConfig:
    """One refclock line. The driver and its options are checked by `start.check_start`."""

    driver: str
    parameter: str
    driver_options: tuple[str, ...] = ()
    """Options after the parameter's colons, as written (`perm=0640`)."""
    poll: int = 4
    """Interval of the filtered samples, log2 s, -32..32."""
    dpoll: int = 0
    """Interval of driver polls, log2 s, -32..32; a polling driver uses at most `poll`."""
    refid: bytes | None = None
    """Four bytes, zero padded; None: `default_refid`."""
    lock_refid: bytes | None = None
    """Reference ID (four bytes, zero padded) of the clock that tells the pulses' seconds."""
    rate_hz: int = 1
    """Pulses per second, >= 1."""
    maxlockage: int = 2
    """Largest age of the locked sample, pulses, >= 0."""
    width_s: float = 0.0
    """Pulse width used to reject the wrong edge, seconds; 0: off."""
    pps: bool = False
    offset_s: float = 0.0
    """Correction added to samples, seconds. Finite."""
    delay_s: float = 1e-9
    """NTP delay of the clock, seconds."""
    stratum: int = 0
    """0..15."""
    precision_s: float = 0.0
    """Precision of a sample, seconds; the clock's own precision where that is larger."""
    maxdispersion_s: float = 0.0
    """Largest dispersion of a filtered sample, seconds; 0: off. May be infinite."""
    filter_length: int = 64
    """Samples kept between two polls, 0..256."""
    prefer: bool = False
    noselect: bool = False
    trust: bool = False
    require: bool = False
    tai: bool = False
    local: bool = False
    minsamples: int | None = None
    """As in `SourceOptions`."""
    maxsamples: int | None = None
    """As in `SourceOptions`."""
    maxunreach: int = MAXUNREACH_DEFAULT
    where: Where = field(default=Where(None, 0), compare=False)

    def default_refid(self, index: int) -> bytes:
        """Reference ID of the `index`-th refclock line (from 0) when none is configured."""
        prefix = self.driver.encode("ascii", "replace")[:3]
        if index < 10:
            return (prefix + b"%d" % index).ljust(4, b"\0")
        return (prefix[:2] + b"%02d" % (index % 100)).ljust(4, b"\0")


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """The `local` directive: serving time without a source."""

    stratum: int = 10
    """1..15."""
    orphan: bool = False
    distance_s: float = 1.0
    """Root distance above which the local reference becomes active, seconds. May be infinite."""
    activate_s: float = 0.0
    """Root distance that must once have been reached before; 0: no condition."""
    waitsynced_s: float = 0.0
    """Least time since the last update while synchronised, seconds."""
    waitunsynced_s: float = 0.0
    """Least time unsynchronised, seconds (300 with `orphan` unless given)."""


@dataclass(frozen=True, slots=True)
class KernelClockOptions:
    """The `kernelclock` directive: serving the system clock as others keep it. Ours."""

    stratum: int = 10
    """What is served while the kernel says that the clock is synchronised, 1..15."""
    refid: bytes = b"KERN"
    """Four bytes, zero padded."""


@dataclass(frozen=True, slots=True)
class RatelimitOptions:
    """One of ratelimit, ntsratelimit and cmdratelimit; their defaults differ in `interval`."""

    interval: int
    """Average interval between answers, log2 s, -19..12."""
    burst: int = 8
    """Answers in a row before the limit applies, 1..255."""
    leak: int = 2
    """One of 2^leak requests over the limit is let through, 1..4."""
    kod: int = 0
    """One of 2^kod dropped requests gets a RATE kiss, 0..4; 0: none. NTP only."""


@dataclass(frozen=True, slots=True)
class HwTimestampOptions:
    """One hwtimestamp line."""

    interface: str
    """Name of an interface, or a pattern of names (`*?[`): `*` alone means all that support it."""
    minpoll: int = 0
    """Shortest interval between readings of the hardware clock, log2 s, -6..20."""
    maxpoll: int = 1
    """Longest interval, log2 s, minpoll..20 (default minpoll + 1)."""
    minsamples: int = 2
    """2..64."""
    maxsamples: int = 16
    """2..64."""
    precision_s: float = 100e-9
    txcomp_s: float = 0.0
    """Correction of transmit timestamps, seconds. Finite."""
    rxcomp_s: float = 0.0
    """Correction of receive timestamps, seconds. Finite."""
    nocrossts: bool = False
    rxfilter: RxFilter | None = None
    """None: the best the interface has (all or ntp), else none."""
    where: Where = field(default=Where(None, 0), compare=False)

    @property
    def is_pattern(self) -> bool:
        return any(char in self.interface for char in "*?[")


@dataclass(frozen=True, slots=True)
class AccessRule:
    """One allow, deny, cmdallow or cmddeny line. Their order matters."""

    allow: bool
    all: bool
    """The rule also deletes what earlier rules said below its subnet."""
    address: IPAddress | None
    """Base address; None: every address of both families."""
    prefix_len: int
    """Bits of the subnet, >= 0; one that is longer than the address is found by `check_start`."""
    where: Where = field(default=Where(None, 0), compare=False)


@dataclass(frozen=True, slots=True)
class BroadcastConfig:
    """One broadcast line."""

    interval_s: int
    """1..2^24 s."""
    address: IPAddress
    port: int = 123
    """0..65535."""


@dataclass(frozen=True, slots=True)
class DriftFile:
    path: str
    interval_s: float = 3600.0
    """Least accumulated update interval between two writes, seconds, >= 0. May be infinite."""


@dataclass(frozen=True, slots=True)
class FallbackDrift:
    """Long-term frequency averages used after 2^n s without updates; `max_log2_s` >= `min_log2_s` > 0."""

    min_log2_s: int
    max_log2_s: int


@dataclass(frozen=True, slots=True)
class MakeStep:
    """Step when the offset exceeds `threshold_s` within the first `limit` updates (negative: always)."""

    threshold_s: float = 0.0
    limit: int = 0


@dataclass(frozen=True, slots=True)
class MaxChange:
    """After `start` updates, ignore `ignore` offsets above `offset_s`, then exit (negative: never exit)."""

    offset_s: float
    start: int
    ignore: int


@dataclass(frozen=True, slots=True)
class InitStepServer:
    name: str
    address: IPAddress


@dataclass(frozen=True, slots=True)
class InitStepSlew:
    """Correct once from these servers before normal operation; step from `threshold_s` on."""

    threshold_s: float
    servers: tuple[InitStepServer, ...]


@dataclass(frozen=True, slots=True)
class SmoothTime:
    """Smoothing of served time; both limits are > 0 (otherwise `Config.smoothtime` is None)."""

    max_freq_ppm: float
    max_wander_ppm_s: float
    leap_only: bool = False


@dataclass(frozen=True, slots=True)
class TempComp:
    """Temperature compensation, ppm: k0 + (T - T0) k1 + (T - T0)^2 k2, or interpolated points."""

    file: str
    """Where the temperature is read."""
    interval_s: float
    """Interval between readings, 0 < interval <= 2^24 s."""
    points_file: str | None = None
    """File of `TEMPERATURE PPM` lines (`tempcomp.read_points`); None: the four coefficients."""
    t0: float = 0.0
    k0_ppm: float = 0.0
    k1_ppm: float = 0.0
    k2_ppm: float = 0.0


@dataclass(frozen=True, slots=True)
class MailOnChange:
    address: str
    threshold_s: float
    """May be infinite."""


@dataclass(frozen=True, slots=True)
class TrustedCerts:
    """A PEM file, or a directory of them, added to a certificate set."""

    path: str
    set_id: int = 0
    """0..2^32-1."""


@dataclass(frozen=True, slots=True)
class ConfigLine:
    """A line that took effect: what `-p` prints, and where a directive was used."""

    directive: str
    """Name in the table (an alias is replaced by the name it stands for)."""
    text: str
    """The words as typed, separated by single spaces."""
    where: Where


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration. Directives that were not given have their documented defaults."""

    # Time sources
    sources: tuple[SourceConfig, ...] = ()
    """server, pool and peer lines in order (not those of `sourcedirs`)."""
    sourcedirs: tuple[tuple[str, ...], ...] = ()
    """Directories of `*.sources` files, one entry a directive."""
    refclocks: tuple[RefclockConfig, ...] = ()
    initstepslew: InitStepSlew | None = None
    manual: bool = False
    acquisitionport: int | None = None
    """None: a new socket and port for each request; 0: one random port; else that port."""
    bindacqaddress_ipv4: IPv4Address | None = None
    bindacqaddress_ipv6: IPv6Address | None = None
    bindacqdevice: str | None = None
    dscp: int = 0
    """0..63."""
    dumpdir: str | None = None
    maxsamples: int = 0
    """Default sample limit of a source, >= 0; 0: 64. See `sample_limits`."""
    minsamples: int = 6
    """>= 0. See `sample_limits`."""
    refresh_s: int = 1_209_600
    """Interval of resolving names of working sources again, s; 0: never."""

    # NTS client
    ntsrefresh_s: int = 2_419_200
    """Greatest age of keys from NTS-KE, s."""
    ntsaeads: tuple[int, ...] = (30, 15)
    """IDs in order of preference, also for the server; unknown ones are not used."""
    ntsdumpdir: str | None = None
    ntstrustedcerts: tuple[TrustedCerts, ...] = ()
    nosystemcert: bool = False
    nocerttimecheck: int = 0
    """Clock updates before the validity times of certificates are checked."""

    # Selection
    authselectmode: AuthSelectMode = AuthSelectMode.MIX
    combinelimit: float = 3.0
    """Sources are combined below this multiple of the selected one's distance; 0: none. May be infinite."""
    maxdistance_s: float = 3.0
    """May be infinite."""
    maxjitter_s: float = 1.0
    """May be infinite."""
    maxstratum: int = 15
    minstratum: int = 0
    minsources: int = 1
    reselectdist_s: float = 1e-4
    stratumweight_s: float = 1e-3

    # System clock
    clockprecision_s: float | None = None
    """1e-9..1 s; None: measured at start."""
    corrtimeratio: float = 3.0
    driftfile: DriftFile | None = None
    fallbackdrift: FallbackDrift | None = None
    leapsecmode: LeapSecMode = LeapSecMode.SYSTEM
    leapsectz: str | None = None
    leapseclist: str | None = None
    """Wins over `leapsectz`."""
    makestep: MakeStep = MakeStep()
    maxchange: MaxChange | None = None
    maxclockerror_ppm: float = 1.0
    maxdrift_ppm: float = 100_000.0
    """0..100000."""
    maxupdateskew_ppm: float = 1000.0
    """>= 0. May be infinite."""
    maxslewrate_ppm: float = 250_000.0 / 3.0
    """>= 0; 83333.333 is also the most the driver can do. May be infinite."""
    tempcomp: TempComp | None = None

    # Serving NTP
    access: tuple[AccessRule, ...] = ()
    """allow and deny lines in order; nothing matches: denied."""
    bindaddress_ipv4: tuple[IPv4Address, ...] = ()
    """Each once, in the order of the lines; none: every address."""
    bindaddress_ipv6: tuple[IPv6Address, ...] = ()
    binddevice: str | None = None
    broadcasts: tuple[BroadcastConfig, ...] = ()
    clientloglimit_bytes: int = 524_288
    noclientlog: bool = False
    local: LocalOptions | None = None
    ntpsigndsocket: str | None = None
    port: int = 123
    """0: no server socket."""
    ratelimit: RatelimitOptions | None = None
    smoothtime: SmoothTime | None = None
    ptpport: int = 0
    """0: no NTP over PTP."""
    ptpdomain: int = 123

    # NTS server
    ntsport: int = 4460
    """TCP."""
    ntsservercerts: tuple[str, ...] = ()
    ntsserverkeys: tuple[str, ...] = ()
    """In the order of `ntsservercerts`."""
    ntsprocesses: int = 1
    """0..1000; 0: in the main process."""
    maxntsconnections: int = 100
    """Sessions at a time in one process, >= 1."""
    ntsntpserver: str | None = None
    ntsrotate_s: int = 604_800
    """0: keys are managed outside."""
    ntsratelimit: RatelimitOptions | None = None

    # Commands and monitoring
    bindcmdaddress_ipv4: IPv4Address | None = None
    """None: 127.0.0.1."""
    bindcmdaddress_ipv6: IPv6Address | None = None
    """None: ::1."""
    bindcmdaddress_path: str | None = None
    """Path of the Unix socket; None: the program's default; empty: none."""
    bindcmddevice: str | None = None
    cmd_access: tuple[AccessRule, ...] = ()
    """cmdallow and cmddeny lines in order; loopback is always allowed."""
    cmdport: int = 323
    """0: no UDP command sockets."""
    cmdratelimit: RatelimitOptions | None = None
    opencommands: frozenset[OpenCommand] = OPENCOMMANDS_DEFAULT

    # Real-time clock
    hwclockfile: str | None = None
    """None: the program's default."""
    rtcautotrim_s: float = 0.0
    """Estimated error at which the RTC is trimmed, s; <= 0: never. May be infinite."""
    rtcdevice: str = "/dev/rtc"
    rtcfile: str | None = None
    rtconutc: bool = False
    rtcsync: bool = False

    # Logs and the rest
    logs: frozenset[LogKind] = frozenset()
    logbanner: int = 32
    """Entries between two banners; 0: no banner."""
    logchange_s: float = 1.0
    """May be infinite."""
    logdir: str | None = None
    mailonchange: MailOnChange | None = None
    hwtimestamps: tuple[HwTimestampOptions, ...] = ()
    hwtstimeout_s: float = 0.001
    """Wait for a late transmit timestamp, 0..1 s."""
    maxtxbuffers: int = 0
    keyfile: str | None = None
    lock_all: bool = False
    pidfile: str | None = None
    """None: the program's default; empty: none."""
    sched_priority: int = 0
    """0: unchanged; 1..99: SCHED_FIFO."""
    user: str | None = None
    """None: the program's default."""

    # Our own
    clientlogprefix6: int = 128
    """Bits by which the client log tells IPv6 clients apart, 1..128. Ours."""
    workers: int | None = None
    """Worker processes, 0..256; 0: answers come from the control process; None: chosen at start."""
    cmdgroup: str | None = None
    """Group that gets a Unix socket for reports; None: no such socket."""
    kernelclock: KernelClockOptions | None = None
    """The clock is kept by others, and served as the kernel says it is. None: it is kept by us, or by nobody."""
    ntssharedkey: str | None = None
    """File with the secret that servers behind one name derive their cookie keys from; None: keys of our own."""

    lines: tuple[ConfigLine, ...] = field(default=(), compare=False, repr=False)
    """Every line that took effect, in order."""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What the reader wants to be told, for the log; parsing itself prints nothing."""
    first_uses: Mapping[str, Where] = field(default_factory=dict, compare=False, repr=False)
    """Position of the first line of every directive that was used."""

    def uses(self, directive: str) -> bool:
        """Whether a line of this directive was given (its value may still be the default)."""
        return directive in self.first_uses

    def sample_limits(self, source: SourceOptions | RefclockConfig) -> tuple[int, int]:
        """(minsamples, maxsamples) of a source: its own or the directives', 1 <= min <= max <= 64."""
        largest = self.maxsamples if source.maxsamples is None else source.maxsamples
        smallest = self.minsamples if source.minsamples is None else source.minsamples
        largest = min(largest, SAMPLES_MAX) if largest > 0 else SAMPLES_MAX
        return min(max(smallest, 1), largest), largest
