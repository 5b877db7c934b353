"""Shared memory: every layout that crosses a process boundary, declared once.

Rules: one writer per structure; small pages go through a two-slot latch (a reader never waits for a preempted
writer); big tables are immutable versions, named by the table directory. Sizes are fixed when the region is made.
Times are int64 nanoseconds since the Unix epoch unless a name says otherwise; `raw` is the system clock,
`cooked` the corrected one (sync-engine §8.2).
"""

from libc.stdint cimport int8_t, uint8_t, uint16_t, uint32_t, uint64_t, int32_t, int64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <stdint.h>
    static inline uint64_t nf_load_acquire(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline uint64_t nf_load_relaxed(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
    static inline void nf_store_release(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline void nf_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
    static inline void nf_fence_acquire(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
    """
    uint64_t nf_load_acquire(const uint64_t *p) noexcept nogil
    uint64_t nf_load_relaxed(const uint64_t *p) noexcept nogil
    void nf_store_release(uint64_t *p, uint64_t v) noexcept nogil
    void nf_fence() noexcept nogil
    void nf_fence_acquire() noexcept nogil

cdef enum:
    REGION_VERSION = 1
    PAGE_BYTES = 512            # room of one latch slot
    SMOOTH_STAGES = 3

# ref_page.flags
cdef enum:
    REF_SYNCHRONISED = 1        # an upstream reference has been accepted and not lost
    REF_LOCAL = 2               # `local` is enabled
    REF_LOCAL_ACTIVATED = 4     # its `activate` condition has been met (latched by control)
    REF_STEPPING = 8            # the clock is being stepped at this moment: answer nothing
    REF_SMOOTHING = 16          # served time is smoothed (mode 4 and 5 answers only)
    REF_LEAP_LOCK = 32          # a leap second is in progress: LI=3 whatever else holds

ctypedef struct ref_page:
    # Inputs from which a worker computes what it serves (server-datapath §5, §6); control is the only writer.
    uint32_t flags              # REF_*
    uint32_t refid              # host order; of the upstream reference
    uint32_t mono_epoch         # F323 epoch
    uint8_t leap                # LI of the upstream reference, 0..3
    uint8_t stratum             # own stratum when synchronised, 1..16
    uint8_t local_stratum       # 1..15
    int8_t precision            # log2 s of the clock
    uint16_t slew_epoch         # counts clock adjustments
    uint16_t pad0
    uint32_t step_count         # counts clock steps
    int64_t ref_time_ns         # cooked time of the last reference update, already fuzzed
    int64_t local_ref_time_ns   # reference time served in local mode, already fuzzed
    int64_t unsync_since_ns     # cooked time at which the reference was lost (or the start)
    double root_delay_s         # at ref_time
    double root_dispersion_s    # at ref_time
    double dispersion_rate      # s/s growth: skew + |residual frequency| + maxclockerror + slew in progress
    double local_distance_s     # `local distance`
    double local_wait_sync_s    # `local waitsynced`
    double local_wait_unsync_s  # `local waitunsynced`
    int64_t map_raw_ns          # cooked = raw + map_freq * (raw - map_raw) - map_offset
    double map_freq
    double map_offset_s
    double slew_last_s          # doffset of the last adjustment (for late TX stamps)
    double mono_offset_s        # F323: sum of offset corrections since the last step
    int64_t smooth_origin_ns    # cooked
    double smooth_offset_s
    double smooth_freq
    double smooth_wander[3]     # s/s^2 of each stage
    double smooth_length_s[3]
    double base_freq_ppm        # kernel frequency to return to when control is gone (hardware convention of the driver)

ctypedef struct ref_latch:
    uint64_t sequence           # odd: slot 1 is the stable one
    uint64_t pad[7]
    uint8_t slots[2][512]

# table directory entries
cdef enum:
    TABLE_ACCESS = 0
    TABLE_KEYS = 1
    TABLE_PEERS = 2
    TABLE_SERVING = 3
    TABLE_COUNT = 4
    TABLE_VERSIONS = 3          # copies of each: one in use, one being adopted, one to write

ctypedef struct table_entry:
    uint64_t current            # version number, 0: none yet; its copy is current % TABLE_VERSIONS
    uint64_t offset             # of copy 0 from the start of the region
    uint64_t capacity           # bytes of one copy
    uint64_t sizes[3]           # bytes used of each copy

# The serving table: what a reload may change for running workers.
cdef enum:
    SERVING_MAGIC = 0x56524553  # "SERV"

ctypedef struct serving_options:
    uint32_t magic
    int32_t net_correction      # answer field 0x010A (`ptpport`)
    int32_t signd               # hand MS-SNTP on (`ntpsigndsocket`)
    int32_t limit_enabled       # `ratelimit`
    int32_t limit_interval
    int32_t limit_burst
    int32_t limit_leak
    int32_t limit_kod

ctypedef struct control_region:
    uint64_t magic
    uint32_t version
    uint32_t workers_max
    uint64_t size
    uint64_t hash_seed          # of client logs: survives the death of a worker
    uint64_t log_reset          # `clients -r`: reset state of the client log
    uint8_t probe[16]           # random: what the daemon asks its own server sockets with (server/selfcheck.py)
    uint64_t pad[1]
    table_entry tables[4]
    ref_latch reference

# worker_region.counters: outcomes first (see _packet), then these
cdef enum:
    COUNT_OUTCOMES = 32                 # slots reserved for outcomes
    COUNT_NTP_HITS = 32                 # requests that passed parse, access and mode gates
    COUNT_NTP_AUTH = 33                 # requests with a good MAC or NTS authenticator, no KoD
    COUNT_NTP_INTERLEAVED = 34
    COUNT_RX_DAEMON = 35                # source of the receive stamp of each answered candidate
    COUNT_RX_KERNEL = 36
    COUNT_RX_HARDWARE = 37
    COUNT_TX_DAEMON = 38                # source of the transmit stamp of each answer
    COUNT_TX_KERNEL = 39
    COUNT_TX_HARDWARE = 40
    COUNT_SEND_ERRORS = 41              # answers the kernel did not take
    COUNT_RECV_ERRORS = 42
    COUNT_BATCHES = 43                  # recvmmsg calls that returned something
    COUNT_BATCH_FULL = 44
    COUNT_CONTROL_SENT = 45             # packets handed to control
    COUNT_CONTROL_FULL = 46             # packets control had no room for
    COUNT_TXTS_READ = 47                # kernel or hardware transmit stamps taken from the error queue
    COUNT_TXTS_UNMATCHED = 48           # stamps that fit no saved answer
    COUNT_TXTS_REJECTED = 49            # stamps outside the accepted range
    COUNT_SIGND_FULL = 50
    COUNT_KERNEL_DROPS = 51             # datagrams the receive buffer had no room for
    COUNT_ERRQ_OTHER = 52               # error queue entries that were no timestamp
    COUNTERS = 64

# worker_region.state
cdef enum:
    WORKER_EMPTY = 0
    WORKER_READY = 1            # attached, waiting for "go"
    WORKER_SERVING = 2
    WORKER_STOPPED = 3

ctypedef struct worker_region:
    uint64_t magic
    uint32_t version
    uint32_t index
    uint64_t size
    uint64_t state              # WORKER_*
    uint64_t heartbeat_ns       # CLOCK_MONOTONIC of the last turn of the loop
    uint64_t generation         # counts processes that have had this region
    uint64_t log_offset         # client log shard, 0: none
    uint64_t log_size
    uint64_t map_offset         # timestamp map, 0: none
    uint64_t map_size
    uint64_t used[4]            # table versions this worker reads from; UINT64_MAX: not running
    uint64_t pad[2]
    uint64_t counters[64]


cdef inline bint ref_read(const ref_latch *latch, ref_page *out, uint64_t *sequence) noexcept nogil:
    """Copy the current page unless `sequence` says the caller already has it; true when `out` was written.

    Never waits: while a writer is in one slot the other is stable. The loop repeats only when a writer finished a
    slot during the copy.
    """
    cdef uint64_t seen = nf_load_acquire(&latch.sequence)
    cdef uint64_t again
    if seen == sequence[0]:
        return False
    while True:
        memcpy(out, latch.slots[seen & 1], sizeof(ref_page))
        nf_fence_acquire()
        again = nf_load_relaxed(&latch.sequence)
        if again == seen:
            break
        nf_fence_acquire()
        seen = again
    sequence[0] = seen
    return True

cdef void ref_write(ref_latch *latch, const ref_page *page) noexcept nogil
cdef void ref_repair(ref_latch *latch) noexcept nogil

cdef inline const uint8_t *table_current(const control_region *region, int which, uint64_t *version) noexcept nogil:
    """The current copy of a table and its version; NULL when there is none."""
    cdef const table_entry *entry = &region.tables[which]
    version[0] = nf_load_acquire(&entry.current)
    if version[0] == 0:
        return NULL
    return (<const uint8_t *>region) + entry.offset + (version[0] % TABLE_VERSIONS) * entry.capacity


cdef class Mapping:
    """One mapped region; owned by `server.shared`, read by the data plane through `address`."""
    cdef uint8_t *address
    cdef readonly size_t size
    cdef readonly int fd
    cdef readonly bint writable


cdef class ControlRegion:
    cdef Mapping mapping
    cdef control_region *region
    cdef ref_page page


cdef class WorkerRegion:
    cdef Mapping mapping
    cdef worker_region *region
