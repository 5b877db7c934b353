"""The client log of one writer and its rate limiter.

One shard of memory, given by the caller and written by one process: a header, then blocks of 16 records. An address
has two candidate blocks, so that a table of n records really holds close to n addresses. The size is fixed when the
shard is made; nothing grows, nothing is rehashed. Zeroed memory below the header is an empty table, so that a large
one costs nothing to initialise. The reader of another process may see a record half updated (a counter one hit old),
never one that mixes two addresses.

Counters are reset (`clients -r`) without writing into another's shard: control publishes a reset state, and whoever
next counts a request of a record, or reads it, takes older hits and drops as 0. The state is 64 bits: the new
generation (16), the one before (16) and a boundary (32); the new one holds for records below the boundary, the one
before for the rest, so that a list that is reported page by page is reset page by page. Shards are numbered through:
`base` is the number of records in the shards before.

Time is the NTP64 time of the packet; the log keeps 1/16 s ticks of it. `clientlog` is a view: pointers of one
process into shared memory, made by clientlog_attach and cheap to make again.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from ntpd_fast._addr cimport ntp_addr
from ntpd_fast._random cimport rng_buf

cdef enum:
    SERVICE_NTP = 0
    SERVICE_NTSKE = 1
    SERVICE_CMD = 2
    SERVICES = 3

    LIMIT_PASS = 0
    LIMIT_DROP = 1
    LIMIT_KOD = 2               # answer with a RATE kiss-o'-death

    CLIENTLOG_MAGIC = 0x474C434E        # "NCLG"
    CLIENTLOG_VERSION = 1
    CLIENTLOG_WAYS = 16
    CLIENTLOG_BLOCKS_MAX = 1048576      # 2^24 records, chrony's bound
    CLIENTLOG_RATE_INVALID = 127

# What is known of one address: one cache line.
ctypedef struct client_record:
    uint8_t bytes[16]           # the address, aggregated; IPv4 in the first 4 bytes
    uint32_t last_hit[3]        # ticks, by service; 0: never
    uint32_t hits[3]
    uint16_t drops[3]           # stay at 65535
    uint16_t tokens[3]
    uint16_t generation         # of the last reset seen: hits and drops count from there
    uint16_t occupancy          # odd while the record changes hands
    uint16_t reserved
    int8_t rate[3]              # −4·log2 of the interval in seconds; CLIENTLOG_RATE_INVALID
    int8_t timeout_rate         # the same, of NTP requests that follow a dropped one
    uint8_t drop_flags          # bit by service: the last request was dropped
    uint8_t family              # FAMILY_*

ctypedef struct client_block:
    uint16_t tags[16]           # a part of each record's hash; 0: free
    uint64_t order              # ways by last use, 4 bits each, newest lowest; XOR of the identity, so 0 is valid
    uint32_t used               # records in use: ways 0 … used − 1
    uint32_t reserved[5]
    client_record records[16]

ctypedef struct clientlog_header:
    uint32_t magic
    uint32_t version
    uint64_t size               # of the whole shard, bytes
    uint32_t blocks
    uint32_t ipv6_prefix        # addresses are aggregated to this many bits, 1 … 128
    uint64_t seed[2]
    uint32_t phase              # added to NTP64 before it becomes ticks: 0 … 2^28 − 1
    uint32_t reserved0
    uint64_t evictions          # records replaced while in use
    uint64_t used               # records in use
    uint64_t reserved[8]

# The token bucket of one service: interval and burst as shift, cost and capacity.
ctypedef struct client_limit:
    bint enabled
    int32_t shift               # ticks to tokens: right shift, or left if negative
    uint32_t cost               # tokens a request takes
    uint32_t capacity
    uint32_t leak_mask          # random & mask == 0: let it pass
    uint32_t kod_mask           # the same for a kiss-o'-death; 0: none
    int32_t interval            # as configured, log2 s; the served poll is at least this

ctypedef struct clientlog:
    clientlog_header *header    # NULL: `noclientlog`
    client_block *blocks
    uint32_t block_count        # in use
    uint32_t block_max          # that the memory has room for
    uint32_t boundary           # local to this shard; with the generations below and from it: clientlog_set_reset
    uint16_t generation_below
    uint16_t generation_from
    uint64_t mask6[2]           # in memory order
    client_limit limits[3]

# Bytes of a shard with this many blocks of 16 records.
cdef uint64_t clientlog_size(uint32_t blocks) noexcept nogil

# Lay out zeroed memory of at least clientlog_size bytes, aligned to 64 for speed (8 it must be). `seed` is 16 random
# bytes, 4 more for the phase. False when an argument is out of its range.
cdef bint clientlog_init(void *memory, uint64_t size, uint32_t blocks, uint32_t ipv6_prefix,
                         const uint8_t *seed20) noexcept nogil

# Fill in the view of a shard made by clientlog_init, perhaps by a process that is gone; false when it is not one.
# Limits are off until set. NULL memory makes the view of `noclientlog`: no index, no limit.
cdef bint clientlog_attach(clientlog *log, void *memory, uint64_t size) noexcept nogil

# Take over the number of blocks that the shard's writer uses now, which may be fewer than it has room for.
cdef inline void clientlog_follow(clientlog *log) noexcept nogil:
    cdef uint32_t blocks = log.header.blocks
    if 1 <= blocks <= log.block_max:
        log.block_count = blocks

# Set the limit of one service: interval −19 … 12, burst 1 … 255, leak 1 … 4, kod 0 … 4 (0: off), clamped.
cdef void clientlog_set_limit(clientlog *log, int service, bint enabled, int interval, int burst, int leak,
                              int kod) noexcept nogil

# Take over the reset state; before each batch.
cdef inline void clientlog_set_reset(clientlog *log, uint64_t state, uint32_t base) noexcept nogil:
    cdef uint32_t boundary = state
    log.boundary = boundary - base if boundary > base else 0
    log.generation_below = state >> 48
    log.generation_from = state >> 32

# The two stages of prefetching a batch: hash every source first, then find every record, then serve.
cdef uint64_t clientlog_prefetch(const clientlog *log, const ntp_addr *addr) noexcept nogil
cdef void clientlog_prefetch_record(const clientlog *log, uint64_t hash) noexcept nogil

# Ticks of an NTP64 time; never 0.
cdef uint32_t clientlog_ticks(const clientlog *log, uint64_t ntp_time) noexcept nogil

# Count a request of `addr`; `hash` is from clientlog_prefetch. Index of its record, −1: none is kept.
cdef int32_t clientlog_hit(clientlog *log, const ntp_addr *addr, uint64_t hash, int service,
                           uint32_t ticks) noexcept nogil

# LIMIT_*: what to do with the request just counted. Takes at most one random byte; without one nothing leaks.
cdef int clientlog_limit(clientlog *log, int32_t index, int service, rng_buf *rng) noexcept nogil

# Copy record `index` (0 … 16 · blocks − 1) for a report; false when it is free or changing hands. Hits and drops of
# before the reset that holds for it come out as 0.
cdef bint clientlog_read(const clientlog *log, uint64_t index, client_record *out) noexcept nogil

# Index of the record of an address, −1: none. For reports.
cdef int64_t clientlog_find(const clientlog *log, const ntp_addr *addr) noexcept nogil

# log2 s as reported, 127: unknown.
cdef int clientlog_interval(int rate) noexcept nogil


cdef class ClientLogWriter:
    """The writer's side, a call at a time: see the .pyx."""
    cdef clientlog _log
    cdef unsigned char[::1] _memory
    cdef rng_buf *_rng

    cdef void reset(self, uint64_t state, uint32_t base) noexcept
    # Count a request: LIMIT_*.
    cdef int count(self, const ntp_addr *addr, int service, uint64_t ntp_time) noexcept
