"""A simulated node: the production client engine, reference, clock and packet core on one machine.

The node is configured by the lines of a chrony.conf and differs from the daemon only in its transport and clock.
No time passes while it works: every reading within one event is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import ip_address

from ntpd_fast.client.actions import MeasurementRecord
from ntpd_fast.client.dumps import DumpReload, Dumps
from ntpd_fast.client.names import Names
from ntpd_fast.client.ntpsource import NtpSource
from ntpd_fast.client.oneshot import InitStepSlew, OneShot
from ntpd_fast.client.sources import Sources, SourcesHooks, key_authenticators
from ntpd_fast.client.stamps import StampSource
from ntpd_fast.clock.driftfile import Drift
from ntpd_fast.clock.drivers.linux import LinuxDriver
from ntpd_fast.clock.leapdb import LeapDb
from ntpd_fast.clock.local import LocalClock
from ntpd_fast.clock.reference import Outlets, Reference, ReferenceMode, ReferenceOptions
from ntpd_fast.clock.referenceoptions import starting_mode
from ntpd_fast.clock.served import ServedReference
from ntpd_fast.clock.trackinglog import TrackingRecord
from ntpd_fast.config.keyfile import SymmetricKey
from ntpd_fast.config.loader import parse_lines
from ntpd_fast.config.model import Config, SourceKind
from ntpd_fast.config.sources import SourceFiles
from ntpd_fast.control.dataplane import PeerRow
from ntpd_fast.system.messages import Severity
from tests.sim.kernel import USER_HZ
from tests.sim.machine import KERNEL_RELEASE, Machine
from tests.sim.network import Datagram, IPAddress, Network
from tests.sim.resolver import SimResolver
from tests.sim.served import NTP_PORT, Worker
from tests.sim.transport import SimTransport
from tests.sim.world import NS_PER_S, World

RECORDS_MAX = 100_000
SUPERVISOR_S = 0.003
"""From the death of control to the clock back at its base frequency."""


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


class MemoryDumps:
    """Dump files that survive the restart of a node."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def write(self, name: str, data: bytes) -> None:
        """See `DumpStore`."""
        self.files[name] = data

    def read(self, name: str) -> bytes | None:
        """See `DumpStore`."""
        return self.files.get(name)

    def remove_all(self) -> None:
        """See `DumpStore`."""
        self.files.clear()


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
        serving: bool = False,
        stamp_source: StampSource = StampSource.DAEMON,
        leap_db: LeapDb | None = None,
        resolver: SimResolver | None = None,
        keys: Mapping[int, SymmetricKey] | None = None,
    ) -> None:
        """`lines` are chrony.conf, `resolver` knows the names in them, `keys` is the key file.

        The clock runs, the daemon not yet.
        """
        self.network = network
        self.world: World = network.world
        self.address: IPAddress = ip_address(address)
        self.name = name or address
        self.config: Config = parse_lines(lines)
        self.machine = Machine(self.world, self.name, offset_s=offset_s, frequency=frequency, wander=wander)
        self.control = control
        self.stamp_source = stamp_source
        self.leap_db = leap_db
        self.drift_file = MemoryDriftFile()
        self.dump_files = MemoryDumps()
        self.source_files = SourceFiles((), ())
        """What is in the directories of `sourcedir`."""
        self.resolver = resolver or SimResolver(self.world)
        self.keys = keys or {}
        self.initial: InitStepSlew | None = None
        self.tracking: list[TrackingRecord] = []
        self.measurements: list[MeasurementRecord] = []
        self.mode_result: bool | None = None
        self.terminated = False
        self.running = False
        """The control process lives."""
        self.awake = True
        self.local: LocalClock
        self.reference: Reference
        self.sources: Sources
        self.names: Names
        self.transport: SimTransport
        self.page: ServedReference | None = None
        """The last page published, as it stays in shared memory."""
        self.on_publish: list[Callable[[ServedReference], None]] = []
        self.worker: Worker | None = None
        if serving:
            rows = (
                PeerRow(ip_address(source.name), source.options.port, symmetric=True)
                for source in self.config.sources
                if source.kind is SourceKind.PEER
            )
            self.worker = Worker(network, self.address, self.machine.kernel, peers=tuple(rows))
            self.on_publish.append(self.worker.publish)

    def start(
        self,
        mode: ReferenceMode = ReferenceMode.NORMAL,
        resume: ServedReference | None = None,
        *,
        reload_dumps: bool = False,
    ) -> Node:
        """Start the control process (again), perhaps from the last page of a predecessor; `reload_dumps` is `-r`."""
        config = self.config
        mode = starting_mode(config, mode, restarted=False)
        self.network.attach(self.address, self.receive)
        self.mode_result = None
        self.running = True
        self.local = self.machine.boot(
            control=self.control,
            precision_s=config.clockprecision_s or 1e-9,
            max_slew_rate_ppm=config.maxslewrate_ppm,
            rtcsync=config.rtcsync,
            max_clock_error_ppm=config.maxclockerror_ppm,
        )
        boot = self.machine.boots
        if resume is not None:
            self.local.resume(resume.mapping, resume.base_freq_ppm)
        self.reference = Reference(
            self.local,
            ReferenceOptions.from_config(config),
            log=self.machine.log,
            random=self.world.random(f"{self.name}/reference/{boot}"),
            outlets=Outlets(
                on_publish=self._published,
                tracking_log=self.tracking.append,
                terminate=self._terminate,
                on_mode_end=self._mode_ended,
            ),
            drift_store=self.drift_file if config.driftfile is not None else None,
            leap_db=self.leap_db,
            mode=mode,
            resume=resume,
        )
        rng = self.world.random(f"{self.name}/transport/{boot}")
        self.transport = SimTransport(
            self.network, self.address, self.local, rng, stamp_source=self.stamp_source
        )
        nonces = self.world.random(f"{self.name}/nonces/{boot}")
        self.sources = Sources(
            self.local,
            self.reference,
            self.transport,
            config,
            log=self.machine.log,
            random=self.world.random(f"{self.name}/engine/{boot}"),
            authenticators=key_authenticators(self.keys, self.machine.log),
            nonce=lambda: nonces.getrandbits(64),
            hooks=SourcesHooks(measurements=self._measured),
        )
        self.sources.facts.serving = self.worker is not None
        self.sources.facts.net_corrections = config.ptpport != 0
        self.names = Names(
            self.sources,
            self.resolver,
            self.local.scheduler,
            can_reach=self.transport.can_reach,
            refresh_s=config.refresh_s,
            log=self.machine.log,
            random=self.world.random(f"{self.name}/names/{boot}"),
            sourcedirs=config.sourcedirs,
            read_dirs=lambda directories: self.source_files,
        )
        dumps = DumpReload(Dumps(self.dump_files, self.machine.log), self.sources, wanted=reload_dumps)
        self.names.on_first_address = lambda source: dumps.load(source.selectable)
        self.names.on_first_round = dumps.finish
        self.initial = None
        if mode is ReferenceMode.INITSTEPSLEW and config.initstepslew is not None:
            self.initial = InitStepSlew(
                self.sources, self.reference, self.local.scheduler, config.initstepslew.servers, self._begin
            )
            self.initial.start()
        else:
            self._begin()
            if mode is not ReferenceMode.NORMAL:
                OneShot(self.sources, self.reference, self.local.scheduler).start()
        return self

    def stop(self) -> None:
        """End the daemon in good order."""
        if self.config.dumpdir is not None:
            Dumps(self.dump_files, self.machine.log).save(self.sources.selector.sources)
        self.reference.close()
        self.local.close()
        self.kill()
        if self.worker is not None:
            self.network.detach(self.address)

    def kill(self) -> None:
        """The control process is gone, as with SIGKILL: clock and workers go on as they are."""
        self.running = False
        self.machine.scheduler.stopped = True
        self.names.close()

    def crash(self, restart_after_s: float) -> None:
        """Control dies by SIGKILL and is forked again by the supervisor, which first restores the frequency."""
        self.kill()
        page = self.page
        assert page is not None
        if self.control:
            driver = LinuxDriver(
                self.machine.log, adjtimex=self.machine.kernel.adjtimex, user_hz=USER_HZ, release=KERNEL_RELEASE
            )
            self.world.after(SUPERVISOR_S, partial(driver.set_frequency_ppm, page.base_freq_ppm))
        self.world.after(restart_after_s, partial(self.start, resume=page))

    def suspend(self, duration_s: float) -> None:
        """The machine sleeps."""
        self.awake = False
        self.machine.scheduler.sleep()
        self.world.after(duration_s, partial(self._resume, round(duration_s * NS_PER_S)))

    def receive(self, datagram: Datagram) -> None:
        """A datagram has arrived."""
        if not self.awake:
            return
        if datagram.destination.port == NTP_PORT:
            if self.worker is None or self.worker.receive(datagram) == "control":
                self._receive_from_peer(datagram)
        elif self.running:
            self.machine.scheduler.begin_event()
            self.transport.deliver(datagram)

    def lines(self, part: str = "") -> list[str]:
        """What the daemon logged that contains `part`."""
        return self.machine.lines(part)

    def source(self, address: str) -> NtpSource:
        """The source with an address."""
        found = self.sources.find(ip_address(address))
        assert found is not None
        return found

    @property
    def selected(self) -> str | None:
        """Address of the source that is followed."""
        selected = self.sources.selector.selected
        return str(selected.address) if selected is not None else None

    def _receive_from_peer(self, datagram: Datagram) -> None:
        if self.running:
            self.machine.scheduler.begin_event()
            source = datagram.source
            self.sources.receive(
                source.address, source.port, datagram.data, self.transport.stamp(), self.address
            )

    def _resume(self, slept_ns: int) -> None:
        self.machine.clock.sleep(self.world.now_ns, slept_ns)
        self.awake = True
        self.machine.scheduler.wake()

    def _published(self, page: ServedReference) -> None:
        self.page = page
        for observer in self.on_publish:
            observer(page)

    def _measured(self, record: MeasurementRecord) -> None:
        if len(self.measurements) < RECORDS_MAX:
            self.measurements.append(record)

    def _begin(self) -> None:
        self.names.start(self.config.sources)
        self.sources.start()

    def _mode_ended(self, success: bool) -> None:
        self.mode_result = success
        if self.initial is not None:
            self.initial.finish(success)
        else:
            # the daemon leaves its loop after this event
            self.world.after(0.0, self.kill)

    def _terminate(self) -> None:
        self.terminated = True
        self.machine.log(Severity.FATAL, "exiting")
        self.kill()
