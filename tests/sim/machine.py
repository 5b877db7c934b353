"""One simulated machine: oscillator, kernel, production driver and local clock, and what they logged."""

from __future__ import annotations

from ntpd_fast.clock.driver import ClockDriver
from ntpd_fast.clock.drivers.linux import LinuxDriver
from ntpd_fast.clock.drivers.null import NullDriver
from ntpd_fast.clock.local import LocalClock
from ntpd_fast.clock.slew import MAX_SLEW_RATE_PPM
from ntpd_fast.system.messages import Severity
from tests.sim.clock import SystemClock
from tests.sim.kernel import USER_HZ, ModelKernel
from tests.sim.scheduler import SimScheduler
from tests.sim.world import NS_PER_S, World

KERNEL_RELEASE = "6.1.0"
LOG_LINES_MAX = 100_000


class Machine:
    """Hardware and kernel of a node; `boot` starts the production clock on them."""

    def __init__(
        self,
        world: World,
        name: str = "node",
        *,
        offset_s: float = 0.0,
        frequency: float = 0.0,
        wander: float = 0.0,
    ) -> None:
        """`offset_s`: how far the clock is ahead at first; `frequency`, `wander`: see `SystemClock`."""
        self.world = world
        self.name = name
        self.clock = SystemClock(
            world.utc_ns() + round(offset_s * NS_PER_S),
            frequency=frequency,
            wander=wander,
            rng=world.random(f"{name}/wander"),
            now_ns=world.now_ns,
        )
        self.kernel = ModelKernel(self.clock, lambda: world.now_ns)
        self.logged: list[tuple[float, Severity, str]] = []
        self.boots = 0
        self.scheduler: SimScheduler
        self.driver: ClockDriver
        self.local: LocalClock

    def boot(
        self,
        *,
        control: bool = True,
        precision_s: float = 1e-9,
        max_slew_rate_ppm: float = MAX_SLEW_RATE_PPM,
        rtcsync: bool = False,
        max_clock_error_ppm: float = 1.0,
    ) -> LocalClock:
        """Start (or start again) the control process; `control` False is `-x`."""
        self.boots += 1
        self.scheduler = SimScheduler(
            self.world, self.kernel, self.world.random(f"{self.name}/timers/{self.boots}")
        )
        if control:
            self.driver = LinuxDriver(
                self.log,
                rtcsync=rtcsync,
                adjtimex=self.kernel.adjtimex,
                user_hz=USER_HZ,
                release=KERNEL_RELEASE,
            )
        else:
            self.driver = NullDriver()
        self.local = LocalClock(
            self.driver,
            self.scheduler,
            precision_s=precision_s,
            log=self.log,
            max_slew_rate_ppm=max_slew_rate_ppm,
            max_clock_error_ppm=max_clock_error_ppm,
        )
        return self.local

    def log(self, severity: Severity, text: str) -> None:
        """Keep a line with its true time."""
        assert len(self.logged) < LOG_LINES_MAX, "a node floods its log"
        self.logged.append((self.world.now_ns / NS_PER_S, severity, text))

    def lines(self, part: str = "") -> list[str]:
        """What was logged that contains `part`."""
        return [text for _, _, text in self.logged if part in text]

    def offset_s(self) -> float:
        """How far the system clock is ahead of UTC."""
        return (self.kernel.read() - self.world.utc_ns()) / NS_PER_S

    def cooked_offset_s(self) -> float:
        """How far cooked time is ahead of UTC."""
        return (self.local.cooked_ns() - self.world.utc_ns()) / NS_PER_S
