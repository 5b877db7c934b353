"""The set of sources: what is added, commanded and reported; and how the actions of associations are carried out."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from ntpd_fast.client.actions import MeasurementRecord
from ntpd_fast.client.logs import SelectionRecord, StatisticsRecord
from ntpd_fast.client.ntpsource import NtpSource
from ntpd_fast.client.packet import KOD_RATE, IPAddress
from ntpd_fast.client.samplefilter import Sample
from ntpd_fast.client.source import SelectableSource, SelectOption, SourceKind, SourceState
from ntpd_fast.client.sourcerows import SourceMode
from ntpd_fast.client.sources import (
    AlreadyInUseError,
    Sources,
    SourcesHooks,
    TooManySourcesError,
    key_authenticators,
)
from ntpd_fast.client.stamps import Stamp, StampSource
from ntpd_fast.client.transport import Encoder, Receiver
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.drivers.null import NullDriver
from ntpd_fast.clock.local import LocalClock
from ntpd_fast.clock.served import UNSYNCHRONISED, Served
from ntpd_fast.config.keyfile import KeyType, SymmetricKey
from ntpd_fast.config.loader import parse_lines
from ntpd_fast.config.model import RefclockConfig, SourceConfig, SourceOptions
from ntpd_fast.config.model import SourceKind as ConfiguredKind
from ntpd_fast.system.messages import Severity
from ntpd_fast.system.timers import TimerClass, TimerHandle, TimerQueue
from tests.unit.client import selecting
from tests.unit.client.talk import Server, header_of

S = 1_000_000_000
BASE = 1_700_000_000 * S


class Clockless:
    """A scheduler whose time is turned by hand."""

    def __init__(self) -> None:
        self.t = 0
        self.jump = 0
        self.queue = TimerQueue(random.Random(1))
        self.hooks: list[Callable[[], None]] = []

    def raw_ns(self) -> int:
        return BASE + self.t + self.jump

    def monotonic_ns(self) -> int:
        return self.t

    def call_later(
        self,
        delay_s: float,
        callback: Callable[[], None],
        *,
        timer_class: TimerClass | None = None,
        separation_s: float = 0.0,
        randomness: float = 0.0,
    ) -> TimerHandle:
        return self.queue.add(
            self.t,
            delay_s,
            callback,
            timer_class=timer_class,
            separation_s=separation_s,
            randomness=randomness,
        )

    def add_event_hook(self, hook: Callable[[], None]) -> None:
        self.hooks.append(hook)

    def begin_event(self) -> None:
        for hook in self.hooks:
            hook()

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.t + round(seconds * S)
        while True:
            deadline = self.queue.next_deadline_ns()
            if deadline is None or deadline > end:
                break
            self.t = max(self.t, deadline)
            self.begin_event()
            self.queue.run_due(self.monotonic_ns)
        self.t = end


class Channel:
    def __init__(self, network: Network, address: IPAddress, port: int, receiver: Receiver) -> None:
        self.network = network
        self.address = address
        self.port = port
        self.receiver = receiver
        self.closed = False

    def send(self, encode: Encoder) -> Stamp | None:
        now_ns = self.network.clock.cooked_ns()
        data = encode(now_ns)
        if data is None or self.address in self.network.down:
            return None
        self.network.sent.append((self.address, self.port, data))
        server = self.network.servers.get(self.address)
        if server is not None:
            t = (now_ns - BASE) / S
            header = server.header(header_of(data), t + server.delay)
            self.network.clock.scheduler.call_later(
                2 * server.delay + server.processing, lambda: self.deliver(header.pack())
            )
        return Stamp(now_ns, 0.0, StampSource.KERNEL)

    def deliver(self, data: bytes) -> None:
        if not self.closed:
            stamp = Stamp(self.network.clock.cooked_ns(), 0.0, StampSource.KERNEL)
            self.receiver.receive(data, stamp, IPv4Address("192.0.2.99"))

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.network.open_channels -= 1


class Network:
    """A transport with servers behind it."""

    clock: LocalClock

    def __init__(self) -> None:
        self.servers: dict[IPAddress, Server] = {}
        self.down: set[IPAddress] = set()
        self.sent: list[tuple[IPAddress, int, bytes]] = []
        self.open_channels = 0

    def open(self, address: IPAddress, port: int, receiver: Receiver, *, symmetric: bool) -> Channel | None:
        self.open_channels += 1
        return Channel(self, address, port, receiver)

    def can_reach(self, address: IPAddress, port: int) -> bool:
        return address not in self.down


class Reference(selecting.Reference):
    orphan_stratum = 16

    def params(self, cooked_ns: int) -> Served:
        return UNSYNCHRONISED

    def is_leap_close(self, cooked_ns: int) -> bool:
        return False


KEYS = {1: SymmetricKey(1, KeyType.MD5, b"short"), 2: SymmetricKey(2, KeyType.MD5, b"long enough to be good")}


class Bench:
    def __init__(self, *lines: str) -> None:
        config = parse_lines(lines)
        self.scheduler = Clockless()
        self.network = Network()
        self.reference = Reference()
        self.logged: list[tuple[Severity, str]] = []
        self.measurements: list[MeasurementRecord] = []
        self.statistics: list[StatisticsRecord] = []
        self.selections: list[SelectionRecord] = []
        self.confirmed: list[NtpSource] = []
        self.unwanted: list[NtpSource] = []
        self.ended = 0
        self.clock = LocalClock(NullDriver(), self.scheduler, precision_s=1e-9, log=self.log)
        self.network.clock = self.clock
        nonces = random.Random(5)
        self.sources = Sources(
            self.clock,
            self.reference,
            self.network,
            config,
            log=self.log,
            random=random.Random(2),
            authenticators=key_authenticators(KEYS, self.log),
            nonce=lambda: nonces.getrandbits(64),
            hooks=SourcesHooks(
                measurements=self.measurements.append,
                statistics=self.statistics.append,
                selection=self.selections.append,
                confirmed=self.confirmed.append,
                wants_replacement=self.unwanted.append,
                selected_once=self.count_end,
            ),
        )
        for source in config.sources:
            self.sources.add(source, ip_address(source.name))

    def count_end(self) -> None:
        self.ended += 1

    def log(self, severity: Severity, text: str) -> None:
        self.logged.append((severity, text))

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.logged]

    def serve(self, *addresses: str, **changes: object) -> None:
        for address in addresses:
            self.network.servers[ip_address(address)] = Server(**changes)  # type: ignore[arg-type]

    def source(self, address: str) -> NtpSource:
        found = self.sources.find(ip_address(address))
        assert found is not None
        return found


def server(name: str = "x.example", **options: object) -> SourceConfig:
    return SourceConfig(ConfiguredKind.SERVER, name, SourceOptions(**options))  # type: ignore[arg-type]


def everything(source: NtpSource) -> bool:
    return True


def test_sources_start_together_and_synchronise() -> None:
    bench = Bench("server 10.0.0.1 iburst", "server 10.0.0.2 iburst", "server 10.0.0.3 iburst")
    bench.serve("10.0.0.1", "10.0.0.2", "10.0.0.3")
    bench.scheduler.run(10.0)
    assert bench.network.sent == []
    bench.sources.start()
    bench.scheduler.run(10.0)
    assert len(bench.network.sent) == 12
    assert bench.reference.updates[-1].combined == 3
    assert sorted(row.state.value for row in bench.sources.source_rows()) == ["*", "+", "+"]
    selected = bench.sources.selector.selected
    assert selected is not None
    assert bench.texts == [f"Selected source {selected.address}"]
    assert bench.network.open_channels == 0
    assert len(bench.confirmed) == 12


def test_requests_to_different_servers_keep_their_distance() -> None:
    bench = Bench(*(f"server 10.0.0.{i} minpoll 6 maxpoll 6" for i in range(1, 9)))
    times: dict[str, list[int]] = {}
    original = bench.network.open

    def opening(address: IPAddress, port: int, receiver: Receiver, *, symmetric: bool) -> Channel | None:
        times.setdefault("all", []).append(bench.scheduler.t)
        return original(address, port, receiver, symmetric=symmetric)

    bench.network.open = opening  # type: ignore[method-assign]
    bench.sources.start()
    bench.scheduler.run(600.0)
    gaps = [b - a for a, b in zip(times["all"], times["all"][1:], strict=False)]
    assert len(gaps) > 60
    assert min(gaps) >= 0.2 * S


def test_one_source_an_address() -> None:
    bench = Bench("server 10.0.0.1")
    with pytest.raises(AlreadyInUseError, match="Already in use"):
        bench.sources.add(server(), ip_address("10.0.0.1"), port=124)
    with pytest.raises(AlreadyInUseError):
        bench.sources.set_address(bench.sources.add(server(), None), ip_address("10.0.0.1"))


def test_table_of_sources_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntpd_fast.client.sources.MAX_SOURCES", 2)
    bench = Bench("server 10.0.0.1", "server 10.0.0.2")
    with pytest.raises(TooManySourcesError, match="Too many sources"):
        bench.sources.add(server(), ip_address("10.0.0.3"))
    bench.sources.remove(bench.source("10.0.0.1"))
    bench.sources.add(server(), ip_address("10.0.0.3"))


def test_source_added_to_a_running_daemon_starts() -> None:
    bench = Bench()
    bench.sources.start()
    bench.serve("10.0.0.1")
    bench.sources.add(server(iburst=True), ip_address("10.0.0.1"), port=1123)
    bench.scheduler.run(10.0)
    assert bench.network.sent[0][:2] == (IPv4Address("10.0.0.1"), 1123)
    assert bench.sources.source_rows()[0].state is SourceState.SELECTED


def test_source_without_an_address_waits_for_it() -> None:
    bench = Bench()
    source = bench.sources.add(server(iburst=True), None)
    bench.sources.start()
    bench.serve("10.0.0.1")
    bench.scheduler.run(10.0)
    assert source.text == "ID#0000000001"
    assert bench.sources.activity().unresolved == 1
    bench.sources.set_address(source, ip_address("10.0.0.1"))
    bench.scheduler.run(10.0)
    assert source.text == "10.0.0.1"
    assert source.selectable.label == "10.0.0.1 (x.example)"
    assert bench.sources.activity().online == 1
    assert bench.sources.source_rows()[0].state is SourceState.SELECTED


def test_another_address_starts_from_nothing() -> None:
    bench = Bench("server 10.0.0.1 iburst")
    bench.serve("10.0.0.1", "10.0.0.2")
    bench.sources.start()
    bench.scheduler.run(20.0)
    source = bench.source("10.0.0.1")
    bench.sources.set_address(source, ip_address("10.0.0.2"), 1123)
    assert bench.sources.find(ip_address("10.0.0.1")) is None
    assert source.selectable.stats.n_samples == 0
    assert source.selectable.refid == 0x0A000002
    assert bench.sources.selector.selected is None
    bench.scheduler.run(200.0)
    assert bench.network.sent[-1][:2] == (IPv4Address("10.0.0.2"), 1123)
    assert source.selectable.reachable


def test_removed_source_says_and_hears_nothing() -> None:
    bench = Bench("server 10.0.0.1 iburst")
    bench.serve("10.0.0.1")
    bench.sources.start()
    bench.scheduler.run(0.2005)
    bench.sources.remove(bench.source("10.0.0.1"))
    count = len(bench.network.sent)
    bench.scheduler.run(100.0)
    assert len(bench.network.sent) == count
    assert bench.measurements == []
    assert bench.network.open_channels == 0
    assert bench.sources.source_rows() == []


def test_online_and_offline() -> None:
    bench = Bench("server 10.0.0.1 iburst", "server 10.0.0.2 offline")
    bench.serve("10.0.0.1", "10.0.0.2")
    bench.sources.start()
    bench.scheduler.run(1.0)
    activity = bench.sources.activity()
    assert (activity.burst_online, activity.offline, activity.online) == (1, 1, 0)
    bench.scheduler.run(20.0)
    assert bench.sources.switch_offline(lambda source: source.text == "10.0.0.1")
    assert bench.sources.switch_online(lambda source: source.text == "10.0.0.2")
    assert not bench.sources.switch_online(lambda source: False)
    bench.scheduler.run(200.0)
    activity = bench.sources.activity()
    assert (activity.offline, activity.online) == (1, 1)
    assert {address for address, _, _ in bench.network.sent[-2:]} == {IPv4Address("10.0.0.2")}


def test_the_state_after_a_burst_is_told_when_it_is_chosen() -> None:
    """As chronyd 4.3: each change of what the source is to be, at the command."""
    bench = Bench("server 10.0.0.1 iburst")
    bench.serve("10.0.0.1")
    bench.sources.start()
    bench.scheduler.run(1.0)
    assert bench.sources.activity().burst_online == 1
    switches = [bench.sources.switch_offline, bench.sources.switch_online]
    for switch in (switches[0], switches[0], switches[1], switches[1], switches[0]):
        assert switch(everything)
    told = [text for _, text in bench.logged if text.endswith("line")]
    assert told == [f"Source 10.0.0.1 {state}" for state in ("offline", "online", "offline")]
    bench.scheduler.run(60.0)
    assert bench.sources.activity().offline == 1


def test_selected_source_is_switched_last() -> None:
    bench = Bench("server 10.0.0.1 iburst", "server 10.0.0.2 iburst")
    bench.serve("10.0.0.1", "10.0.0.2")
    bench.sources.start()
    bench.scheduler.run(20.0)
    selected = bench.sources.selector.selected
    order: list[str] = []
    for source in bench.sources.ntp_sources:
        source.switch_offline = lambda now, text=source.text: order.append(text)  # type: ignore[method-assign]
    bench.sources._switch(everything, lambda source, now: source.switch_offline(now))
    assert selected is not None
    assert order[-1] == str(selected.address)
    assert len(order) == 2


def test_following_routes() -> None:
    bench = Bench("server 10.0.0.1", "server 10.0.0.2 offline")
    bench.sources.add(server(), None)
    bench.sources.start()
    bench.network.down.add(ip_address("10.0.0.1"))
    bench.sources.follow_routes()
    activity = bench.sources.activity()
    assert (activity.online, activity.offline, activity.unresolved) == (1, 1, 1)
    assert bench.source("10.0.0.2").association.burst.talking


def test_burst_on_demand() -> None:
    bench = Bench("server 10.0.0.1 offline")
    bench.serve("10.0.0.1")
    bench.sources.start()
    assert bench.sources.burst(everything, 4, 5)
    assert bench.sources.activity().burst_offline == 1
    bench.scheduler.run(30.0)
    assert bench.sources.activity().offline == 1
    assert len(bench.network.sent) == 4
    # all it measured has set the clock; then it is gone, as with chronyd
    assert len(bench.reference.updates) == 2
    row = bench.sources.source_rows()[0]
    assert (row.state, row.reach) == (SourceState.STALE, 0)
    assert bench.texts[-1] == "Can't synchronise: no selectable sources (1 unreachable sources)"


def test_taking_the_only_source_offline_is_told() -> None:
    bench = Bench("server 10.0.0.1 iburst")
    bench.serve("10.0.0.1")
    bench.sources.start()
    bench.scheduler.run(10.0)
    bench.sources.switch_offline(everything)
    row = bench.sources.source_rows()[0]
    assert (row.state, row.reach) == (SourceState.STALE, 0)
    assert "Can't synchronise: no selectable sources (1 unreachable sources)" in bench.texts


def test_failing_to_send_counts_as_no_answer() -> None:
    bench = Bench("server 10.0.0.1 iburst")
    bench.network.down.add(ip_address("10.0.0.1"))
    bench.sources.start()
    bench.scheduler.run(30.0)
    row = bench.sources.source_rows()[0]
    assert (row.reach, row.state) == (0, SourceState.BAD_STATS)
    assert bench.sources.ntp_report(bench.source("10.0.0.1")).counts.tx == 0
    # a burst waits for the network
    assert bench.sources.activity().burst_online == 1


def test_unreachable_and_useless_sources_want_to_be_replaced() -> None:
    bench = Bench(*(f"server 10.0.0.{i} minpoll 4 maxpoll 4" for i in range(1, 6)))
    bench.serve("10.0.0.1", "10.0.0.2", "10.0.0.3")
    bench.serve("10.0.0.4", theta=1.0)
    bench.sources.start()
    bench.scheduler.run(170.0)
    assert set(bench.unwanted) == {bench.source("10.0.0.4"), bench.source("10.0.0.5")}
    assert "Detected falseticker 10.0.0.4" in bench.texts


def test_kiss_is_told() -> None:
    bench = Bench("server 10.0.0.1")
    bench.serve("10.0.0.1", leap=Leap.UNSYNCHRONISED, stratum=0, refid=KOD_RATE)
    bench.sources.start()
    bench.scheduler.run(1.0)
    assert (Severity.WARNING, "Received KoD RATE from 10.0.0.1") in bench.logged


def test_logs_get_their_records() -> None:
    bench = Bench("server 10.0.0.1 iburst", "server 10.0.0.2 noselect iburst")
    bench.serve("10.0.0.1", "10.0.0.2")
    bench.sources.start()
    bench.scheduler.run(10.0)
    assert len(bench.measurements) == 8
    # there are no statistics of one or two samples
    assert [record.n_samples for record in bench.statistics if record.source == "10.0.0.1"] == [3, 4]
    assert {record.report.state.value for record in bench.selections} == {"M", "N", "*"}
    assert bench.selections[-1].source == "10.0.0.2"


def test_packets_of_the_server_port() -> None:
    bench = Bench("peer 10.0.0.1 minpoll 4 maxpoll 4")
    bench.sources.start()
    bench.scheduler.run(1.0)
    data = bench.network.sent[0][2]
    address = IPv4Address("10.0.0.1")
    stamp = Stamp(bench.clock.cooked_ns())
    assert bench.sources.receive(address, 123, data, stamp, None)
    assert not bench.sources.receive(address, 124, data, stamp, None)
    assert not bench.sources.receive(IPv6Address("::1"), 123, data, stamp, None)
    assert bench.sources.ntp_report(bench.source("10.0.0.1")).counts.rx == 1


def test_clock_jump_starts_everything_afresh() -> None:
    bench = Bench("server 10.0.0.1 minpoll 4 maxpoll 4")
    bench.serve("10.0.0.1")
    bench.sources.start()
    bench.scheduler.run(100.0)
    assert bench.source("10.0.0.1").selectable.stats.n_samples >= 6
    bench.scheduler.jump = 1000 * S
    bench.scheduler.begin_event()
    assert bench.source("10.0.0.1").selectable.stats.n_samples == 0
    assert bench.sources.selector.selected is None
    bench.serve("10.0.0.1", theta=-1000.0)
    bench.scheduler.run(60.0)
    sample = bench.sources.source_rows()[0].sample
    assert sample is not None
    assert sample.offset_s == pytest.approx(1000.0, abs=1e-3)


def test_adjustments_reach_statistics_and_associations() -> None:
    bench = Bench("server 10.0.0.1 minpoll 4 maxpoll 4")
    bench.serve("10.0.0.1", theta=0.25)
    bench.sources.start()
    bench.scheduler.run(60.0)
    before = bench.sources.source_rows()[0].sample
    assert bench.clock.accumulate_offset(-0.25, 0.0)
    after = bench.sources.source_rows()[0].sample
    assert before is not None
    assert after is not None
    assert before.offset_s == pytest.approx(-0.25, abs=1e-6)
    assert after.offset_s == pytest.approx(0.0, abs=1e-6)
    assert after.original_offset_s == before.original_offset_s
    bench.clock.add_dispersion(0.5)
    widened = bench.sources.source_rows()[0].sample
    assert widened is not None
    assert widened.offset_error_s == pytest.approx(after.offset_error_s + 0.5)


def test_reset_of_all_sources() -> None:
    bench = Bench("server 10.0.0.1 iburst")
    bench.serve("10.0.0.1")
    bench.sources.start()
    bench.scheduler.run(10.0)
    bench.sources.reset_all()
    row = bench.sources.source_rows()[0]
    assert (row.reach, row.sample, row.stratum) == (0, None, 0)
    assert bench.reference.lost == 1
    assert "Reset all sources" in bench.texts
    bench.scheduler.run(300.0)
    assert bench.sources.selector.selected is not None


def test_reports() -> None:
    bench = Bench("server 10.0.0.1 iburst prefer", "peer 10.0.0.2 key 2")
    bench.serve("10.0.0.1", theta=0.5, stratum=4)
    clock = SelectableSource(
        SourceKind.REFCLOCK, bench.sources.refclock_stats(RefclockConfig("SHM", "0")), refid=0x53484D30
    )
    bench.sources.add_refclock(clock, RefclockConfig("SHM", "0", poll=2, stratum=1))
    bench.sources.start()
    bench.scheduler.run(10.0)
    rows = bench.sources.source_rows()
    assert [row.mode for row in rows] == [SourceMode.REFCLOCK, SourceMode.CLIENT, SourceMode.PEER]
    assert (rows[0].poll, rows[0].stratum, rows[0].sample) == (2, 1, None)
    assert (rows[1].poll, rows[1].stratum, rows[1].reach) == (6, 4, 0o17)
    assert rows[2].stratum == 0
    stats = bench.sources.stats_rows()
    assert [row.stats.n_samples for row in stats] == [0, 4, 0]
    assert stats[1].stats.offset_s == pytest.approx(-0.5, abs=1e-4)
    selects = bench.sources.select_rows()
    assert selects[1].report.options is SelectOption.PREFER
    assert selects[2].report.authenticated
    assert bench.sources.auth_report(bench.source("10.0.0.2")).key_id == 2
    assert bench.sources.ntp_report(bench.source("10.0.0.1")).counts.good == 4


def test_samples_of_reference_clocks_are_selected() -> None:
    bench = Bench()
    config = RefclockConfig("SHM", "0")
    clock = SelectableSource(SourceKind.REFCLOCK, bench.sources.refclock_stats(config), refid=0x53484D30)
    bench.sources.add_refclock(clock, config)
    clock.set_status(0, Leap.NORMAL)
    for i in range(4):
        clock.update_reachability(True)
        bench.sources.accumulate_refclock(clock, Sample(BASE + i * 16 * S, 1e-3, 1e-9, 1e-7, 1e-9, 1e-7))
    assert bench.sources.selector.selected is clock
    assert "Selected source SHM0" in bench.texts
    assert bench.reference.updates[-1].address is None


def test_missing_and_short_keys_are_told() -> None:
    bench = Bench("server 10.0.0.1 key 9", "server 10.0.0.2 key 1", "server 10.0.0.3 key 2")
    assert bench.texts == ["Key 9 is missing", "Key 1 is too short"]


def test_selection_options_can_be_changed() -> None:
    bench = Bench("server 10.0.0.1 iburst")
    bench.serve("10.0.0.1")
    bench.sources.start()
    bench.scheduler.run(10.0)
    source = bench.source("10.0.0.1")
    bench.sources.set_select_options(source.selectable, SelectOption.NOSELECT)
    bench.sources.reselect()
    assert bench.sources.source_rows()[0].state is SourceState.UNSELECTABLE
    assert "Source 10.0.0.1 selection options modified" in bench.texts


def test_one_shot_run_knows_when_it_is_hopeless() -> None:
    bench = Bench("server 10.0.0.1 iburst", "server 10.0.0.2 offline")
    bench.sources.facts.one_shot = True
    bench.sources.start()
    bench.scheduler.run(8.0)
    assert not bench.sources.is_hopeless()
    bench.scheduler.run(7.0)
    assert bench.sources.is_hopeless()
    assert bench.ended > 0
    waiting = Bench()
    waiting.sources.add(server(), None)
    assert not waiting.sources.is_hopeless()


def test_closing_leaves_the_clock_alone() -> None:
    bench = Bench("server 10.0.0.1 iburst")
    bench.serve("10.0.0.1")
    bench.sources.start()
    bench.scheduler.run(3.0)
    bench.sources.close()
    count = len(bench.network.sent)
    bench.scheduler.run(300.0)
    assert len(bench.network.sent) == count
    assert bench.clock.accumulate_offset(1.0, 0.0)
    assert bench.source("10.0.0.1").selectable.stats.n_samples == 2


def test_sample_limits_of_the_configuration() -> None:
    bench = Bench("maxsamples 4", "server 10.0.0.1 minpoll 0 maxpoll 0", "server 10.0.0.2 maxsamples 1 iburst")
    bench.serve("10.0.0.1", "10.0.0.2")
    bench.sources.start()
    bench.scheduler.run(10.0)
    assert [row.stats.n_samples for row in bench.sources.stats_rows()] == [4, 1]


def test_peers_send_from_one_channel() -> None:
    bench = Bench("peer 10.0.0.1 minpoll 2 maxpoll 2")
    bench.sources.start()
    bench.scheduler.run(30.0)
    assert len(bench.network.sent) >= 6
    assert bench.network.open_channels == 1
    assert replace(bench.sources.activity()).online == 1
