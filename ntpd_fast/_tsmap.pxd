"""The RX→TX timestamp map of interleaved mode (RFC 9769): what was really sent for a receive timestamp we served.

Saved exchanges in memory given by the caller, found through hash chains. A pair that was used is gone and its place is
the next to be filled, so a client that keeps to interleaved mode needs one place however often it asks, and the map
holds as many clients as it has places. When it is full of pairs that nobody came back for, one of the oldest has to
make room. Nothing has to be sorted: receive times may come out of order. Finding a pair costs two cache lines (both
can be prefetched). 24 bytes a pair. One writer; a reader of another process uses tsmap_held only.

Times are NTP64; the source of a transmit time is 2 bits kept for the caller (STAMP_* of `_packet.pxd`).
`tsmap` is a view: pointers of one process, made by tsmap_attach and cheap to make again.
"""

from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t

cdef enum:
    TSMAP_MAGIC = 0x504D5354            # "TSMP"
    TSMAP_VERSION = 2
    TSMAP_PAIRS_MAX = 16777216          # 2^24, chrony's bound

ctypedef struct ts_pair:
    uint64_t rx                 # as served; 0: the place is free
    int32_t tx_offset_ns        # of the transmit time from rx
    uint16_t slew_epoch         # when it was saved
    uint16_t flags              # disabled, tx known, 2 bits of source, 12 of the client's hash
    uint32_t link               # 1 + the place of the next pair of its chain; 0: the last
    uint32_t head               # of the chain with this place's number: 1 + its first place; 0: none

ctypedef struct tsmap_header:
    uint32_t magic
    uint32_t version
    uint32_t capacity
    uint32_t used               # places 0 … used − 1 have been used since the last clearing
    uint32_t free               # 1 + the place that becomes free first, chained by link; 0: none
    uint32_t count              # pairs held
    uint32_t hand               # where the search for a pair to replace goes on
    uint32_t changing           # not 0: its writer died at work; tsmap_repair puts it right
    uint64_t newest_rx
    uint64_t seed
    uint64_t replaced           # pairs that had to make room
    uint64_t reserved

ctypedef struct tsmap:
    tsmap_header *header        # NULL: no map; nothing is kept or found
    ts_pair *pairs
    uint32_t capacity

ctypedef struct ts_found:
    uint64_t tx
    uint64_t rx
    int source                  # STAMP_*

# Bytes of a map of this many pairs.
cdef uint64_t tsmap_size(uint32_t pairs) noexcept nogil

# Lay out zeroed memory of at least tsmap_size bytes, aligned to 64 for speed (8 must be); false when an argument is
# out of its range.
cdef bint tsmap_init(void *memory, uint64_t size, uint32_t pairs, uint64_t seed) noexcept nogil

# Fill in the view of a map made by tsmap_init, perhaps by a process that is gone; false when it is not one.
# NULL memory makes the view of no map.
cdef bint tsmap_attach(tsmap *map, void *memory, uint64_t size) noexcept nogil

# Make whole what a writer that died at work left; before the first use by its successor.
cdef void tsmap_repair(tsmap *map) noexcept nogil

# The two stages of prefetching: the chain of `rx` (a request's origin timestamp, or the new
# receive timestamp of an answer that will be saved), then its first pair.
cdef void tsmap_prefetch(const tsmap *map, uint64_t rx) noexcept nogil
cdef void tsmap_prefetch_pair(const tsmap *map, uint64_t rx) noexcept nogil

# Whether `rx` was saved once, for this client (its clientlog hash), with a transmit time, and not used yet.
cdef bint tsmap_get(const tsmap *map, uint64_t rx, uint64_t client, ts_found *found) noexcept nogil

# Use up what tsmap_get found: its place is free again.
cdef void tsmap_disable(tsmap *map, const ts_found *found) noexcept nogil

# Remember the answer sent at `tx` (0: unknown) for a request served as received at `rx` (0: ignored).
# An rx that is there already disables the pair instead of making a second one. An rx more than 1 s before the newest
# means that the clock went back: everything is forgotten first.
cdef void tsmap_save(tsmap *map, uint64_t rx, uint64_t tx, int source, uint64_t client,
                     uint16_t slew_epoch) noexcept nogil

# A later, better transmit time for `rx`: accepted (true) when not more than 1 s after the one known, nor more than 1 ms
# before it (which may be a forecast). If the clock was adjusted once since the save, that adjustment's
# `last_doffset_ns` (o = −θ) is added back first, so that rx and tx are readings of one clock; more than once: refused.
cdef bint tsmap_update(tsmap *map, uint64_t rx, uint64_t tx, int source, uint16_t slew_epoch,
                       int64_t last_doffset_ns) noexcept nogil

# Forget everything: the clock was stepped by an unknown amount. Writes to every place.
cdef void tsmap_clear(tsmap *map) noexcept nogil

# Pairs held; in `span_s` the time from the oldest to the newest. Looks at every pair: for reports.
cdef uint32_t tsmap_held(const tsmap *map, double *span_s) noexcept nogil
