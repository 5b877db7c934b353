"""A simulated node: the production client engine, reference and local clock on one machine.

The node is configured by the lines of a chrony.conf. It carries out what associations ask for (timers, packets),
as the daemon's own glue does with sockets. No time passes while a node works: every reading within one event is
the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address

from ntpd_fast.client.actions import (
    Action,
    CancelTimer,
    CloseSocket,
    KissRate,
    MeasurementRecord,
    Select,
    SetTimer,
    Timer,
    Transmit,
)
from ntpd_fast.client.association import Association
from ntpd_fast.client.auth import NoAuthentication
from ntpd_fast.client.packet import refid_of
from ntpd_fast.client.selection import SelectionOptions, Selector
from ntpd_fast.client.selectionevents import SelectionEvent
from ntpd_fast.client.source import SelectableSource, SelectOption, SourceKind
from ntpd_fast.client.sourcestats import SourceStats, StatsOptions
from ntpd_fast.client.stamps import Now, Stamp, StampSource
from ntpd_fast.client.surroundings import OwnReference
from ntpd_fast.clock.driftfile import Drift
from ntpd_fast.clock.events import ChangeKind, ClockChange
from ntpd_fast.clock.leapdb import LeapDb
from ntpd_fast.clock.reference import Outlets, Reference, ReferenceMode, ReferenceOptions
from ntpd_fast.clock.served import ServedReference
from ntpd_fast.clock.trackinglog import TrackingRecord
from ntpd_fast.config.loader import parse_lines
from ntpd_fast.config.model import Config, SourceConfig
from ntpd_fast.config.model import SourceKind as ConfiguredKind
from ntpd_fast.system.messages import Severity
from ntpd_fast.system.timers import Random, TimerClass, TimerHandle
from tests.sim.machine import Machine
from tests.sim.network import Datagram, Endpoint, IPAddress, Network
from tests.sim.world import World

NTP_PORT = 123
EPHEMERAL_PORTS = range(32768, 61000)
TIMER_RANDOMNESS = 0.02
RECORDS_MAX = 200_000


class MemoryDriftFile:
    """A drift file that survives the restart of a node."""

    path = "/var/lib/sim/drift"

    def __init__(self) -> None:
        self.drift: Drift | None = None
        self.writes = 0

    def load(self) -> Drift | None:
        """See `DriftStore`."""
        return self.drift

    def save(self, drift: Drift) -> None:
        """See `DriftStore`."""
        self.drift = drift
        self.writes += 1


class _Surroundings:
    """What the associations of a node know of it."""

    one_shot = False
    net_corrections = False
    hold_timeout_s = 0.0
    era_start_s = 0

    def __init__(self, node: Node) -> None:
        self._node = node
        self.random: Random = node.world.random(f"{node.name}/engine")
        self._nonces = node.world.random(f"{node.name}/nonces")

    @property
    def precision_s(self) -> float:
        return self._node.local.precision_s

    @property
    def precision_log2(self) -> int:
        return self._node.local.precision_log2

    @property
    def max_clock_error(self) -> float:
        return self._node.local.max_clock_error

    @property
    def serving(self) -> bool:
        return self._node.serving

    def nonce(self) -> int:
        return self._nonces.getrandbits(64)

    def own_reference(self, cooked_ns: int) -> OwnReference:
        served = self._node.reference.params(cooked_ns)
        return OwnReference(
            served.leap,
            served.stratum,
            served.refid,
            served.ref_time_ns,
            served.root_delay_s,
            served.root_dispersion_s,
        )

    def leap_is_close(self, cooked_ns: int) -> bool:
        return self._node.reference.is_leap_close(cooked_ns)


class Upstream:
    """One association of a node with its timers and its socket."""

    def __init__(self, node: Node, configured: SourceConfig, address: IPAddress) -> None:
        options = configured.options
        self.node = node
        self.remote = Endpoint(address, options.port)
        minimum, maximum = node.config.sample_limits(options)
        flags = SelectOption.NONE
        for wanted, flag in (
            (options.noselect, SelectOption.NOSELECT),
            (options.prefer, SelectOption.PREFER),
            (options.trust, SelectOption.TRUST),
            (options.require, SelectOption.REQUIRE),
        ):
            if wanted:
                flags |= flag
        self.source = SelectableSource(
            SourceKind.NTP,
            SourceStats(
                StatsOptions(minimum, maximum, options.mindelay_s, options.asymmetry), node.local.precision_s
            ),
            refid=refid_of(address),
            address=address,
            name=configured.name,
            options=flags,
            max_unreach=options.maxunreach,
        )
        self.symmetric = configured.kind is ConfiguredKind.PEER
        self.association = Association(
            self.source,
            options,
            node.surroundings,
            NoAuthentication(),
            symmetric=self.symmetric,
            is_selected=lambda: node.selector.selected is self.source,
        )
        self.timers: dict[Timer, TimerHandle] = {}
        self.port: int | None = None
        self.records: list[MeasurementRecord] = []
        self.tx_times_ns: list[int] = []

    def carry_out(self, actions: list[Action]) -> None:
        """Do what the association asks for."""
        for action in actions:
            if isinstance(action, SetTimer):
                self._set_timer(action)
            elif isinstance(action, CancelTimer):
                self._cancel(action.timer)
            elif isinstance(action, Transmit):
                self._transmit(action)
            elif isinstance(action, CloseSocket):
                self.node.close_port(self)
            elif isinstance(action, Select):
                self.node.select(self.source if action.updated else None)
            elif isinstance(action, MeasurementRecord):
                if len(self.records) < RECORDS_MAX:
                    self.records.append(action)
            elif isinstance(action, KissRate):
                self.node.log(Severity.WARNING, f"Received KoD RATE from {self.remote.address}")

    def _set_timer(self, action: SetTimer) -> None:
        self._cancel(action.timer)
        callback = partial(self._timeout, action.timer)
        scheduler = self.node.local.scheduler
        if action.timer is Timer.TRANSMIT:
            timer_class = TimerClass.NTP_PEER if self.symmetric else TimerClass.NTP_CLIENT
            self.timers[action.timer] = scheduler.call_later(
                action.delay_s,
                callback,
                timer_class=timer_class,
                separation_s=action.separation_s,
                randomness=TIMER_RANDOMNESS,
            )
        else:
            self.timers[action.timer] = scheduler.call_later(action.delay_s, callback)

    def _cancel(self, timer: Timer) -> None:
        handle = self.timers.pop(timer, None)
        if handle is not None:
            handle.cancel()

    def _timeout(self, timer: Timer) -> None:
        self.timers.pop(timer, None)
        self.carry_out(self.association.on_timer(timer, self.node.now()))

    def _transmit(self, action: Transmit) -> None:
        now = self.node.now()
        data = action.encode(now.cooked_ns)
        stamp = None
        if data is not None:
            local = Endpoint(self.node.address, self._open_port())
            if self.node.network.send(Datagram(local, self.remote, data)):
                stamp = Stamp(now.cooked_ns, now.err_s, self.node.stamp_source)
                self.tx_times_ns.append(self.node.world.now_ns)
        self.carry_out(self.association.on_sent(now, stamp))

    def _open_port(self) -> int:
        if self.symmetric:
            return NTP_PORT
        self.node.close_port(self)
        return self.node.open_port(self)


class Node:
    """One host."""

    def __init__(
        self,
        network: Network,
        address: str,
        *lines: str,
        name: str | None = None,
        offset_s: float = 0.0,
        frequency: float = 0.0,
        wander: float = 0.0,
        control: bool = True,
        stamp_source: StampSource = StampSource.DAEMON,
        leap_db: LeapDb | None = None,
    ) -> None:
        """`lines` are chrony.conf; server names must be addresses. The clock runs, the daemon not yet."""
        self.network = network
        self.world: World = network.world
        self.address: IPv4Address | IPv6Address = ip_address(address)
        self.name = name or address
        self.config: Config = parse_lines(lines)
        self.machine = Machine(
            self.world, self.name, offset_s=offset_s, frequency=frequency, wander=wander
        )
        self.control = control
        self.stamp_source = stamp_source
        self.serving = False
        self.drift_file = MemoryDriftFile()
        self.leap_db = leap_db
        self.tracking: list[TrackingRecord] = []
        self.published: ServedReference | None = None
        self.on_publish: list[Callable[[ServedReference], None]] = []
        self.mode_result: bool | None = None
        self.running = False
        self.upstreams: list[Upstream] = []
        self._ports: dict[int, Upstream] = {}
        network.attach(self.address, self.receive)

    def start(self, mode: ReferenceMode = ReferenceMode.NORMAL) -> Node:
        """Start the daemon."""
        config = self.config
        self.running = True
        self.local = self.machine.boot(
            control=self.control,
            precision_s=config.clockprecision_s or 1e-9,
            max_slew_rate_ppm=config.maxslewrate_ppm,
            rtcsync=config.rtcsync,
            max_clock_error_ppm=config.maxclockerror_ppm,
        )
        self.surroundings = _Surroundings(self)
        self.reference = Reference(
            self.local,
            ReferenceOptions.from_config(config),
            log=self.machine.log,
            random=self.world.random(f"{self.name}/reference/{self.machine.boots}"),
            outlets=Outlets(
                on_publish=self._published,
                tracking_log=self.tracking.append,
                terminate=self.kill,
                on_mode_end=self._mode_ended,
            ),
            drift_store=self.drift_file if config.driftfile is not None else None,
            leap_db=self.leap_db,
            mode=mode,
        )
        self.selector = Selector(
            SelectionOptions.from_config(config), self.reference, self._tell, self._bad_source
        )
        self.local.add_handler(self._clock_changed)
        self.local.add_dispersion_handler(self._add_dispersion)
        self.upstreams = [
            Upstream(self, source, ip_address(source.name)) for source in config.sources
        ]
        for upstream in self.upstreams:
            self.selector.add(upstream.source)
        for upstream in self.upstreams:
            upstream.carry_out(upstream.association.start(self.now()))
        return self

    def stop(self) -> None:
        """End the daemon in good order."""
        self.reference.close()
        self.local.close()
        self.kill()

    def kill(self) -> None:
        """The process is gone, as with SIGKILL; the clock runs on as it was set."""
        self.running = False
        self.machine.scheduler.stopped = True
        self._ports.clear()

    def suspend(self, duration_s: float) -> None:
        """The machine sleeps."""
        self.machine.scheduler.sleep()
        self.running = False
        self.world.after(duration_s, partial(self._resume, round(duration_s * 1e9)))

    def now(self) -> Now:
        """The present moment on this node's clocks."""
        raw_ns = self.local.raw_ns()
        cooked_ns, err_s = self.local.cook(raw_ns)
        return Now(raw_ns, cooked_ns, err_s, self.local.monotonic_ns())

    def log(self, severity: Severity, text: str) -> None:
        """Log a line."""
        self.machine.log(severity, text)

    def open_port(self, upstream: Upstream) -> int:
        """A socket for one request."""
        rng = self.surroundings.random
        while True:
            port = EPHEMERAL_PORTS[int(rng.random() * len(EPHEMERAL_PORTS))]
            if port not in self._ports:
                self._ports[port] = upstream
                upstream.port = port
                return port

    def close_port(self, upstream: Upstream) -> None:
        """Close the socket of a request, if it is open."""
        if upstream.port is not None:
            self._ports.pop(upstream.port, None)
            upstream.port = None

    def receive(self, datagram: Datagram) -> None:
        """A datagram has arrived."""
        if not self.running:
            return
        self.machine.scheduler.begin_event()
        upstream = self._ports.get(datagram.destination.port)
        if upstream is None:
            upstream = next((u for u in self.upstreams if u.symmetric and u.remote == datagram.source), None)
        if upstream is not None and upstream.remote == datagram.source:
            now = self.now()
            stamp = Stamp(now.cooked_ns, now.err_s, self.stamp_source)
            upstream.carry_out(upstream.association.on_packet(datagram.data, stamp, now, self.address))

    def select(self, updated: SelectableSource | None) -> None:
        """Run the selection."""
        self.selector.select(self.local.cooked_ns(), updated)

    def lines(self, part: str = "") -> list[str]:
        """What the daemon logged that contains `part`."""
        return self.machine.lines(part)

    def _resume(self, slept_ns: int) -> None:
        self.machine.clock.sleep(self.world.now_ns, slept_ns)
        self.running = True
        self.machine.scheduler.wake()

    def _published(self, page: ServedReference) -> None:
        self.published = page
        for observer in self.on_publish:
            observer(page)

    def _mode_ended(self, success: bool) -> None:
        self.mode_result = success

    def _tell(self, event: SelectionEvent) -> None:
        self.log(event.severity, event.text)

    def _bad_source(self, source: SelectableSource) -> None:
        """Sources given by address are never replaced."""

    def _clock_changed(self, change: ClockChange) -> None:
        for upstream in self.upstreams:
            upstream.source.stats.handle_change(change)
            actions = upstream.association.handle_change(change, self.now())
            if change.kind is ChangeKind.UNKNOWN_STEP:
                self.selector.reset_source(upstream.source, self.local.cooked_ns())
            upstream.carry_out(actions)

    def _add_dispersion(self, dispersion_s: float) -> None:
        for upstream in self.upstreams:
            upstream.source.stats.add_dispersion(dispersion_s)
            upstream.association.add_dispersion(dispersion_s)
