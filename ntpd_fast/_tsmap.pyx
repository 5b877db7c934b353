"""The RX→TX timestamp map (layouts and contracts: `_tsmap.pxd`).

Why chains in a ring need no deletion: a link leads to an older pair. When the pair it leads to has been overwritten,
so have all that follow it in the chain, and the overwriting pair shows it by being newer or of another chain.
So every walk goes strictly back in time, stops at the first pair that does not belong, and compares the whole rx.
That also keeps it safe in memory that a dead writer left half updated.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

cdef extern from *:
    """
    #include <stdint.h>
    static inline void ts_prefetch(const void *p) { __builtin_prefetch(p, 1, 3); }
    static inline void ts_release(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }
    #define TS_SECOND (1LL << 32)
    #define TS_SPAN_NS 2000000000LL
    """
    void ts_prefetch(const void *p) nogil
    void ts_release() nogil
    const int64_t TS_SECOND
    const int64_t TS_SPAN_NS       # a transmit time lies within this of the receive time

cdef enum:
    NONE = 0xFFFFFFFF

    DISABLED = 1
    TX_KNOWN = 2
    SOURCE_SHIFT = 2
    SOURCE_MASK = 3
    CLIENT_MASK = 0xFFF0

assert sizeof(ts_pair) == 16 and sizeof(tsmap_header) == 64


cdef uint64_t tsmap_size(uint32_t pairs) noexcept nogil:
    return sizeof(tsmap_header) + <uint64_t> pairs * (sizeof(ts_pair) + 2 * sizeof(uint32_t))


cdef bint tsmap_init(void *memory, uint64_t size, uint32_t pairs, uint64_t seed) noexcept nogil:
    cdef tsmap_header *header = <tsmap_header *> memory
    if pairs < 1 or pairs > TSMAP_PAIRS_MAX or tsmap_size(pairs) > size or <uint64_t> memory & 63:
        return False
    memset(header, 0, sizeof(tsmap_header))
    header.version = TSMAP_VERSION
    header.capacity = pairs
    header.newest = pairs - 1
    header.since_trim = pairs
    header.seed = seed
    ts_release()
    header.magic = TSMAP_MAGIC
    return True


cdef bint tsmap_attach(tsmap *map, void *memory, uint64_t size) noexcept nogil:
    cdef tsmap_header *header = <tsmap_header *> memory
    memset(map, 0, sizeof(tsmap))
    if memory == NULL:
        return True
    if size < sizeof(tsmap_header) or <uint64_t> memory & 63:
        return False
    if header.magic != TSMAP_MAGIC or header.version != TSMAP_VERSION:
        return False
    if header.capacity < 1 or header.capacity > TSMAP_PAIRS_MAX or tsmap_size(header.capacity) > size:
        return False
    if header.newest >= header.capacity or header.count > header.capacity:
        return False
    map.header = header
    map.capacity = header.capacity
    map.pairs = <ts_pair *> (<uint8_t *> memory + sizeof(tsmap_header))
    map.links = <uint32_t *> (map.pairs + map.capacity)
    map.heads = map.links + map.capacity
    return True


cdef inline uint32_t _chain(const tsmap *map, uint64_t rx) noexcept nogil:
    cdef uint64_t h = (rx ^ map.header.seed) * <uint64_t> 0x9E3779B97F4A7C15ULL
    return ((h >> 32) * map.capacity) >> 32


cdef inline uint32_t _age(const tsmap *map, uint32_t position) noexcept nogil:
    """Number of pairs saved after this one."""
    cdef uint32_t newest = map.header.newest
    return newest - position + (map.capacity if position > newest else 0)


cdef inline uint32_t _back(const tsmap *map, uint32_t newest, uint32_t age) noexcept nogil:
    """Position of the pair after which `age` others were saved."""
    return newest - age + (map.capacity if age > newest else 0)


cdef inline uint32_t _find(const tsmap *map, uint64_t rx, uint32_t chain) noexcept nogil:
    """Position of the pair of `rx`, NONE when there is none."""
    cdef uint32_t position = map.heads[chain]
    cdef uint32_t age, older_than = 0
    while position < map.capacity:
        age = _age(map, position)
        if age < older_than or age >= map.header.count:
            return NONE
        if map.pairs[position].rx == rx:
            if age >= map.header.since_trim and <int64_t> (rx - map.header.trim_rx) > 0:
                return NONE
            return position
        if _chain(map, map.pairs[position].rx) != chain:
            return NONE
        older_than = age + 1
        position = map.links[position]
    return NONE


cdef inline int64_t _to_ns(int64_t ntp_difference) noexcept nogil:
    """Less than 2 s of NTP64 in nanoseconds, rounded."""
    return (ntp_difference * 1000000000 + (TS_SECOND >> 1)) >> 32


cdef inline int64_t _from_ns(int64_t ns) noexcept nogil:
    """Less than 2 s of nanoseconds in NTP64."""
    return (ns << 32) // 1000000000


cdef void tsmap_prefetch(const tsmap *map, uint64_t rx) noexcept nogil:
    if map.header != NULL:
        ts_prefetch(&map.heads[_chain(map, rx)])


cdef void tsmap_prefetch_pair(const tsmap *map, uint64_t rx) noexcept nogil:
    cdef uint32_t position
    if map.header != NULL:
        position = map.heads[_chain(map, rx)]
        if position < map.capacity:
            ts_prefetch(&map.pairs[position])


cdef bint tsmap_get(const tsmap *map, uint64_t rx, uint64_t client, ts_found *found) noexcept nogil:
    cdef uint32_t position
    cdef const ts_pair *pair
    if map.header == NULL:
        return False
    position = _find(map, rx, _chain(map, rx))
    if position == NONE:
        return False
    pair = &map.pairs[position]
    if pair.flags & (DISABLED | TX_KNOWN | CLIENT_MASK) != (TX_KNOWN | (client & CLIENT_MASK)):
        return False
    found.tx = rx + <uint64_t> _from_ns(pair.tx_offset_ns)
    found.position = position
    found.source = (pair.flags >> SOURCE_SHIFT) & SOURCE_MASK
    return True


cdef void tsmap_disable(tsmap *map, const ts_found *found) noexcept nogil:
    map.pairs[found.position].flags |= DISABLED


cdef inline bint _set_tx(ts_pair *pair, uint64_t tx, int source) noexcept nogil:
    """Store a transmit time −2 s ≤ tx − rx < 2 s; false when it is out of that range."""
    cdef int64_t difference = <int64_t> (tx - pair.rx)
    if difference < -2 * TS_SECOND or difference >= 2 * TS_SECOND:
        return False
    pair.tx_offset_ns = <int32_t> _to_ns(difference)
    pair.flags = (pair.flags & (DISABLED | CLIENT_MASK)) | TX_KNOWN | (source << SOURCE_SHIFT)
    return True


cdef void tsmap_save(tsmap *map, uint64_t rx, uint64_t tx, int source, uint64_t client,
                     uint16_t slew_epoch) noexcept nogil:
    cdef tsmap_header *header = map.header
    cdef uint32_t chain, position
    cdef uint64_t limit
    cdef ts_pair *pair
    if header == NULL or rx == 0:
        return
    chain = _chain(map, rx)
    position = _find(map, rx, chain)
    if position != NONE:
        map.pairs[position].flags |= DISABLED
        return
    if header.count and <int64_t> (map.pairs[header.newest].rx - rx) > TS_SECOND:
        # The clock went back. What was saved in the time now lying ahead must not be found when it comes again.
        limit = rx + TS_SECOND
        if header.since_trim >= header.count or <int64_t> (limit - header.trim_rx) < 0:
            header.trim_rx = limit
        header.since_trim = 0
    position = header.newest + 1
    if position == map.capacity:
        position = 0
    pair = &map.pairs[position]
    pair.rx = rx
    pair.slew_epoch = slew_epoch
    pair.flags = client & CLIENT_MASK
    if tx != 0:
        _set_tx(pair, tx, source)
    map.links[position] = map.heads[chain]
    map.heads[chain] = position
    header.newest = position
    if header.count < map.capacity:
        header.count += 1
    if header.since_trim < map.capacity:
        header.since_trim += 1


cdef bint tsmap_update(tsmap *map, uint64_t rx, uint64_t tx, int source, uint16_t slew_epoch,
                       int64_t last_doffset_ns) noexcept nogil:
    cdef uint32_t position
    cdef uint16_t adjustments
    cdef int64_t difference
    cdef ts_pair *pair
    if map.header == NULL:
        return False
    position = _find(map, rx, _chain(map, rx))
    if position == NONE:
        return False
    pair = &map.pairs[position]
    adjustments = slew_epoch - pair.slew_epoch
    difference = <int64_t> (tx - rx)
    if adjustments > 1 or not pair.flags & TX_KNOWN:
        return False
    if difference < -2 * TS_SECOND or difference >= 2 * TS_SECOND:
        return False
    difference = _to_ns(difference)
    if adjustments == 1:
        if last_doffset_ns <= -TS_SPAN_NS or last_doffset_ns >= TS_SPAN_NS:
            return False
        difference += last_doffset_ns
    if difference < pair.tx_offset_ns or difference > <int64_t> pair.tx_offset_ns + 1000000000:
        return False
    if difference >= TS_SPAN_NS:
        return False
    pair.tx_offset_ns = <int32_t> difference
    pair.flags = (pair.flags & (DISABLED | TX_KNOWN | CLIENT_MASK)) | (source << SOURCE_SHIFT)
    return True


cdef void tsmap_clear(tsmap *map) noexcept nogil:
    if map.header != NULL:
        map.header.count = 0
        map.header.since_trim = map.capacity


cdef uint32_t tsmap_held(const tsmap *map, double *span_s) noexcept nogil:
    cdef uint32_t count, newest, since_trim, low, high, middle, position, trimmed
    cdef uint64_t trim_rx
    cdef int64_t span
    span_s[0] = 0.0
    if map.header == NULL:
        return 0
    count = map.header.count
    newest = map.header.newest
    since_trim = map.header.since_trim
    trim_rx = map.header.trim_rx
    if count == 0 or count > map.capacity or newest >= map.capacity:
        return 0
    # The pairs of before a backward step are in the order of time, the dead ones first when counting back from it.
    low = since_trim if since_trim < count else count
    trimmed = low
    high = count
    while low < high:
        middle = low + (high - low) // 2
        if <int64_t> (map.pairs[_back(map, newest, middle)].rx - trim_rx) > 0:
            low = middle + 1
        else:
            high = middle
    trimmed = low - trimmed
    if trimmed == count:
        return 0
    position = _back(map, newest, count - 1 if low < count else count - 1 - trimmed)
    span = <int64_t> (map.pairs[newest].rx - map.pairs[position].rx)
    if span > 0:
        span_s[0] = span / 4294967296.0
    return count - trimmed


cdef bint _map_memory(tsmap *map, unsigned char[::1] memory) except -1:
    if memory is None:
        return tsmap_attach(map, NULL, 0)
    if memory.shape[0] == 0 or not tsmap_attach(map, &memory[0], memory.shape[0]):
        raise ValueError("not a timestamp map of this version")
    return True


def map_size(uint32_t pairs) -> int:
    """Bytes of a map of this many pairs."""
    return tsmap_size(pairs)


def init_map(unsigned char[::1] memory, uint32_t pairs, uint64_t seed) -> None:
    """Lay out a map in zeroed memory aligned to 64 bytes."""
    if memory.shape[0] == 0 or not tsmap_init(&memory[0], memory.shape[0], pairs, seed):
        raise ValueError("no room for a timestamp map, or an argument out of its range")


cdef class TimestampMap:
    """A map as Python sees it: for tests, and for reports in another process (`held`)."""

    cdef tsmap _map
    cdef unsigned char[::1] _memory

    def __init__(self, unsigned char[::1] memory):
        _map_memory(&self._map, memory)
        self._memory = memory

    def get(self, uint64_t rx, uint64_t client) -> tuple[int, int] | None:
        """Transmit time and its source of what was saved for `rx` of this client, if it may be used."""
        cdef ts_found found
        tsmap_prefetch(&self._map, rx)
        tsmap_prefetch_pair(&self._map, rx)
        if not tsmap_get(&self._map, rx, client, &found):
            return None
        return found.tx, found.source

    def take(self, uint64_t rx, uint64_t client) -> tuple[int, int] | None:
        """The same, and use it up."""
        cdef ts_found found
        if not tsmap_get(&self._map, rx, client, &found):
            return None
        tsmap_disable(&self._map, &found)
        return found.tx, found.source

    def save(self, uint64_t rx, uint64_t tx, int source, uint64_t client, uint16_t slew_epoch) -> None:
        """Remember an answer."""
        tsmap_save(&self._map, rx, tx, source & SOURCE_MASK, client, slew_epoch)

    def update(self, uint64_t rx, uint64_t tx, int source, uint16_t slew_epoch, int64_t last_doffset_ns) -> bool:
        """Whether the late transmit time was accepted."""
        return tsmap_update(&self._map, rx, tx, source & SOURCE_MASK, slew_epoch, last_doffset_ns)

    def clear(self) -> None:
        """Forget everything."""
        tsmap_clear(&self._map)

    def held(self) -> tuple[int, float]:
        """Pairs held, and the seconds from the oldest to the newest."""
        cdef double span_s
        cdef uint32_t count = tsmap_held(&self._map, &span_s)
        return count, span_s

    def poll_in_turn(self, uint64_t[::1] last_rx, uint64_t start, uint64_t step, int batch=64) -> int:
        """Every client asks once in interleaved mode: the number that found the exchange before.

        `last_rx` holds each client's previous receive time and gets the new one; `step` lies between two requests.
        They all have the same hash.
        """
        cdef Py_ssize_t count = last_rx.shape[0]
        cdef Py_ssize_t done = 0, i, n
        cdef uint64_t now = start
        cdef uint64_t rx
        cdef ts_found found
        cdef long long answered = 0
        if not 1 <= batch <= 64:
            raise ValueError("batch 1 … 64")
        with nogil:
            while done < count:
                n = count - done if count - done < batch else batch
                for i in range(done, done + n):
                    tsmap_prefetch(&self._map, last_rx[i])
                for i in range(done, done + n):
                    tsmap_prefetch_pair(&self._map, last_rx[i])
                for i in range(done, done + n):
                    if tsmap_get(&self._map, last_rx[i], 0, &found):
                        tsmap_disable(&self._map, &found)
                        answered += 1
                    rx = now | 1
                    tsmap_save(&self._map, rx, now + 100000, 0, 0, 0)
                    last_rx[i] = rx
                    now += step
                done += n
        return answered
