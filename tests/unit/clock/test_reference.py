"""The reference: what an update does to the clock, what is served, published, logged and kept."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from ntpd_fast.clock.driftfile import Drift, DriftFileError
from ntpd_fast.clock.driver import Leap
from ntpd_fast.clock.estimate import Estimate, Update
from ntpd_fast.clock.pace import FORESEEN_S, SPAN_SHARE
from ntpd_fast.clock.reference import Outlets, Reference, ReferenceMode, ReferenceOptions
from ntpd_fast.clock.served import REFID_LOCAL, ServedReference
from ntpd_fast.clock.trackinglog import TRACKING_LOG_TITLE, TrackingRecord
from ntpd_fast.config.loader import parse_lines
from ntpd_fast.config.model import FallbackDrift, LocalOptions, MakeStep, MaxChange, SmoothTime
from ntpd_fast.system.messages import Severity
from tests.sim.machine import Machine
from tests.sim.world import NS_PER_S, World

SERVER = IPv4Address("192.0.2.1")


class Store:
    """A drift file in memory."""

    path = "/drift"

    def __init__(self, drift: Drift | None = None, *, broken: bool = False) -> None:
        self.drift = drift
        self.broken = broken
        self.saves = 0

    def load(self) -> Drift | None:
        if self.broken:
            raise DriftFileError("Could not read valid frequency and skew from driftfile /drift")
        return self.drift

    def save(self, drift: Drift) -> None:
        if self.broken:
            raise DriftFileError("Could not write /drift : No space left on device")
        self.drift = drift
        self.saves += 1


class Bench:
    """A reference on a simulated machine, updated by hand."""

    def __init__(
        self,
        options: ReferenceOptions = ReferenceOptions(),  # noqa: B008
        *,
        offset_s: float = 0.0,
        frequency: float = 0.0,
        control: bool = True,
        mode: ReferenceMode = ReferenceMode.NORMAL,
        store: Store | None = None,
        rtcsync: bool = True,
        kernel_ppm: float = 0.0,
    ) -> None:
        self.world = World(1)
        self.machine = Machine(self.world, offset_s=offset_s, frequency=frequency)
        self.clock = self.machine.boot(control=control, rtcsync=rtcsync)
        if kernel_ppm:
            self.clock.set_absolute_frequency_ppm(kernel_ppm)
        self.pages: list[tuple[int, ServedReference]] = []
        self.records: list[TrackingRecord] = []
        self.mails: list[float] = []
        self.ends: list[bool] = []
        self.terminated = 0
        self.reference = Reference(
            self.clock,
            options,
            log=self.machine.log,
            random=random.Random(1),
            outlets=Outlets(
                on_publish=lambda page: self.pages.append((self.clock.raw_ns(), page)),
                tracking_log=self.records.append,
                mail=self.mails.append,
                terminate=self._terminate,
                on_mode_end=self.ends.append,
            ),
            drift_store=store,
            mode=mode,
        )

    def _terminate(self) -> None:
        self.terminated += 1

    def estimate(self, **changes: float) -> Estimate:
        """The truth about the clock."""
        base = Estimate(
            self.clock.cooked_ns(),
            self.machine.cooked_offset_s(),
            offset_sd_s=1e-6,
            skew=1e-6,
            root_delay_s=0.01,
            root_dispersion_s=0.001,
        )
        return replace(base, **changes)  # type: ignore[arg-type]

    def update(self, leap: Leap = Leap.NORMAL, stratum: int = 1, **changes: float) -> None:
        self.reference.update(Update(self.estimate(**changes), stratum, leap, int(SERVER), SERVER))


def test_before_the_first_update_nothing_is_served() -> None:
    bench = Bench()
    served = bench.reference.params(bench.clock.cooked_ns())
    assert (served.leap, served.stratum, served.refid) == (Leap.UNSYNCHRONISED, 16, 0)
    assert (served.root_delay_s, served.root_dispersion_s) == (1.0, 1.0)
    assert not bench.machine.kernel.synchronised
    line = bench.records[0].format()
    assert line == (
        "2023-11-14 22:13:20 0.0.0.0          0      0.000 1000000.000  0.000e+00 ?  0  "
        "0.000e+00  0.000e+00  1.000e+00  1.000e+00  1.500e+00"
    )
    # this skew is one column wider than its title
    assert len(line) == len(TRACKING_LOG_TITLE) + 1


def test_an_update_corrects_the_clock_and_serves_the_next_stratum() -> None:
    bench = Bench(offset_s=1e-4)
    bench.update()
    assert abs(bench.machine.cooked_offset_s()) < 2e-9
    served = bench.reference.params(bench.clock.cooked_ns())
    assert (served.leap, served.stratum, served.refid) == (Leap.NORMAL, 2, int(SERVER))
    assert served.root_delay_s == 0.01
    assert 0.001 <= served.root_dispersion_s < 0.0011
    age = bench.clock.cooked_ns() - served.ref_time_ns
    assert 0 <= age <= NS_PER_S
    world = bench.world
    world.run(1.0)
    assert abs(bench.machine.offset_s()) < 1e-6
    report = bench.reference.tracking()
    assert report.address == SERVER
    assert report.last_offset_s == pytest.approx(1e-4)
    assert report.rms_offset_s == pytest.approx(1e-4)
    assert bench.machine.kernel.synchronised


def test_dispersion_grows_with_skew_residual_and_clock_error() -> None:
    bench = Bench()
    bench.update(frequency=1e-6, skew=2e-3)  # too uncertain: all of it is residual
    page = bench.reference.page()
    assert page.dispersion_rate == pytest.approx(1.0 + 1e-6 + 1e-6)
    bench = Bench()
    bench.update(skew=1e-6)
    first = bench.reference.params(bench.clock.cooked_ns()).root_dispersion_s
    bench.world.run(1000.0)
    later = bench.reference.params(bench.clock.cooked_ns()).root_dispersion_s
    assert later - first == pytest.approx(1000.0 * bench.reference.page().dispersion_rate)
    assert bench.reference.page().dispersion_rate == pytest.approx(2e-6, rel=1e-3)


def test_frequencies_are_weighed_by_their_skews() -> None:
    bench = Bench()
    bench.update(frequency=10e-6, skew=1e-6)
    # our skew was 1: all of it is taken
    assert bench.clock.absolute_frequency_ppm == pytest.approx(10.0, abs=1e-4)
    bench.world.run(64.0)
    skew = bench.reference.skew
    bench.update(frequency=4e-6, skew=3e-6)
    gain = 3 * skew**2 / (3 * skew**2 + 9e-12)
    assert bench.clock.absolute_frequency_ppm == pytest.approx(10.0 + gain * 4.0, rel=1e-4)
    bench.world.run(64.0)
    before = bench.clock.absolute_frequency_ppm
    bench.update(frequency=4e-6, skew=1001e-6)
    assert bench.clock.absolute_frequency_ppm == before


def test_maxupdateskew_can_be_changed() -> None:
    bench = Bench()
    bench.reference.set_max_update_skew_ppm(0.5)
    bench.update(frequency=10e-6, skew=1e-6)
    assert bench.clock.absolute_frequency_ppm == 0.0


def test_the_correction_takes_its_time() -> None:
    """An offset of one standard deviation takes corrtimeratio intervals."""
    bench = Bench()
    bench.update()
    bench.world.run(100.0)
    bench.update(offset_s=1e-3, offset_sd_s=1e-3)
    # linear decay within about 300 s of which the area is half
    assert abs(bench.clock.mapping().rate) == pytest.approx(1e-3 / 150.0, rel=0.02)


def test_makestep_steps_in_the_first_updates_only() -> None:
    bench = Bench(ReferenceOptions(makestep=MakeStep(1.0, 2)), offset_s=100.0)
    bench.update()
    assert abs(bench.machine.offset_s()) < 2e-9
    assert bench.machine.lines() == [
        "System clock wrong by -100.000000 seconds",
        "System clock was stepped by -100.000000 seconds",
    ]
    bench.world.run(10.0)
    bench.update()
    bench.world.run(10.0)
    bench.update(offset_s=-5.0)
    assert bench.machine.offset_s() == pytest.approx(0.0, abs=1e-3)
    bench.world.run(100.0)
    bench.reference.set_makestep(MakeStep(1.0, -1))
    for _ in range(3):
        bench.world.run(10.0)
        bench.update(offset_s=5.0)
        bench.world.run(10.0)
        bench.update(offset_s=-5.0)
    assert len(bench.machine.lines("was stepped")) == 7


def test_a_step_makes_up_for_what_is_pending() -> None:
    bench = Bench(ReferenceOptions(makestep=MakeStep(0.01, -1)))
    bench.clock.accumulate_offset(3.0, 0.0)
    bench.world.run(1.0)
    assert bench.clock.correction_s() < -2.5
    # cooked time is 3 s behind now: the system clock is to be stepped to the truth at once
    bench.update()
    assert abs(bench.machine.offset_s()) < 1e-8
    assert abs(bench.clock.correction_s()) < 1e-8


def test_where_steps_fail_the_offset_is_corrected_otherwise() -> None:
    bench = Bench(ReferenceOptions(makestep=MakeStep(1.0, 1)), offset_s=100.0, control=False)
    bench.update()
    assert abs(bench.machine.cooked_offset_s()) < 1e-8
    assert bench.machine.lines("Could not step system clock")
    assert bench.machine.clock.steered == 0.0


def test_maxchange_ignores_and_then_ends() -> None:
    bench = Bench(ReferenceOptions(maxchange=MaxChange(1.0, 1, 2)), offset_s=5.0)
    bench.update()
    assert bench.reference.updates == 1
    before = bench.reference.page()
    for _ in range(3):
        bench.update(offset_s=-2.0)
    assert bench.reference.updates == 1
    assert bench.reference.page() == before
    text = "Adjustment of 2.000 seconds exceeds the allowed maximum of 1.000 seconds"
    assert bench.machine.lines("Adjustment") == [f"{text} (ignored) "] * 2 + [f"{text} (exiting) "]
    assert bench.terminated == 1


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [(MaxChange(1.0, -1, 0), True), (MaxChange(1.0, 0, -1), False), (MaxChange(3.0, 0, 0), True)],
)
def test_maxchange_variants(limits: MaxChange, allowed: bool) -> None:
    bench = Bench(ReferenceOptions(maxchange=limits))
    for _ in range(5):
        bench.update(offset_s=2.0)
    assert (bench.reference.updates > 0) is allowed
    assert bench.terminated == 0


@pytest.mark.parametrize("offset", [float("nan"), float("inf"), 1e10, 3e9])
def test_absurd_updates_change_nothing(offset: float) -> None:
    bench = Bench()
    before = bench.reference.page()
    bench.update(offset_s=offset)
    bench.update(frequency=float("nan"))
    assert bench.reference.page() == before
    assert bench.reference.updates == 0
    assert len(bench.machine.lines("is invalid (ignored)")) == 2


def test_large_changes_are_logged_and_mailed() -> None:
    bench = Bench(ReferenceOptions(logchange_s=0.5, mailonchange_s=1.0))
    bench.update(offset_s=0.4)
    bench.update(offset_s=-0.6)
    bench.update(offset_s=2.0)
    assert bench.machine.lines() == [
        "System clock wrong by 0.600000 seconds",
        "System clock wrong by -2.000000 seconds",
    ]
    assert bench.mails == [2.0]


def test_losing_the_reference_keeps_frequency_and_slew() -> None:
    bench = Bench()
    bench.update(frequency=5e-6)
    bench.update(offset_s=0.1)
    rate = bench.clock.mapping().rate
    bench.reference.set_unsynchronised()
    assert bench.clock.mapping().rate == rate
    assert bench.clock.absolute_frequency_ppm == pytest.approx(5.0, abs=1e-3)
    assert bench.reference.params(bench.clock.cooked_ns()).leap is Leap.UNSYNCHRONISED
    assert not bench.machine.kernel.synchronised
    assert bench.records[-1].format().split()[2:4] == ["0.0.0.0", "0"]
    report = bench.reference.tracking()
    assert (report.residual_ppm, report.skew_ppm, report.address) == (0.0, 0.0, None)


def test_a_jump_from_outside_loses_the_reference() -> None:
    bench = Bench()
    bench.update()
    epoch = bench.reference.page().mono_epoch
    bench.machine.clock.step(bench.world.now_ns, 100 * NS_PER_S)
    bench.machine.scheduler.begin_event()
    page = bench.pages[-1][1]
    assert not page.synchronised
    assert page.mono_epoch != epoch
    assert bench.machine.lines("Forward time jump detected!")


def test_a_step_is_published_before_it_is_made_and_after() -> None:
    bench = Bench(ReferenceOptions(makestep=MakeStep(1.0, 1)), offset_s=50.0)
    bench.pages.clear()
    bench.update()
    stepping = [index for index, (_, page) in enumerate(bench.pages) if page.stepping]
    assert len(stepping) == 1
    raw_ns, before = bench.pages[stepping[0]]
    assert raw_ns - bench.world.utc_ns() == pytest.approx(50 * NS_PER_S, abs=10)
    after_raw_ns, after = bench.pages[stepping[0] + 1]
    assert abs(after_raw_ns - bench.world.utc_ns()) < 10
    assert not after.stepping
    assert after.step_count == before.step_count + 1
    assert after.synchronised
    assert abs(after.mapping.cooked_ns(after_raw_ns) - bench.world.utc_ns()) < 10


@pytest.mark.parametrize("seed", range(4))
def test_every_published_page_maps_raw_time_as_the_clock_does(seed: int) -> None:
    rng = random.Random(seed)
    bench = Bench(ReferenceOptions(makestep=MakeStep(0.5, -1)), frequency=1e-5)
    for _ in range(100):
        bench.world.run(rng.uniform(0.0, 20.0))
        bench.update(offset_s=rng.choice([rng.gauss(0, 1e-3), rng.gauss(0, 2.0)]), frequency=rng.gauss(0, 1e-6))
        raw = bench.clock.raw_ns()
        assert bench.pages[-1][1].mapping.cooked_ns(raw) == bench.clock.cooked_ns()
        bench.world.run(rng.uniform(0.0, 20.0))
        raw = bench.clock.raw_ns()
        assert bench.pages[-1][1].mapping.cooked_ns(raw) == bench.clock.cooked_ns()
    epochs = [page.slew_epoch for _, page in bench.pages]
    assert epochs == sorted(epochs)


def test_mono_offset_sums_the_corrections_until_a_step() -> None:
    bench = Bench()
    bench.update(offset_s=0.25)
    bench.update(offset_s=-0.05)
    page = bench.reference.page()
    assert page.mono_offset_s == pytest.approx(0.2)
    bench.clock.step(1.0)
    after = bench.reference.page()
    assert after.mono_offset_s == 0.0
    assert after.mono_epoch != page.mono_epoch


def local(**options: float) -> ReferenceOptions:
    return ReferenceOptions(local=replace(LocalOptions(), **options))  # type: ignore[arg-type]


def test_the_local_reference_serves_when_there_is_nothing_else() -> None:
    bench = Bench(local(stratum=8))
    served = bench.reference.params(bench.clock.cooked_ns())
    assert (served.leap, served.stratum, served.refid) == (Leap.NORMAL, 8, REFID_LOCAL)
    assert (served.root_delay_s, served.root_dispersion_s) == (0.0, 0.0)
    for _ in range(100):
        age_s = (bench.clock.cooked_ns() - bench.pages[-1][1].local_ref_time_ns) / NS_PER_S
        assert 1.0 <= age_s <= 64.0
        bench.world.run(7.0)


def test_the_local_reference_takes_over_when_the_distance_has_grown() -> None:
    bench = Bench(local(distance_s=0.1))
    bench.update()
    now = bench.clock.cooked_ns()
    assert bench.reference.params(now).stratum == 2
    rate = bench.reference.page().dispersion_rate
    seconds = (0.1 - 0.01 / 2 - 0.001) / rate
    assert bench.reference.params(now + round((seconds - 2) * NS_PER_S)).stratum == 2
    assert bench.reference.params(now + round((seconds + 2) * NS_PER_S)).stratum == 10


def test_activate_latches_once_the_distance_was_small() -> None:
    bench = Bench(local(activate_s=0.05, distance_s=0.01))
    assert not bench.reference.params(bench.clock.cooked_ns()).synchronised
    bench.update(root_delay_s=0.2)
    assert bench.reference.params(bench.clock.cooked_ns()).stratum == 2
    bench.reference.set_unsynchronised()
    assert not bench.reference.params(bench.clock.cooked_ns()).synchronised
    bench.update()
    assert bench.reference.page().local_activated
    bench.reference.set_unsynchronised()
    assert bench.reference.params(bench.clock.cooked_ns()).refid == REFID_LOCAL


def test_the_local_reference_waits() -> None:
    bench = Bench(local(waitunsynced_s=300.0, waitsynced_s=50.0, distance_s=1e-4))
    start = bench.clock.cooked_ns()
    assert not bench.reference.params(start + 299 * NS_PER_S).synchronised
    assert bench.reference.params(start + 300 * NS_PER_S).refid == REFID_LOCAL
    bench.world.run(10.0)
    bench.update()
    now = bench.clock.cooked_ns()
    assert bench.reference.params(now + 49 * NS_PER_S).stratum == 2
    assert bench.reference.params(now + 51 * NS_PER_S).refid == REFID_LOCAL
    bench.world.run(100.0)
    bench.reference.set_unsynchronised()
    now = bench.clock.cooked_ns()
    assert not bench.reference.params(now + 299 * NS_PER_S).synchronised
    assert bench.reference.params(now + 301 * NS_PER_S).refid == REFID_LOCAL


def test_local_can_be_switched_and_tells_the_orphan_stratum() -> None:
    bench = Bench()
    assert bench.reference.orphan_stratum == 16
    bench.reference.set_local(LocalOptions(stratum=5, orphan=True))
    assert bench.reference.orphan_stratum == 5
    assert bench.reference.params(bench.clock.cooked_ns()).stratum == 5
    bench.reference.set_local(None)
    assert bench.reference.orphan_stratum == 16
    assert not bench.pages[-1][1].local


def test_manual_input_is_followed_but_not_served() -> None:
    bench = Bench()
    bench.update(leap=Leap.UNSYNCHRONISED, stratum=0, offset_s=0.5, frequency=1e-4, skew=0.1)
    assert bench.clock.absolute_frequency_ppm == pytest.approx(100.0, rel=1e-3)
    assert not bench.reference.params(bench.clock.cooked_ns()).synchronised
    assert not bench.machine.kernel.synchronised


def test_the_drift_file_is_read_written_and_kept_at_exit() -> None:
    store = Store(Drift(-7.5, 0.25))
    bench = Bench(ReferenceOptions(driftfile_interval_s=3600.0), store=store)
    assert bench.clock.absolute_frequency_ppm == pytest.approx(-7.5, abs=1e-4)
    assert bench.reference.skew == pytest.approx(0.25e-6)
    assert bench.machine.lines() == ["Frequency -7.500 +/- 0.250 ppm read from /drift"]
    for _ in range(100):
        bench.world.run(100.0)
        bench.update()
    assert store.saves == 2
    bench.reference.close()
    assert store.saves == 3
    bench.reference.close()
    assert store.saves == 3
    assert store.drift is not None
    assert store.drift.frequency_ppm == bench.clock.absolute_frequency_ppm


def test_without_an_update_the_drift_file_gets_a_new_date() -> None:
    store = Store(Drift(-7.5, 0.25))
    Bench(store=store).reference.close()
    assert store.saves == 1
    assert store.drift is not None
    assert store.drift.frequency_ppm == pytest.approx(-7.5, abs=1e-4)
    assert store.drift.skew_ppm == pytest.approx(0.25)


def test_a_first_drift_file_claims_nothing() -> None:
    store = Store()
    Bench(store=store).reference.close()
    assert store.drift == Drift(0.0, 1e6)


def test_a_bad_drift_file_is_told_and_ignored() -> None:
    bench = Bench(ReferenceOptions(driftfile_interval_s=10.0), store=Store(broken=True), kernel_ppm=3.0)
    assert bench.machine.lines() == [
        "Could not read valid frequency and skew from driftfile /drift",
        "Initial frequency 3.000 ppm",
    ]
    assert bench.reference.skew == 1.0
    for _ in range(3):
        bench.world.run(20.0)
        bench.update()
    assert bench.machine.lines("Could not write /drift : No space left on device")
    assert bench.reference.updates == 3


def test_a_drift_of_zero_means_the_kernels() -> None:
    bench = Bench(store=Store(Drift(0.0, 0.5)), kernel_ppm=3.0)
    assert bench.clock.absolute_frequency_ppm == pytest.approx(3.0, abs=1e-4)
    assert bench.reference.skew == pytest.approx(0.5e-6)


def test_fallback_drifts_are_used_when_updates_stop() -> None:
    bench = Bench(ReferenceOptions(fallbackdrift=FallbackDrift(6, 7)))
    for index in range(40):
        bench.world.run(16.0)
        bench.update(frequency=20e-6 if index == 0 else 0.0)
    bench.update(frequency=500e-6, skew=1e-9)
    hasty = bench.clock.absolute_frequency_ppm
    assert hasty > 100.0
    bench.world.run(63.0)
    assert bench.clock.absolute_frequency_ppm == hasty
    bench.world.run(2.0)
    assert bench.clock.absolute_frequency_ppm == pytest.approx(20.0, abs=1.0)
    assert not bench.reference.synchronised
    bench.world.run(1000.0)
    assert bench.clock.absolute_frequency_ppm == pytest.approx(20.0, abs=1.0)


def test_the_rms_offset_starts_moving_when_offsets_grow_again() -> None:
    bench = Bench()
    for offset in (1.0, 0.1, 0.01):
        bench.update(offset_s=offset)
    assert bench.reference.tracking().rms_offset_s == pytest.approx(0.01)
    bench.update(offset_s=0.02)
    assert bench.reference.tracking().rms_offset_s == pytest.approx(0.02)
    bench.update(offset_s=0.0)
    assert bench.reference.tracking().rms_offset_s == pytest.approx(0.02 * 0.9**0.5)


def test_dispersion_events_add_to_the_root_dispersion() -> None:
    bench = Bench()
    bench.update()
    before = bench.reference.page().root_dispersion_s
    bench.clock.add_dispersion(0.125)
    assert bench.reference.page().root_dispersion_s == before + 0.125


def test_a_query_only_prints() -> None:
    bench = Bench(mode=ReferenceMode.PRINT_ONCE, offset_s=0.25)
    bench.update()
    assert bench.machine.lines() == ["System clock wrong by -0.250000 seconds (ignored)"]
    assert bench.ends == [True]
    assert bench.machine.offset_s() == 0.25
    assert not bench.reference.synchronised


def test_a_single_run_steps_and_ends() -> None:
    bench = Bench(mode=ReferenceMode.UPDATE_ONCE, offset_s=-0.25)
    bench.update()
    assert bench.machine.lines() == ["System clock wrong by 0.250000 seconds (step)"]
    assert bench.ends == [True]
    assert abs(bench.machine.offset_s()) < 2e-9
    bench.update(offset_s=7.0)
    assert abs(bench.machine.offset_s()) < 2e-9


def test_a_single_run_without_the_clock_has_done_what_was_asked() -> None:
    bench = Bench(mode=ReferenceMode.UPDATE_ONCE, offset_s=-0.25, control=False)
    bench.update()
    assert bench.machine.lines() == ["System clock wrong by 0.250000 seconds (step)", "Could not step system clock"]
    assert bench.ends == [True]
    assert bench.machine.clock.steered == 0.0


@pytest.mark.parametrize(
    ("offset", "line", "left"),
    [
        (30.0, "System's initial offset : 30.000000 seconds fast of true (step)", 0.0),
        (-0.5, "System's initial offset : 0.500000 seconds slow of true (slew)", -0.5),
    ],
)
def test_initstepslew_corrects_once_and_goes_on(offset: float, line: str, left: float) -> None:
    bench = Bench(ReferenceOptions(initstepslew_threshold_s=1.0), mode=ReferenceMode.INITSTEPSLEW, offset_s=offset)
    bench.update()
    assert bench.machine.lines() == [line]
    assert bench.machine.offset_s() == pytest.approx(left, abs=1e-6)
    assert abs(bench.machine.cooked_offset_s()) < 2e-9
    assert bench.ends == [True]
    assert bench.reference.mode is ReferenceMode.NORMAL
    assert not bench.reference.synchronised
    bench.update()
    assert bench.reference.synchronised


@pytest.mark.parametrize(
    ("mode", "line"),
    [
        (ReferenceMode.PRINT_ONCE, "No suitable source for synchronisation"),
        (ReferenceMode.UPDATE_ONCE, "No suitable source for synchronisation"),
        (ReferenceMode.INITSTEPSLEW, "No suitable source for initstepslew"),
    ],
)
def test_special_modes_fail_when_no_source_can_be_used(mode: ReferenceMode, line: str) -> None:
    bench = Bench(mode=mode)
    bench.reference.set_unsynchronised()
    bench.reference.fail_special_mode()
    assert [(severity, text) for _, severity, text in bench.machine.logged] == [(Severity.WARNING, line)]
    assert bench.ends == [False]
    normal = Bench()
    normal.reference.fail_special_mode()
    assert normal.machine.lines() == []


def test_options_come_from_the_configuration() -> None:
    config = parse_lines(
        ["makestep 0.5 3", "driftfile /d interval 60", "local stratum 7 orphan", "smoothtime 400 0.01 leaponly",
         "maxchange 1 2 3", "corrtimeratio 5", "mailonchange root 0.25", "fallbackdrift 10 12"]
    )  # fmt: skip
    options = ReferenceOptions.from_config(config)
    assert options.makestep == MakeStep(0.5, 3)
    assert options.driftfile_interval_s == 60.0
    assert options.local is not None
    assert options.local.orphan
    assert options.smoothtime is not None
    assert options.smoothtime.leap_only
    assert options.maxchange == MaxChange(1.0, 2, 3)
    assert (options.corrtimeratio, options.mailonchange_s) == (5.0, 0.25)
    assert options.fallbackdrift == FallbackDrift(10, 12)
    assert ReferenceOptions.from_config(config, restarted=True).makestep == MakeStep(0.5, 0)
    always = parse_lines(["makestep 0.5 -1"])
    assert ReferenceOptions.from_config(always, restarted=True).makestep == MakeStep(0.5, -1)


@pytest.mark.parametrize("control", [True, False])
def test_a_successor_goes_on_where_control_was_killed(control: bool) -> None:
    bench = Bench(
        ReferenceOptions(makestep=MakeStep(1000.0, 5), local=LocalOptions(activate_s=0.5, distance_s=0.2)),
        offset_s=5.0,
        frequency=30e-6,
        control=control,
    )
    bench.update(frequency=30e-6)
    bench.world.run(10.0)
    old = bench.pages[-1][1]
    served = bench.reference.params(bench.clock.cooked_ns())
    bench.machine.scheduler.stopped = True
    # the supervisor puts the frequency back at once
    if control:
        bench.machine.driver.set_frequency_ppm(old.base_freq_ppm)
    clock = bench.machine.boot(control=control, rtcsync=True)
    clock.resume(old.mapping, old.base_freq_ppm)
    assert abs(clock.cooked_ns() - bench.clock.cooked_ns()) <= 1
    pages: list[ServedReference] = []
    successor = Reference(
        clock,
        ReferenceOptions(makestep=MakeStep(1000.0, 5), local=LocalOptions(activate_s=0.5, distance_s=0.2)),
        log=bench.machine.log,
        random=random.Random(2),
        outlets=Outlets(on_publish=pages.append),
        drift_store=Store(Drift(77.0, 1.0)),
        resume=old,
    )
    assert all(page.synchronised and page.local_activated for page in pages)
    now = successor.params(clock.cooked_ns())
    assert (now.stratum, now.refid, now.leap) == (served.stratum, served.refid, served.leap)
    # what may have gone wrong in between is added
    assert served.root_dispersion_s <= now.root_dispersion_s < served.root_dispersion_s + 0.01
    assert clock.absolute_frequency_ppm == pytest.approx(bench.clock.absolute_frequency_ppm, abs=1e-3)
    assert pages[-1].mono_epoch == old.mono_epoch
    if control:
        # the slew goes on at the rate of before
        assert clock.mapping().rate == pytest.approx(old.map_freq, rel=0.05)
        bench.world.run(80.0)
        assert abs(bench.machine.offset_s()) < 1e-3
    assert abs((clock.cooked_ns() - bench.world.utc_ns()) / NS_PER_S) < 1e-3


def test_a_control_that_died_in_a_step_starts_afresh() -> None:
    bench = Bench()
    bench.update()
    old = replace(bench.pages[-1][1], stepping=True)
    clock = bench.machine.boot()
    clock.resume(old.mapping, old.base_freq_ppm)
    successor = Reference(
        clock, ReferenceOptions(), log=bench.machine.log, random=random.Random(2), resume=old
    )
    assert not successor.synchronised


def test_commands_for_smoothing_are_published_at_once() -> None:
    bench = Bench(ReferenceOptions(smoothtime=SmoothTime(400.0, 0.01)))
    assert bench.reference.smoothing is not None
    bench.reference.smoothing.activate(bench.clock.cooked_ns())
    assert bench.pages[-1][1].smoothing
    bench.clock.accumulate_offset(0.5, 0.0)
    assert bench.pages[-1][1].smooth_offset_s == pytest.approx(0.5)
    bench.reference.smoothing.reset(bench.clock.cooked_ns())
    assert bench.pages[-1][1].smooth_offset_s == 0.0


def test_a_correction_within_the_distance_is_spread_over_a_share_of_the_span() -> None:
    bench = Bench()
    bench.update(span_s=8000.0)
    bench.world.run(512.0)
    bench.update(offset_s=1e-3, span_s=8000.0)
    assert abs(bench.clock.mapping().rate) == pytest.approx(1e-3 / (SPAN_SHARE * 3.0 * 8000.0), rel=0.05)


def test_what_is_beyond_the_distance_is_slewed_in_a_hurry() -> None:
    bench = Bench()
    bench.update(span_s=8000.0)
    bench.world.run(64.0)
    bench.update(offset_s=7e-3, span_s=8000.0)
    assert abs(bench.clock.mapping().rate) > 6e-3


def test_after_an_outage_what_the_clock_told_of_itself_is_no_reason_for_a_hurry() -> None:
    bench = Bench()
    bench.update(span_s=1000.0)
    # at 1 ppm for the skew and 1 ppm for the clock
    bench.world.run(4000.0)
    bench.update(offset_s=0.012, span_s=1000.0)
    assert abs(bench.clock.mapping().rate) == pytest.approx(0.012 / (FORESEEN_S * 3.0), rel=0.05)


def test_a_clock_that_was_lost_has_told_nothing_of_itself() -> None:
    bench = Bench()
    bench.update(span_s=1000.0)
    bench.world.run(4000.0)
    bench.reference.set_unsynchronised()
    bench.update(offset_s=0.012, span_s=1000.0)
    assert abs(bench.clock.mapping().rate) > 6e-3


def test_the_first_correction_is_slewed_in_a_hurry() -> None:
    bench = Bench(offset_s=1e-3)
    bench.update(span_s=8000.0)
    assert abs(bench.clock.mapping().rate) == pytest.approx(1e-3, rel=0.05)
