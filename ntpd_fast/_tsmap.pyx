"""The RX→TX timestamp map (layouts and contracts: `_tsmap.pxd`).

Rules kept here: whatever the shared memory holds, no access outside it and no endless walk; a pair is only ever found
by its whole receive time. `changing` brackets what must not be left half done, for a successor to repair.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

cdef extern from *:
    """
    #include <stdint.h>
    static inline void ts_prefetch(const void *p) { __builtin_prefetch(p, 1, 3); }
    static inline void ts_release(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }
    static inline void ts_in_order(void) { __atomic_signal_fence(__ATOMIC_SEQ_CST); }
    #define TS_SECOND (1LL << 32)
    #define TS_SPAN_NS 2000000000LL
    #define TS_EARLY_NS 1000000LL
    """
    void ts_prefetch(const void *p) nogil
    void ts_release() nogil
    void ts_in_order() nogil        # for whoever finds our memory when we are dead
    const int64_t TS_SECOND
    const int64_t TS_SPAN_NS       # a transmit time lies within this of the receive time
    const int64_t TS_EARLY_NS      # how much too late the time known before sending may have been

cdef enum:
    NONE = 0xFFFFFFFF
    WALK_MAX = 64               # of a chain; one of this length does not happen with an intact map
    CANDIDATES = 4              # for replacement

    DISABLED = 1
    TX_KNOWN = 2
    SOURCE_SHIFT = 2
    SOURCE_MASK = 3
    CLIENT_MASK = 0xFFF0

assert sizeof(ts_pair) == 24 and sizeof(tsmap_header) == 64


cdef uint64_t tsmap_size(uint32_t pairs) noexcept nogil:
    return sizeof(tsmap_header) + <uint64_t> pairs * sizeof(ts_pair)


cdef bint tsmap_init(void *memory, uint64_t size, uint32_t pairs, uint64_t seed) noexcept nogil:
    cdef tsmap_header *header = <tsmap_header *> memory
    if pairs < 1 or pairs > TSMAP_PAIRS_MAX or tsmap_size(pairs) > size or <uint64_t> memory & 7:
        return False
    memset(header, 0, sizeof(tsmap_header))
    header.version = TSMAP_VERSION
    header.capacity = pairs
    header.seed = seed
    ts_release()
    header.magic = TSMAP_MAGIC
    return True


cdef bint tsmap_attach(tsmap *map, void *memory, uint64_t size) noexcept nogil:
    cdef tsmap_header *header = <tsmap_header *> memory
    memset(map, 0, sizeof(tsmap))
    if memory == NULL:
        return True
    if size < sizeof(tsmap_header) or <uint64_t> memory & 7:
        return False
    if header.magic != TSMAP_MAGIC or header.version != TSMAP_VERSION:
        return False
    if header.capacity < 1 or header.capacity > TSMAP_PAIRS_MAX or tsmap_size(header.capacity) > size:
        return False
    map.header = header
    map.capacity = header.capacity
    map.pairs = <ts_pair *> (<uint8_t *> memory + sizeof(tsmap_header))
    return True


cdef inline uint32_t _chain(const tsmap *map, uint64_t rx) noexcept nogil:
    cdef uint64_t h = (rx ^ map.header.seed) * <uint64_t> 0x9E3779B97F4A7C15ULL
    return ((h >> 32) * map.capacity) >> 32


cdef inline void _begin(tsmap *map) noexcept nogil:
    map.header.changing = 1
    ts_in_order()


cdef inline void _end(tsmap *map) noexcept nogil:
    ts_in_order()
    map.header.changing = 0


cdef inline uint32_t _find(const tsmap *map, uint64_t rx, uint32_t chain) noexcept nogil:
    """Place of the pair of `rx`, NONE when there is none."""
    cdef uint32_t place = map.pairs[chain].head
    cdef int step
    for step in range(WALK_MAX):
        # place 0 is "none": it becomes the largest number
        if place - 1 >= map.capacity:
            return NONE
        if map.pairs[place - 1].rx == rx:
            return place - 1
        place = map.pairs[place - 1].link
    return NONE


cdef inline void _unlink(tsmap *map, uint32_t place, uint32_t chain) noexcept nogil:
    """Take a place out of its chain."""
    cdef uint32_t *link = &map.pairs[chain].head
    cdef int step
    for step in range(WALK_MAX):
        if link[0] == place + 1:
            link[0] = map.pairs[place].link
            return
        if link[0] - 1 >= map.capacity:
            return
        link = &map.pairs[link[0] - 1].link


cdef inline uint32_t _replace(tsmap *map, uint64_t now) noexcept nogil:
    """Empty the oldest of the next few places of a full map."""
    cdef tsmap_header *header = map.header
    cdef uint32_t place = header.hand if header.hand < map.capacity else 0
    cdef uint32_t oldest = place
    cdef int64_t age, greatest = -0x7FFFFFFFFFFFFFFF
    cdef int i
    # one step a time: pairs that are never used go in the order they came
    header.hand = place + 1 if place + 1 < map.capacity else 0
    for i in range(CANDIDATES):
        age = <int64_t> (now - map.pairs[place].rx)
        if age > greatest:
            greatest = age
            oldest = place
        place = place + 1 if place + 1 < map.capacity else 0
    header.replaced += 1
    header.count -= 1
    _unlink(map, oldest, _chain(map, map.pairs[oldest].rx))
    return oldest


cdef inline uint32_t _take_place(tsmap *map, uint64_t now) noexcept nogil:
    """A place for a new pair."""
    cdef tsmap_header *header = map.header
    cdef uint32_t place = header.free - 1
    if place < map.capacity:
        header.free = map.pairs[place].link
        return place
    if header.used < map.capacity:
        place = header.used
        header.used += 1
        return place
    return _replace(map, now)


cdef void tsmap_repair(tsmap *map) noexcept nogil:
    cdef tsmap_header *header = map.header
    cdef uint32_t place, chain
    if header == NULL or not header.changing:
        return
    if header.used > map.capacity:
        header.used = map.capacity
    for place in range(map.capacity):
        map.pairs[place].head = 0
    header.free = 0
    header.count = 0
    for place in range(header.used):
        if map.pairs[place].rx == 0:
            map.pairs[place].link = header.free
            header.free = place + 1
        else:
            chain = _chain(map, map.pairs[place].rx)
            map.pairs[place].link = map.pairs[chain].head
            map.pairs[chain].head = place + 1
            header.count += 1
    _end(map)


cdef inline int64_t _to_ns(int64_t ntp_difference) noexcept nogil:
    """Less than 2 s of NTP64 in nanoseconds, rounded."""
    return (ntp_difference * 1000000000 + (TS_SECOND >> 1)) >> 32


cdef inline int64_t _from_ns(int64_t ns) noexcept nogil:
    """Less than 2 s of nanoseconds in NTP64."""
    return (ns << 32) // 1000000000


cdef void tsmap_prefetch(const tsmap *map, uint64_t rx) noexcept nogil:
    if map.header != NULL:
        ts_prefetch(&map.pairs[_chain(map, rx)].head)


cdef void tsmap_prefetch_pair(const tsmap *map, uint64_t rx) noexcept nogil:
    cdef uint32_t place
    if map.header != NULL:
        place = map.pairs[_chain(map, rx)].head - 1
        if place < map.capacity:
            # it may lie on two cache lines
            ts_prefetch(&map.pairs[place])
            ts_prefetch(&map.pairs[place].link)


cdef bint tsmap_get(const tsmap *map, uint64_t rx, uint64_t client, ts_found *found) noexcept nogil:
    cdef uint32_t position
    cdef const ts_pair *pair
    if map.header == NULL or rx == 0:
        return False
    position = _find(map, rx, _chain(map, rx))
    if position == NONE:
        return False
    pair = &map.pairs[position]
    if pair.flags & (DISABLED | TX_KNOWN | CLIENT_MASK) != (TX_KNOWN | (client & CLIENT_MASK)):
        return False
    found.tx = rx + <uint64_t> _from_ns(pair.tx_offset_ns)
    found.rx = rx
    found.source = (pair.flags >> SOURCE_SHIFT) & SOURCE_MASK
    return True


cdef void tsmap_disable(tsmap *map, const ts_found *found) noexcept nogil:
    cdef tsmap_header *header = map.header
    cdef uint32_t chain, position
    if header == NULL:
        return
    chain = _chain(map, found.rx)
    position = _find(map, found.rx, chain)
    if position == NONE:
        return
    _begin(map)
    _unlink(map, position, chain)
    map.pairs[position].rx = 0
    map.pairs[position].link = header.free
    header.free = position + 1
    header.count -= 1
    _end(map)


cdef inline void _set_tx(ts_pair *pair, uint64_t rx, uint64_t tx, int source) noexcept nogil:
    """Store a transmit time if −2 s ≤ tx − rx < 2 s."""
    cdef int64_t difference = <int64_t> (tx - rx)
    if difference >= -2 * TS_SECOND and difference < 2 * TS_SECOND:
        pair.tx_offset_ns = <int32_t> _to_ns(difference)
        pair.flags |= TX_KNOWN | (source << SOURCE_SHIFT)


cdef void tsmap_save(tsmap *map, uint64_t rx, uint64_t tx, int source, uint64_t client,
                     uint16_t slew_epoch) noexcept nogil:
    cdef tsmap_header *header = map.header
    cdef uint32_t chain, position
    cdef ts_pair *pair
    if header == NULL or rx == 0:
        return
    if header.count and <int64_t> (header.newest_rx - rx) > TS_SECOND:
        tsmap_clear(map)
    chain = _chain(map, rx)
    position = _find(map, rx, chain)
    if position != NONE:
        map.pairs[position].flags |= DISABLED
        return
    _begin(map)
    position = _take_place(map, rx)
    pair = &map.pairs[position]
    # the receive time last: a repair must not find it with another pair's transmit time
    pair.rx = 0
    ts_in_order()
    pair.slew_epoch = slew_epoch
    pair.flags = client & CLIENT_MASK
    if tx != 0:
        _set_tx(pair, rx, tx, source)
    ts_in_order()
    pair.rx = rx
    map.pairs[position].link = map.pairs[chain].head
    map.pairs[chain].head = position + 1
    if header.count == 0 or <int64_t> (rx - header.newest_rx) > 0:
        header.newest_rx = rx
    header.count += 1
    _end(map)


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
    if difference < pair.tx_offset_ns - TS_EARLY_NS or difference > <int64_t> pair.tx_offset_ns + 1000000000:
        return False
    if difference < -TS_SPAN_NS or difference >= TS_SPAN_NS:
        return False
    pair.tx_offset_ns = <int32_t> difference
    pair.flags = (pair.flags & (DISABLED | TX_KNOWN | CLIENT_MASK)) | (source << SOURCE_SHIFT)
    return True


cdef void tsmap_clear(tsmap *map) noexcept nogil:
    cdef tsmap_header *header = map.header
    cdef uint32_t place
    if header == NULL:
        return
    _begin(map)
    # first, so that a repair finds nothing to bring back
    header.used = 0
    ts_in_order()
    header.free = 0
    header.count = 0
    header.hand = 0
    for place in range(map.capacity):
        map.pairs[place].head = 0
    _end(map)


cdef uint32_t tsmap_held(const tsmap *map, double *span_s) noexcept nogil:
    cdef uint32_t count = 0, place, used
    cdef uint64_t rx, newest
    cdef int64_t age, greatest = 0
    span_s[0] = 0.0
    if map.header == NULL:
        return 0
    used = map.header.used if map.header.used < map.capacity else map.capacity
    newest = map.header.newest_rx
    for place in range(used):
        rx = map.pairs[place].rx
        if rx != 0:
            count += 1
            age = <int64_t> (newest - rx)
            if age > greatest:
                greatest = age
    span_s[0] = greatest / 4294967296.0
    return count


def map_size(uint32_t pairs) -> int:
    """Bytes of a map of this many pairs."""
    return tsmap_size(pairs)


def init_map(unsigned char[::1] memory, uint32_t pairs, uint64_t seed) -> None:
    """Lay out a map in zeroed memory, aligned to 64 bytes for speed (8 it must be)."""
    if memory.shape[0] == 0 or not tsmap_init(&memory[0], memory.shape[0], pairs, seed):
        raise ValueError("no room for a timestamp map, or an argument out of its range")


cdef class TimestampMapReader:
    """A map as reports see it, perhaps while its writer works on it. Raises ValueError when it is none."""

    cdef tsmap _map
    cdef const unsigned char[::1] _memory

    def __init__(self, const unsigned char[::1] memory):
        if memory.shape[0] == 0 or not tsmap_attach(&self._map, <void *> &memory[0], memory.shape[0]):
            raise ValueError("not a timestamp map of this version")
        self._memory = memory

    def held(self) -> tuple[int, float]:
        """Pairs held, and the seconds from the oldest to the newest."""
        cdef double span_s
        cdef uint32_t count
        with nogil:
            count = tsmap_held(&self._map, &span_s)
        return count, span_s

    @property
    def replaced(self) -> int:
        """Pairs that had to make room for others."""
        return self._map.header.replaced


cdef class TimestampMap:
    """The writer's side, a call at a time: for tests. None makes the map that keeps nothing."""

    cdef tsmap _map
    cdef unsigned char[::1] _memory

    def __init__(self, unsigned char[::1] memory):
        if memory is None:
            tsmap_attach(&self._map, NULL, 0)
        elif memory.shape[0] == 0 or not tsmap_attach(&self._map, &memory[0], memory.shape[0]):
            raise ValueError("not a timestamp map of this version")
        tsmap_repair(&self._map)
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
                    tsmap_prefetch(&self._map, (now + <uint64_t> (i - done) * step) | 1)
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
