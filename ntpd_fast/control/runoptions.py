"""What the command line says about a run, beside the configuration; everything here stays as it is while we run."""

from __future__ import annotations

from ntpd_fast._record import dataclass
from ntpd_fast.clock.reference import ReferenceMode


@dataclass(frozen=True, slots=True)
class RunOptions:
    """`family`: 4 or 6, or None for both. `timeout_s`: end after that time. `priority`: SCHED_FIFO, 0: unchanged."""

    program: str = "ntpd-fast"
    command_socket: str = ""
    """Where the Unix command socket is unless the configuration says otherwise."""
    single_process: bool = False
    """`workers` and `ntsprocesses` count as 0 unless they are configured."""
    mode: ReferenceMode = ReferenceMode.NORMAL
    control_clock: bool = True
    restarted: bool = False
    reload_dumps: bool = False
    set_from_rtc: bool = False
    timeout_s: int | None = None
    family: int | None = None
    lock_memory: bool = False
    priority: int = 0
