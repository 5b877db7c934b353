"""Shared memory: the latch under a writer that dies or is slow, tables, and who may write what."""

import os
import random
import signal
import struct
import time

import pytest

from ntpd_fast._clientlog import ClientLogReader, ClientLogWriter
from ntpd_fast._region import ControlRegion, Mapping
from ntpd_fast._tsmap import TimestampMap, TimestampMapReader
from ntpd_fast.server.shared import WORKERS_MAX, ReferencePage, Shared, SharedPlan

PLAN = SharedPlan(2, table_bytes={"access": 8192, "keys": 4096, "peers": 4096, "serving": 4096})

# offsets in the control region: header 64 bytes, 4 table entries of 32, then the latch (64 bytes, 2 slots of 512)
LATCH = 64 + 4 * 48
SLOTS = LATCH + 64


def sequence(shared: Shared) -> int:
    return shared.control.sequence


def test_a_published_page_is_in_both_slots() -> None:
    shared = Shared.create(PLAN)
    shared.publish_reference(ReferencePage(refid=0x01020304, precision=-25))
    mapping = Mapping(shared.control_fd, 4096, False)
    assert sequence(shared) % 2 == 0
    assert mapping.read(SLOTS, 512) == mapping.read(SLOTS + 512, 512)
    assert struct.unpack_from("=I", mapping.read(SLOTS, 8), 4)[0] == 0x01020304


def test_a_successor_reads_the_page_as_it_was_published() -> None:
    shared = Shared.create(PLAN)
    page = ReferencePage(
        synchronised=True,
        local_activated=True,
        smoothing=True,
        leap=1,
        stratum=3,
        refid=0xC0000201,
        ref_time_ns=10**18,
        root_delay_s=0.25,
        dispersion_rate=1e-6,
        map_raw_ns=10**18 + 1,
        map_freq=-0.01,
        map_offset_s=2.5,
        slew_epoch=77,
        smooth_stages=((1e-9, 5.0), (0.0, 6.0), (-1e-9, 5.0)),
        base_freq_ppm=-12.5,
    )
    shared.publish_reference(page)
    assert ReferencePage(**shared.control.reference()) == page


def crash_points() -> list[tuple[int, int, int]]:
    """(sequence parity, content of slot 0, content of slot 1) at each moment a writer can die; old page 1, new 2."""
    return [(1, 1, 1), (1, 99, 1), (1, 2, 1), (0, 2, 1), (0, 2, 99)]


@pytest.mark.parametrize(("odd", "slot0", "slot1"), crash_points())
def test_a_new_writer_repairs_the_latch_of_one_that_died(odd: int, slot0: int, slot1: int) -> None:
    fd = os.memfd_create("latch")
    size = ControlRegion.plan({})
    os.ftruncate(fd, size)
    mapping = Mapping(fd, size, True)
    region = ControlRegion(mapping)
    region.create(1, {})
    region.publish(ReferencePage())
    start = region.sequence
    mapping.write(LATCH, struct.pack("=Q", start + odd))
    mapping.write(SLOTS, bytes([slot0]) * 512)
    mapping.write(SLOTS + 512, bytes([slot1]) * 512)
    stable = bytes([slot1 if odd else slot0]) * 512
    heir = ControlRegion(mapping)
    heir.attach()
    assert heir.sequence % 2 == 0
    assert mapping.read(SLOTS, 512) == stable
    assert mapping.read(SLOTS + 512, 512) == stable
    os.close(fd)


def test_readers_see_no_torn_page_while_a_writer_is_killed_again_and_again() -> None:
    """A page is written with one number in all its fields; every read must find them equal."""
    shared = Shared.create(PLAN)
    shared.publish_reference(ReferencePage(mono_epoch=1, refid=1))
    deadline = time.monotonic() + 1.5
    reads = 0
    rng = random.Random(5)
    while time.monotonic() < deadline:
        pid = os.fork()
        if pid == 0:
            shared.enter_control()
            number = 1
            while True:
                number = number % 0xFFFF + 1
                shared.publish_reference(
                    ReferencePage(mono_epoch=number, refid=number, ref_time_ns=number, base_freq_ppm=float(number))
                )
        until = time.monotonic() + rng.uniform(0.002, 0.02)
        while time.monotonic() < until:
            region = shared.control
            region.attach_read_only()
            epoch, refid, ref_time_ns, base = region.peek()
            assert epoch == refid
            assert ref_time_ns in (0, epoch)
            assert base in (0.0, epoch)
            reads += 1
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert reads > 1000


def test_only_the_owner_can_write() -> None:
    shared = Shared.create(PLAN)
    with pytest.raises(OSError, match="map"):
        Mapping(shared.control_fd, 4096, True)  # sealed: the first writable mapping stays the only one
    pid = os.fork()
    if pid == 0:
        shared.enter_worker(1)
        failures = 0
        for attempt in (
            lambda: shared.publish_reference(ReferencePage()),
            lambda: setattr(shared.worker(0), "heartbeat_ns", 1),
            lambda: setattr(shared.worker(0), "state", "serving"),
            lambda: shared.control.write_table("access", b"x"),
            lambda: setattr(shared.control, "log_reset", 1),
        ):
            try:
                attempt()
            except ValueError:
                failures += 1
        shared.worker(1).heartbeat_ns = 77
        os._exit(failures)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert shared.worker(1).heartbeat_ns == 77
    assert shared.worker(1).generation == 1
    assert shared.worker(0).generation == 0


def test_a_table_has_versions_and_a_bound() -> None:
    shared = Shared.create(PLAN)
    assert shared.control.read_table("access") is None
    assert shared.write_table("access", b"first") == 1
    assert shared.write_table("access", b"second") == 2
    assert shared.control.read_table("access") == b"second"
    full = b"x" * shared.control.table_capacity("access")
    shared.write_table("access", full)
    with pytest.raises(ValueError, match="there is room for"):
        shared.write_table("access", full + b"x")


def test_a_copy_that_a_worker_reads_is_not_overwritten() -> None:
    shared = Shared.create(PLAN)
    for _ in range(3):
        shared.write_table("access", b"x")
    with pytest.raises(BlockingIOError):
        shared.control.write_table("access", b"y", [1])  # version 4 goes where version 1 was
    assert shared.control.write_table("access", b"y", [2, 3]) == 4


def test_a_process_that_answers_itself_does_not_wait_for_itself() -> None:
    class Reading:
        def used_version(self, name: str) -> int:
            return 1

    shared = Shared.create(PLAN)
    for _ in range(3):
        shared.write_table("access", b"x")
    shared._workers = [Reading()]  # type: ignore[list-item]
    with pytest.raises(BlockingIOError):
        shared.write_table("access", b"y")
    shared._own_part = 0
    assert shared.write_table("access", b"y") == 4


def test_the_number_of_workers_is_bounded() -> None:
    with pytest.raises(ValueError, match="at most"):
        Shared(SharedPlan(WORKERS_MAX + 1))


def test_a_foreign_region_is_refused() -> None:
    fd = os.memfd_create("foreign")
    os.ftruncate(fd, ControlRegion.plan({}))
    region = ControlRegion(Mapping(fd, ControlRegion.plan({}), True))
    with pytest.raises(ValueError, match="not a control region"):
        region.attach()
    os.close(fd)


def test_a_client_log_that_gets_less_room_begins_anew_and_gives_memory_back() -> None:
    plan = SharedPlan(1, log_blocks=1000, map_pairs=16_000)
    shared = Shared.create(plan)
    region = shared.worker(0)
    log, stamps = region.log_memory(), region.map_memory()
    assert log is not None
    assert stamps is not None
    writer, reader = ClientLogWriter(log), ClientLogReader(log)
    for number in range(40_000):
        writer.hit(number.to_bytes(4), 0, number << 20)
    TimestampMap(stamps).save(1 << 32, (1 << 32) + 1, 1, 0, 0)
    used, evictions = reader.used, reader.evictions
    assert used == reader.capacity == 16_000
    blocks_before = os.fstat(shared.worker_fds[0]).st_blocks
    assert not shared.fit_log(0, 1000)
    assert shared.fit_log(0, 10)
    assert os.fstat(shared.worker_fds[0]).st_blocks < blocks_before / 20
    # whoever reads goes on with the same view
    assert (reader.used, reader.evictions, reader.capacity) == (0, evictions, 16_000)
    assert reader.next(0, 0, 0) == 16_000
    assert reader.find((39_999).to_bytes(4)) is None
    assert TimestampMapReader(stamps).held()[0] == 0
    fresh = ClientLogWriter(log)
    for number in range(1000):
        fresh.hit(number.to_bytes(4), 0, 1 << 40)
    assert reader.used == 160
    found = [index for index in range(0, 200) if reader.next(index, 0, 0, index + 1) == index and index < 160]
    assert len(found) == 160
    assert reader.next(160, 0, 0) == 16_000
    assert reader.find((999).to_bytes(4)) in found
    assert shared.fit_log(0, 1000)
    for wrong in 0, 1001:
        with pytest.raises(ValueError):
            shared.fit_log(0, wrong)
    shared.enter_control()
    with pytest.raises(ValueError):
        shared.fit_log(0, 10)


def test_without_a_client_log_there_is_nothing_to_fit() -> None:
    assert not Shared.create(SharedPlan(1)).worker(0).fit_log(1, 16, 1)
