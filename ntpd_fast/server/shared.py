"""The daemon's shared memory: made once by the supervisor, inherited by every child.

One memfd per writer. Control's region (reference page, tables) is writable in control alone: the first writable
mapping is made before the descriptor is sealed against new ones, every other process maps it read-only. Each worker
writes its own region and nobody else's. Nothing grows after `create`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping as MappingType

from ntpd_fast._clientlog import init_shard, shard_size
from ntpd_fast._nts import RING_BYTES, KeyRing
from ntpd_fast._record import dataclass, field
from ntpd_fast._region import COUNTER_NAMES, ControlRegion, Mapping, WorkerRegion, round_to_page
from ntpd_fast._tsmap import init_map, map_size

# Sealing constants of <linux/fcntl.h>; the fcntl module of Python 3.11 lacks the last.
F_ADD_SEALS = 1033
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_FUTURE_WRITE = 1, 2, 4, 16

WORKERS_MAX = 256

# Room for the counters of an NTS-KE process; the shard that follows is aligned to 64 bytes.
KE_COUNTERS_BYTES = 1024

NO_STAGES = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0))


@dataclass(frozen=True, slots=True)
class ReferencePage:
    """What workers need to compute the served reference data (layout: `ref_page` in `_region.pxd`).

    Times in ns since the Unix epoch, cooked unless named raw; `refid` is an unsigned 32-bit number.
    """

    synchronised: bool = False
    local: bool = False
    local_activated: bool = False
    stepping: bool = False
    smoothing: bool = False
    leap_lock: bool = False
    leap: int = 3
    stratum: int = 16
    refid: int = 0
    ref_time_ns: int = 0
    root_delay_s: float = 1.0
    root_dispersion_s: float = 1.0
    dispersion_rate: float = 0.0
    precision: int = -20
    local_stratum: int = 10
    local_distance_s: float = 1.0
    local_wait_sync_s: float = 0.0
    local_wait_unsync_s: float = 0.0
    local_ref_time_ns: int = 0
    unsync_since_ns: int = 0
    map_raw_ns: int = 0
    map_freq: float = 0.0
    map_offset_s: float = 0.0
    slew_epoch: int = 0
    slew_last_s: float = 0.0
    step_count: int = 0
    mono_offset_s: float = 0.0
    mono_epoch: int = 0
    smooth_origin_ns: int = 0
    smooth_offset_s: float = 0.0
    smooth_freq: float = 0.0
    smooth_stages: tuple[tuple[float, float], ...] = NO_STAGES
    base_freq_ppm: float = 0.0


@dataclass(frozen=True, slots=True)
class SharedPlan:
    """Sizes of everything shared, from the configuration.

    `workers`: parts to make now (at least one: with `workers 0` control uses part 0 itself).
    `workers_max`: parts a reload may grow to. `log_blocks` and `map_pairs`: size of the client log shard and of the
    timestamp map of one worker (0: `noclientlog`). `ipv6_prefix`: bits by which the log aggregates IPv6 addresses.
    `table_bytes`: room of one copy of each table, by name. `nts`: room for server keys. `ke_processes`: NTS-KE
    processes (at least one with `nts`: with `ntsprocesses 0` control uses part 0 itself), `ke_log_blocks` the size of
    the client log shard of each.
    """

    workers: int
    workers_max: int = 0
    log_blocks: int = 0
    map_pairs: int = 0
    ipv6_prefix: int = 128
    table_bytes: MappingType[str, int] = field(
        default_factory=lambda: {"access": 16 << 20, "keys": 1 << 20, "peers": 64 << 10, "serving": 4096}
    )
    nts: bool = False
    ke_processes: int = 0
    ke_log_blocks: int = 0

    @property
    def log_bytes(self) -> int:
        """Bytes of one client log shard."""
        return shard_size(self.log_blocks) if self.log_blocks else 0

    @property
    def map_bytes(self) -> int:
        """Bytes of one timestamp map."""
        return map_size(self.map_pairs) if self.map_pairs else 0

    @property
    def ke_log_bytes(self) -> int:
        """Bytes of the client log shard of one NTS-KE process."""
        return shard_size(self.ke_log_blocks) if self.ke_log_blocks else 0


def _memfd(name: str, size: int) -> int:
    fd = os.memfd_create(f"ntpd-fast-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)
    return fd


class KeRegion:
    """What one NTS-KE process writes: its counters, then its client log shard."""

    def __init__(self, mapping: Mapping, log_bytes: int) -> None:
        self._mapping = mapping
        self._log_bytes = log_bytes

    @staticmethod
    def size(log_bytes: int) -> int:
        return round_to_page(KE_COUNTERS_BYTES + log_bytes)

    def counters(self) -> memoryview:
        """A buffer for `ntske_server.KeCounters`."""
        return self._mapping.buffer(0, KE_COUNTERS_BYTES)

    def log_memory(self) -> memoryview | None:
        """The client log shard as a buffer, None without one."""
        return self._mapping.buffer(KE_COUNTERS_BYTES, self._log_bytes) if self._log_bytes else None


class Shared:
    """All regions of one daemon. `create` in the supervisor, then `enter_control`/`enter_worker` in a child."""

    def __init__(self, plan: SharedPlan) -> None:
        self.plan = plan
        self.parts = max(plan.workers, plan.workers_max, 1)
        if self.parts > WORKERS_MAX:
            raise ValueError(f"at most {WORKERS_MAX} workers")
        self.control_fd = -1
        self.worker_fds: list[int] = []
        self.nts_fd = -1
        self.nts_ring: KeyRing | None = None
        self._control: ControlRegion | None = None
        self._workers: list[WorkerRegion] = []
        self._own_part: int | None = None
        self.ke_fds: list[int] = []
        self._ke: list[KeRegion] = []

    @classmethod
    def create(cls, plan: SharedPlan) -> Shared:
        """Make and lay out all regions; raises OSError when memory cannot be had."""
        shared = cls(plan)
        control_bytes = ControlRegion.plan(plan.table_bytes)
        shared.control_fd = _memfd("control", control_bytes)
        control = ControlRegion(Mapping(shared.control_fd, control_bytes, True))
        control.create(shared.parts, plan.table_bytes)
        # From here on this mapping, inherited by control, is the only writable one there can be.
        fcntl.fcntl(shared.control_fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)
        shared._control = control
        if plan.nts:
            shared.nts_fd = _memfd("nts", round_to_page(RING_BYTES))
            shared._map_nts(True)
            fcntl.fcntl(shared.nts_fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)
        worker_bytes = WorkerRegion.plan(plan.log_bytes, plan.map_bytes)
        for index in range(shared.parts):
            fd = _memfd(f"worker{index}", worker_bytes)
            shared.worker_fds.append(fd)
            worker = WorkerRegion(Mapping(fd, worker_bytes, True))
            worker.create(index, plan.log_bytes, plan.map_bytes)
            if log := worker.log_memory():
                init_shard(log, plan.log_blocks, os.urandom(20), plan.ipv6_prefix)
            if stamps := worker.map_memory():
                init_map(stamps, plan.map_pairs, int.from_bytes(os.urandom(8)))
            shared._workers.append(worker)
        for index in range(max(plan.ke_processes, 1) if plan.nts else 0):
            fd = _memfd(f"ntske{index}", KeRegion.size(plan.ke_log_bytes))
            shared.ke_fds.append(fd)
            ke = shared._map_ke(fd, True)
            if log := ke.log_memory():
                init_shard(log, plan.ke_log_blocks, os.urandom(20), plan.ipv6_prefix)
            shared._ke.append(ke)
        return shared

    def _map_ke(self, fd: int, writable: bool) -> KeRegion:
        return KeRegion(Mapping(fd, KeRegion.size(self.plan.ke_log_bytes), writable), self.plan.ke_log_bytes)

    def _map_nts(self, writable: bool) -> None:
        mapping = Mapping(self.nts_fd, round_to_page(RING_BYTES), writable)
        mapping.keep_out_of_dumps()
        self.nts_ring = KeyRing(mapping)

    @property
    def control(self) -> ControlRegion:
        assert self._control is not None
        return self._control

    def worker(self, index: int) -> WorkerRegion:
        """The region of worker `index`."""
        return self._workers[index]

    def ke(self, index: int) -> KeRegion:
        """The region of NTS-KE process `index`."""
        return self._ke[index]

    @property
    def ke_parts(self) -> int:
        """How many regions of NTS-KE processes there are."""
        return len(self._ke)

    @property
    def descriptors(self) -> list[int]:
        """Every memfd, for the list of what a child may keep."""
        return [self.control_fd, *self.worker_fds, *self.ke_fds, *([self.nts_fd] if self.nts_fd >= 0 else [])]

    def close_descriptors(self) -> None:
        """In a child that has entered: what is mapped stays mapped, nothing more can be."""
        for fd in self.descriptors:
            os.close(fd)
        self.control_fd = self.nts_fd = -1
        self.worker_fds = []
        self.ke_fds = []

    def _remap(self, control_writable: bool, writable_worker: int | None, writable_ke: int | None = None) -> None:
        # The inherited writable mappings go away with the objects that held them.
        if not control_writable:
            self._control = None
            control_bytes = ControlRegion.plan(self.plan.table_bytes)
            self._control = ControlRegion(Mapping(self.control_fd, control_bytes, False))
            if self.nts_fd >= 0:
                self._map_nts(False)
        self.control.attach()
        self._workers = []
        worker_bytes = WorkerRegion.plan(self.plan.log_bytes, self.plan.map_bytes)
        for index, fd in enumerate(self.worker_fds):
            worker = WorkerRegion(Mapping(fd, worker_bytes, index == writable_worker))
            worker.attach()
            self._workers.append(worker)
        self._ke = [self._map_ke(fd, index == writable_ke) for index, fd in enumerate(self.ke_fds)]

    def enter_control(self, *, serves: bool = False, exchanges_keys: bool = False) -> None:
        """In control: its own region writable (and made whole), those of others read-only.

        `serves`: control answers packets itself (`workers 0`) and writes part 0; `exchanges_keys`: the same with
        `ntsprocesses 0`.
        """
        self._own_part = 0 if serves else None
        self._remap(True, self._own_part, 0 if exchanges_keys else None)

    def enter_worker(self, index: int) -> None:
        """In worker `index`: its own region writable, everything else read-only."""
        self._remap(False, index)
        self.worker(index).next_generation()

    def enter_ke(self, index: int) -> None:
        """In NTS-KE process `index`: its own region writable, everything else read-only."""
        self._remap(False, None, index)

    def counters(self) -> dict[str, int]:
        """The sum over all workers of every named counter."""
        rows = [worker.counters() for worker in self._workers]
        return {name: sum(row[slot] for row in rows) for name, slot in COUNTER_NAMES.items()}

    def outcomes(self) -> list[int]:
        """The sum over all workers of every outcome (`_packet.OUTCOMES` names them)."""
        rows = [worker.counters() for worker in self._workers]
        return [sum(row[slot] for row in rows) for slot in range(32)]

    def worker_starts(self) -> int:
        """How often a worker was started, all workers together."""
        return sum(worker.generation for worker in self._workers)

    def fit_log(self, index: int, blocks: int) -> bool:
        """Have worker `index` keep its clients in so many blocks (at most those of the plan); false when it does.

        For whoever writes its region, or while nobody does. What was kept is forgotten and its memory given back.
        """
        pairs = blocks * self.plan.map_pairs // self.plan.log_blocks
        return self.worker(index).fit_log(blocks, pairs, int.from_bytes(os.urandom(8)))

    def publish_reference(self, page: ReferencePage) -> None:
        """Give workers new inputs; only control may."""
        self.control.publish(page)

    def write_table(self, name: str, data: bytes) -> int:
        """Write the next version of a table, unless a running worker still reads the copy it replaces.

        Never waits: BlockingIOError then. A worker moves on at its next turn (a fraction of a second when idle).
        """
        # Our own part reads tables in its turns only, never while we are here.
        others = (worker for index, worker in enumerate(self._workers) if index != self._own_part)
        used = [version for worker in others if (version := worker.used_version(name)) is not None]
        return self.control.write_table(name, data, used)
