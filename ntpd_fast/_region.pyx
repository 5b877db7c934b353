"""Mapping of shared memory, and the two ends of the reference page's latch.

The layouts are in `_region.pxd`. Everything here is set-up and control-plane code, except `ref_read` (inline, in the
.pxd), which workers call once a batch.
"""

import mmap as _mmap
import os

from cpython.buffer cimport PyBUF_READ, PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t, UINT64_MAX
from libc.string cimport memcpy, memset

from ntpd_fast._clientlog cimport clientlog_header, clientlog_size
from ntpd_fast._tsmap cimport tsmap_init, tsmap_size

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset)
    int munmap(void *addr, size_t length)
    int madvise(void *addr, size_t length, int advice)
    int PROT_READ, PROT_WRITE, MAP_SHARED, MADV_DONTDUMP, MADV_REMOVE
    void *MAP_FAILED

cdef uint64_t CONTROL_MAGIC = 0x314C52544E46544EULL     # "NTFNTRL1", little-endian
cdef uint64_t WORKER_MAGIC = 0x31524B5746544EULL        # "NTFWKR1"

PAGE = 4096

STATES = {"empty": WORKER_EMPTY, "ready": WORKER_READY, "serving": WORKER_SERVING, "stopped": WORKER_STOPPED}
TABLES = {"access": TABLE_ACCESS, "keys": TABLE_KEYS, "peers": TABLE_PEERS, "serving": TABLE_SERVING}
FLAGS = {
    "synchronised": REF_SYNCHRONISED,
    "local": REF_LOCAL,
    "local_activated": REF_LOCAL_ACTIVATED,
    "stepping": REF_STEPPING,
    "smoothing": REF_SMOOTHING,
    "leap_lock": REF_LEAP_LOCK,
}
COUNTER_NAMES = {
    "ntp_hits": COUNT_NTP_HITS,
    "ntp_auth_hits": COUNT_NTP_AUTH,
    "ntp_interleaved_hits": COUNT_NTP_INTERLEAVED,
    "ntp_daemon_rx_timestamps": COUNT_RX_DAEMON,
    "ntp_kernel_rx_timestamps": COUNT_RX_KERNEL,
    "ntp_hw_rx_timestamps": COUNT_RX_HARDWARE,
    "ntp_daemon_tx_timestamps": COUNT_TX_DAEMON,
    "ntp_kernel_tx_timestamps": COUNT_TX_KERNEL,
    "ntp_hw_tx_timestamps": COUNT_TX_HARDWARE,
    "send_errors": COUNT_SEND_ERRORS,
    "receive_errors": COUNT_RECV_ERRORS,
    "batches": COUNT_BATCHES,
    "batches_full": COUNT_BATCH_FULL,
    "control_sent": COUNT_CONTROL_SENT,
    "control_full": COUNT_CONTROL_FULL,
    "tx_stamps_read": COUNT_TXTS_READ,
    "tx_stamps_unmatched": COUNT_TXTS_UNMATCHED,
    "tx_stamps_rejected": COUNT_TXTS_REJECTED,
    "signd_full": COUNT_SIGND_FULL,
    "kernel_drops": COUNT_KERNEL_DROPS,
    "error_queue_other": COUNT_ERRQ_OTHER,
}


cdef void ref_write(ref_latch *latch, const ref_page *page) noexcept nogil:
    """Publish a page. Only one process may ever write a latch; call `ref_repair` first in a new one."""
    cdef uint64_t sequence = latch.sequence
    nf_store_release(&latch.sequence, sequence + 1)     # readers use slot 1 now
    nf_fence()
    memcpy(latch.slots[0], page, sizeof(ref_page))
    nf_fence()
    nf_store_release(&latch.sequence, sequence + 2)     # readers use slot 0 now
    nf_fence()
    memcpy(latch.slots[1], page, sizeof(ref_page))
    nf_fence()


cdef void ref_repair(ref_latch *latch) noexcept nogil:
    """Make the latch whole after its writer died at any point of `ref_write`."""
    if latch.sequence & 1:
        memcpy(latch.slots[0], latch.slots[1], PAGE_BYTES)
        nf_fence()
        nf_store_release(&latch.sequence, latch.sequence + 1)
    nf_fence()
    memcpy(latch.slots[1], latch.slots[0], PAGE_BYTES)
    nf_fence()


def serving_table(net_correction=False, signd=False, limit=None):
    """The bytes of a serving table; `limit` is (interval, burst, leak, kod) of `ratelimit`, or None."""
    cdef serving_options options
    memset(&options, 0, sizeof(options))
    options.magic = SERVING_MAGIC
    options.net_correction = bool(net_correction)
    options.signd = bool(signd)
    if limit is not None:
        options.limit_enabled = 1
        options.limit_interval, options.limit_burst, options.limit_leak, options.limit_kod = limit
    return (<const char *>&options)[:sizeof(options)]


def round_to_page(size):
    """The size in bytes rounded up to whole pages."""
    return (size + PAGE - 1) // PAGE * PAGE


cdef class Mapping:
    """A memfd mapped shared, read-only or writable. The descriptor stays the caller's."""

    def __cinit__(self, int fd, size_t size, bint writable):
        cdef void *address
        cdef int protection = PROT_READ | PROT_WRITE if writable else PROT_READ
        if os.fstat(fd).st_size < <object>size:
            raise ValueError(f"shared memory of {os.fstat(fd).st_size} bytes cannot be mapped for {size}")
        with nogil:
            address = mmap(NULL, size, protection, MAP_SHARED, fd, 0)
        if address == MAP_FAILED:
            raise OSError("cannot map shared memory")
        self.address = <uint8_t *>address
        self.size = size
        self.fd = fd
        self.writable = writable

    def __dealloc__(self):
        if self.address != NULL:
            munmap(self.address, self.size)

    def close(self):
        """Unmap; everything that points into the region must be gone."""
        if self.address != NULL:
            munmap(self.address, self.size)
            self.address = NULL

    def keep_out_of_dumps(self):
        """Leave these pages out of core dumps (secrets)."""
        if self.address != NULL and madvise(self.address, self.size, MADV_DONTDUMP) != 0:
            raise OSError("cannot keep shared memory out of core dumps")

    def clear(self, size_t offset, size_t size):
        """Zero whole pages, and give them back to the system where it takes them (not from locked memory)."""
        if not self.writable or offset % PAGE or size % PAGE or offset > self.size or size > self.size - offset:
            raise ValueError("not whole pages of a region of ours")
        if madvise(self.address + offset, size, MADV_REMOVE) != 0:
            memset(self.address + offset, 0, size)

    def buffer(self, size_t offset, size_t size):
        """A view of some bytes; it must not outlive the mapping."""
        if self.address == NULL or offset > self.size or size > self.size - offset:
            raise ValueError("outside the mapped region")
        return PyMemoryView_FromMemory(<char *>self.address + offset, size,
                                       PyBUF_WRITE if self.writable else PyBUF_READ)

    def read(self, size_t offset, size_t size):
        """A copy of some bytes, for tests and reports."""
        if self.address == NULL or offset > self.size or size > self.size - offset:
            raise ValueError("outside the mapped region")
        return (<const char *>self.address)[offset:offset + size]

    def write(self, size_t offset, bytes data):
        """Overwrite some bytes, for tests and for tables that Python builds."""
        cdef const char *source = data
        cdef size_t size = len(data)
        if not self.writable:
            raise ValueError("the region is mapped read-only")
        if self.address == NULL or offset > self.size or size > self.size - offset:
            raise ValueError("outside the mapped region")
        memcpy(self.address + offset, source, size)


cdef class ControlRegion:
    """Control's region: reference page, table directory and tables.

    `table_bytes` gives the room of one copy of each table by name; three copies of each are kept.
    """

    @staticmethod
    def plan(table_bytes):
        """Bytes the region needs for tables of the given capacities (by name of `TABLES`)."""
        total = round_to_page(sizeof(control_region))
        for name in TABLES:
            total += TABLE_VERSIONS * round_to_page(table_bytes.get(name, 0))
        return total

    def __cinit__(self, Mapping mapping):
        if mapping.size < sizeof(control_region):
            raise ValueError("the control region is too small")
        self.mapping = mapping
        self.region = <control_region *>mapping.address
        memset(&self.page, 0, sizeof(ref_page))

    def create(self, workers_max, table_bytes):
        """Lay out a fresh (zeroed) region. A random hash seed is drawn once, for the life of the daemon."""
        cdef bytes probe
        cdef uint64_t offset = round_to_page(sizeof(control_region))
        cdef int which
        for name, which in TABLES.items():
            capacity = round_to_page(table_bytes.get(name, 0))
            self.region.tables[which].current = 0
            self.region.tables[which].offset = offset
            self.region.tables[which].capacity = capacity
            offset += TABLE_VERSIONS * capacity
        if offset > self.mapping.size:
            raise ValueError("the control region is smaller than its plan")
        probe = os.urandom(sizeof(self.region.probe))
        memcpy(self.region.probe, <const char *>probe, sizeof(self.region.probe))
        self.region.hash_seed = int.from_bytes(os.urandom(8), "little") | 1
        self.region.workers_max = workers_max
        self.region.size = self.mapping.size
        self.region.version = REGION_VERSION
        self.page.precision = -20
        ref_write(&self.region.reference, &self.page)
        nf_store_release(&self.region.magic, CONTROL_MAGIC)

    def attach(self):
        """Check an existing region; as its new writer, make the latch whole first."""
        cdef uint64_t sequence = UINT64_MAX
        if self.region.magic != CONTROL_MAGIC or self.region.version != REGION_VERSION:
            raise ValueError("not a control region of this version")
        if self.mapping.writable:
            ref_repair(&self.region.reference)
        ref_read(&self.region.reference, &self.page, &sequence)

    def attach_read_only(self):
        """Read the current page without touching the latch, whatever this mapping could do."""
        cdef uint64_t sequence = UINT64_MAX
        ref_read(&self.region.reference, &self.page, &sequence)

    def peek(self):
        """Some fields of the page read last, spread over its length: mono epoch, refid, reference time, base frequency."""
        return self.page.mono_epoch, self.page.refid, self.page.ref_time_ns, self.page.base_freq_ppm

    @property
    def probe(self):
        return (<const char *>self.region.probe)[:sizeof(self.region.probe)]

    @property
    def hash_seed(self):
        return self.region.hash_seed

    @property
    def log_reset(self):
        """Reset state of the client log (`clients -r`), as the writers of its shards follow it."""
        return nf_load_acquire(&self.region.log_reset)

    @log_reset.setter
    def log_reset(self, state):
        if not self.mapping.writable:
            raise ValueError("the region is mapped read-only")
        nf_store_release(&self.region.log_reset, <uint64_t>state)

    @property
    def sequence(self):
        """The latch's sequence number: even when no write is in progress."""
        return nf_load_acquire(&self.region.reference.sequence)

    def publish(self, page):
        """Write a `server.shared.ReferencePage` (its attributes have the names of `ref_page`'s fields)."""
        cdef ref_page *out = &self.page
        cdef int i
        cdef uint32_t flags = 0
        if not self.mapping.writable:
            raise ValueError("the region is mapped read-only")
        for name, bit in FLAGS.items():
            if getattr(page, name):
                flags |= <uint32_t>bit
        out.flags = flags
        out.refid = page.refid
        out.mono_epoch = page.mono_epoch
        out.leap = page.leap
        out.stratum = page.stratum
        out.local_stratum = page.local_stratum
        out.precision = page.precision
        out.slew_epoch = page.slew_epoch & 0xFFFF
        out.step_count = page.step_count & 0xFFFFFFFF
        out.ref_time_ns = page.ref_time_ns
        out.local_ref_time_ns = page.local_ref_time_ns
        out.unsync_since_ns = page.unsync_since_ns
        out.root_delay_s = page.root_delay_s
        out.root_dispersion_s = page.root_dispersion_s
        out.dispersion_rate = page.dispersion_rate
        out.local_distance_s = page.local_distance_s
        out.local_wait_sync_s = page.local_wait_sync_s
        out.local_wait_unsync_s = page.local_wait_unsync_s
        out.map_raw_ns = page.map_raw_ns
        out.map_freq = page.map_freq
        out.map_offset_s = page.map_offset_s
        out.slew_last_s = page.slew_last_s
        out.mono_offset_s = page.mono_offset_s
        out.smooth_origin_ns = page.smooth_origin_ns
        out.smooth_offset_s = page.smooth_offset_s
        out.smooth_freq = page.smooth_freq
        for i in range(SMOOTH_STAGES):
            out.smooth_wander[i], out.smooth_length_s[i] = page.smooth_stages[i]
        out.base_freq_ppm = page.base_freq_ppm
        ref_write(&self.region.reference, out)

    def reference(self):
        """The page published last, as a dict with the names of `publish`; of use to the successor of a dead writer."""
        cdef ref_page page
        cdef uint64_t sequence = UINT64_MAX
        ref_read(&self.region.reference, &page, &sequence)
        fields = {name: bool(page.flags & <uint32_t>bit) for name, bit in FLAGS.items()}
        fields.update(
            refid=page.refid, mono_epoch=page.mono_epoch, leap=page.leap, stratum=page.stratum,
            local_stratum=page.local_stratum, precision=page.precision, slew_epoch=page.slew_epoch,
            step_count=page.step_count, ref_time_ns=page.ref_time_ns, local_ref_time_ns=page.local_ref_time_ns,
            unsync_since_ns=page.unsync_since_ns, root_delay_s=page.root_delay_s,
            root_dispersion_s=page.root_dispersion_s, dispersion_rate=page.dispersion_rate,
            local_distance_s=page.local_distance_s, local_wait_sync_s=page.local_wait_sync_s,
            local_wait_unsync_s=page.local_wait_unsync_s, map_raw_ns=page.map_raw_ns, map_freq=page.map_freq,
            map_offset_s=page.map_offset_s, slew_last_s=page.slew_last_s, mono_offset_s=page.mono_offset_s,
            smooth_origin_ns=page.smooth_origin_ns, smooth_offset_s=page.smooth_offset_s,
            smooth_freq=page.smooth_freq,
            smooth_stages=tuple([(page.smooth_wander[i], page.smooth_length_s[i]) for i in range(SMOOTH_STAGES)]),
            base_freq_ppm=page.base_freq_ppm,
        )
        return fields

    @property
    def base_freq_ppm(self):
        """Kernel frequency (ppm, driver's sign) that the supervisor restores when control is gone."""
        cdef ref_page page
        cdef uint64_t sequence = UINT64_MAX
        ref_read(&self.region.reference, &page, &sequence)
        return page.base_freq_ppm

    def table_version(self, name):
        """Number of the current version of a table, 0 when there is none."""
        return nf_load_acquire(&self.region.tables[<int>TABLES[name]].current)

    def table_capacity(self, name):
        """Bytes of room in one copy of a table."""
        return self.region.tables[<int>TABLES[name]].capacity

    def write_table(self, name, bytes data, in_use=()):
        """Write the next version of a table and make it current.

        `in_use`: version numbers that running workers still read. Raises ValueError when the data do not fit, and
        BlockingIOError when a worker still reads the copy to be overwritten (try again after its next batch).
        """
        cdef int which = TABLES[name]
        cdef table_entry *entry = &self.region.tables[which]
        cdef uint64_t version = entry.current + 1
        cdef const char *source = data
        cdef size_t size = len(data)
        if not self.mapping.writable:
            raise ValueError("the region is mapped read-only")
        if size > entry.capacity:
            raise ValueError(f"the {name} table needs {size} bytes, there is room for {entry.capacity}")
        for used in in_use:
            if used != 0 and used != version and used % TABLE_VERSIONS == version % TABLE_VERSIONS:
                raise BlockingIOError(f"a worker still reads version {used} of the {name} table")
        memcpy((<uint8_t *>self.region) + entry.offset + (version % TABLE_VERSIONS) * entry.capacity, source, size)
        entry.sizes[version % TABLE_VERSIONS] = size
        nf_store_release(&entry.current, version)
        return version

    def read_table(self, name):
        """The bytes of the current copy, or None. Two halves of different ones if it was replaced more than once
        meanwhile: compare `table_version` before and after.
        """
        cdef uint64_t version
        cdef int which = TABLES[name]
        cdef const uint8_t *data = table_current(self.region, which, &version)
        if data == NULL:
            return None
        size = min(self.region.tables[which].sizes[version % TABLE_VERSIONS], self.region.tables[which].capacity)
        return (<const char *>data)[:size]


cdef class WorkerRegion:
    """One worker's region: state, heartbeat, counters, client log shard."""

    @staticmethod
    def plan(log_bytes, map_bytes):
        """Bytes the region needs with a client log shard and a timestamp map of the given sizes (0: none)."""
        return round_to_page(sizeof(worker_region)) + round_to_page(log_bytes) + round_to_page(map_bytes)

    def __cinit__(self, Mapping mapping):
        if mapping.size < sizeof(worker_region):
            raise ValueError("the worker region is too small")
        self.mapping = mapping
        self.region = <worker_region *>mapping.address

    def create(self, index, log_bytes, map_bytes):
        """Lay out a fresh (zeroed) region."""
        cdef int i
        self.region.index = index
        self.region.size = self.mapping.size
        self.region.version = REGION_VERSION
        self.region.log_offset = round_to_page(sizeof(worker_region)) if log_bytes else 0
        self.region.log_size = log_bytes
        self.region.map_offset = round_to_page(sizeof(worker_region)) + round_to_page(log_bytes) if map_bytes else 0
        self.region.map_size = map_bytes
        for i in range(TABLE_COUNT):
            self.region.used[i] = UINT64_MAX
        nf_store_release(&self.region.magic, WORKER_MAGIC)

    def attach(self):
        """Check an existing region."""
        if self.region.magic != WORKER_MAGIC or self.region.version != REGION_VERSION:
            raise ValueError("not a worker region of this version")

    def _must_write(self):
        if not self.mapping.writable:
            raise ValueError("the region is mapped read-only")

    @property
    def index(self):
        return self.region.index

    @property
    def log_offset(self):
        return self.region.log_offset

    @property
    def log_size(self):
        return self.region.log_size

    @property
    def map_offset(self):
        return self.region.map_offset

    @property
    def map_size(self):
        return self.region.map_size

    def log_memory(self):
        """The client log shard as a buffer (writable where the region is), None without one."""
        return self.mapping.buffer(self.region.log_offset, self.region.log_size) if self.region.log_size else None

    def map_memory(self):
        """The timestamp map as a buffer (writable where the region is), None without one."""
        return self.mapping.buffer(self.region.map_offset, self.region.map_size) if self.region.map_size else None

    def fit_log(self, uint32_t blocks, uint32_t pairs, uint64_t seed):
        """Keep clients in so many blocks, and so many timestamp pairs, from now on; false when that is so already.

        What was kept is forgotten, its memory given back; counters go on. For whoever writes the region.
        """
        cdef clientlog_header kept
        cdef clientlog_header *header = <clientlog_header *>(self.mapping.address + self.region.log_offset)
        self._must_write()
        if self.region.log_offset == 0 or header.blocks == blocks:
            return False
        if blocks < 1 or clientlog_size(blocks) > self.region.log_size or tsmap_size(pairs) > self.region.map_size:
            raise ValueError("no room for so many")
        memcpy(&kept, header, sizeof(kept))
        kept.blocks = blocks
        kept.size = clientlog_size(blocks)
        kept.used = 0
        self.mapping.clear(self.region.log_offset, round_to_page(self.region.log_size))
        self.mapping.clear(self.region.map_offset, round_to_page(self.region.map_size))
        memcpy(header, &kept, sizeof(kept))
        tsmap_init(self.mapping.address + self.region.map_offset, self.region.map_size, pairs, seed)
        return True

    @property
    def state(self):
        """A name of `STATES`."""
        value = nf_load_acquire(&self.region.state)
        for name, number in STATES.items():
            if number == value:
                return name
        return "empty"

    @state.setter
    def state(self, name):
        self._must_write()
        nf_store_release(&self.region.state, <uint64_t>STATES[name])

    @property
    def heartbeat_ns(self):
        """CLOCK_MONOTONIC of the worker's last turn, in ns; 0 before the first."""
        return nf_load_acquire(&self.region.heartbeat_ns)

    @heartbeat_ns.setter
    def heartbeat_ns(self, value):
        self._must_write()
        nf_store_release(&self.region.heartbeat_ns, <uint64_t>value)

    @property
    def generation(self):
        return self.region.generation

    def next_generation(self):
        """A new process takes over this region."""
        self._must_write()
        self.region.generation += 1

    def used_version(self, name):
        """The version of a table this worker reads, None when it is not running."""
        cdef uint64_t value = nf_load_acquire(&self.region.used[<int>TABLES[name]])
        return None if value == UINT64_MAX else value

    def forget_tables(self):
        """A worker that has ended reads no table any more."""
        cdef int i
        self._must_write()
        for i in range(TABLE_COUNT):
            nf_store_release(&self.region.used[i], UINT64_MAX)

    def counters(self):
        """All counters, in the order of the region."""
        cdef int i
        return [nf_load_relaxed(&self.region.counters[i]) for i in range(<int>COUNTERS)]
