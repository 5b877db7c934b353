"""The client log's table and limiter (layouts and contracts: `_clientlog.pxd`).

Rules kept here: one cache line to find an address, one for its record; no division; whatever the shared memory
holds, no access outside it; an update interrupted by the writer's death leaves a table the next writer can use.
"""

from collections import namedtuple

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from ntpd_fast._addr cimport FAMILY_IPV4, FAMILY_IPV6, addr_from_packed, ntp_addr
from ntpd_fast._random cimport RNG_SIZE, rng_buf, rng_fill, rng_take

cdef extern from *:
    """
    #include <stdint.h>
    static inline uint64_t cl_mix(uint64_t a, uint64_t b)
    {
        unsigned __int128 product = (unsigned __int128)a * b;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    static inline int cl_ctz(uint64_t x) { return __builtin_ctzll(x); }
    static inline int cl_log2(uint64_t x) { return 63 - __builtin_clzll(x); }
    static inline void cl_prefetch(const void *p) { __builtin_prefetch(p, 1, 3); }
    static inline void cl_release(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }
    static inline void cl_acquire(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
    static inline uint16_t cl_load16(const uint16_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline void cl_store16(uint16_t *p, uint16_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    """
    uint64_t cl_mix(uint64_t a, uint64_t b) nogil
    int cl_ctz(uint64_t x) nogil
    int cl_log2(uint64_t x) nogil
    void cl_prefetch(const void *p) nogil
    void cl_release() nogil
    void cl_acquire() nogil
    uint16_t cl_load16(const uint16_t *p) nogil
    void cl_store16(uint16_t *p, uint16_t v) nogil

cdef extern from *:
    """
    #define CL_LANES 0x0001000100010001ULL
    #define CL_LANE_TOPS 0x8000800080008000ULL
    #define CL_NIBBLES 0x1111111111111111ULL
    #define CL_NIBBLE_TOPS 0x8888888888888888ULL
    #define CL_IDENTITY 0xFEDCBA9876543210ULL
    """
    const uint64_t CL_LANES
    const uint64_t CL_LANE_TOPS
    const uint64_t CL_NIBBLES
    const uint64_t CL_NIBBLE_TOPS
    const uint64_t CL_IDENTITY

assert sizeof(client_record) == 64 and sizeof(client_block) == 1088 and sizeof(clientlog_header) == 128


cdef uint64_t clientlog_size(uint32_t blocks) noexcept nogil:
    return sizeof(clientlog_header) + <uint64_t> blocks * sizeof(client_block)


cdef bint clientlog_init(void *memory, uint64_t size, uint32_t blocks, uint32_t ipv6_prefix,
                         const uint8_t *seed20) noexcept nogil:
    cdef clientlog_header *header = <clientlog_header *> memory
    if blocks < 1 or blocks > CLIENTLOG_BLOCKS_MAX or ipv6_prefix < 1 or ipv6_prefix > 128:
        return False
    if clientlog_size(blocks) > size or <uint64_t> memory & 7:
        return False
    memset(header, 0, sizeof(clientlog_header))
    header.version = CLIENTLOG_VERSION
    header.size = clientlog_size(blocks)
    header.blocks = blocks
    header.ipv6_prefix = ipv6_prefix
    memcpy(header.seed, seed20, 16)
    memcpy(&header.phase, seed20 + 16, 4)
    header.phase &= (1 << 28) - 1
    cl_release()
    header.magic = CLIENTLOG_MAGIC
    return True


cdef bint clientlog_attach(clientlog *log, void *memory, uint64_t size) noexcept nogil:
    cdef clientlog_header *header = <clientlog_header *> memory
    cdef uint8_t mask[16]
    cdef uint32_t i, bits
    memset(log, 0, sizeof(clientlog))
    if memory == NULL:
        return True
    if size < sizeof(clientlog_header) or <uint64_t> memory & 7:
        return False
    if header.magic != CLIENTLOG_MAGIC or header.version != CLIENTLOG_VERSION:
        return False
    if header.blocks < 1 or header.blocks > CLIENTLOG_BLOCKS_MAX:
        return False
    if header.ipv6_prefix < 1 or header.ipv6_prefix > 128:
        return False
    if header.size != clientlog_size(header.blocks) or header.size > size:
        return False
    for i in range(16):
        bits = header.ipv6_prefix - 8 * i if header.ipv6_prefix > 8 * i else 0
        mask[i] = 0xFF if bits >= 8 else (0xFF00 >> bits) & 0xFF
    memcpy(log.mask6, mask, 16)
    log.header = header
    log.blocks = <client_block *> (<uint8_t *> memory + sizeof(clientlog_header))
    log.block_count = header.blocks
    log.block_max = min((size - sizeof(clientlog_header)) // sizeof(client_block), <uint64_t> CLIENTLOG_BLOCKS_MAX)
    return True


cdef inline int _clamp(int value, int low, int high) noexcept nogil:
    return low if value < low else high if value > high else value


cdef void clientlog_set_limit(clientlog *log, int service, bint enabled, int interval, int burst, int leak,
                              int kod) noexcept nogil:
    cdef client_limit *limit = &log.limits[service]
    interval = _clamp(interval, -19, 12)
    burst = _clamp(burst, 1, 255)
    memset(limit, 0, sizeof(client_limit))
    limit.enabled = enabled
    limit.interval = interval
    if not enabled:
        return
    if interval >= -4:
        while limit.shift < interval + 4 and burst << (4 + interval - limit.shift) >= 65536:
            limit.shift += 1
        limit.cost = 1 << (4 + interval - limit.shift)
        limit.capacity = limit.cost * burst
    else:
        # more than one request a tick: a tick brings several tokens, the bucket holds at least one tick's
        limit.shift = interval + 4
        limit.cost = 1
        limit.capacity = burst if burst > 1 << -limit.shift else 1 << -limit.shift
    limit.leak_mask = (1 << _clamp(leak, 1, 4)) - 1
    limit.kod_mask = (1 << _clamp(kod, 0, 4)) - 1


cdef inline void _key(const clientlog *log, const ntp_addr *addr, uint64_t *key) noexcept nogil:
    memcpy(key, addr.bytes, 16)
    if addr.family == FAMILY_IPV6:
        key[0] &= log.mask6[0]
        key[1] &= log.mask6[1]


cdef inline uint64_t _hash(const clientlog *log, const uint64_t *key, uint32_t family) noexcept nogil:
    cdef const uint64_t *seed = log.header.seed
    cdef uint64_t h = cl_mix(key[0] ^ seed[0], key[1] ^ seed[1] ^ family)
    return cl_mix(h ^ 0x9E3779B97F4A7C15ULL, seed[0] | 1)


# The two candidate blocks come from the two halves of the hash, the tag from the low bits of both.
cdef inline uint32_t _first(const clientlog *log, uint64_t hash) noexcept nogil:
    return ((hash >> 32) * log.block_count) >> 32


cdef inline uint32_t _second(const clientlog *log, uint64_t hash) noexcept nogil:
    return (<uint64_t> <uint32_t> hash * log.block_count) >> 32


cdef inline uint16_t _tag(uint64_t hash) noexcept nogil:
    cdef uint16_t tag = ((hash & 0xFF) << 8) | ((hash >> 32) & 0xFF)
    return tag + (tag == 0)


cdef inline uint64_t _lanes(const client_block *block, int word, uint64_t pattern) noexcept nogil:
    """Lanes of 4 tags that equal the pattern's, at their top bits; a lane above a true one may be a false one."""
    cdef uint64_t x
    memcpy(&x, <const uint8_t *> block.tags + 8 * word, 8)
    x ^= pattern
    return (x - CL_LANES) & ~x & CL_LANE_TOPS


cdef inline int _find(const client_block *block, uint16_t tag, const uint64_t *key,
                      uint32_t family) noexcept nogil:
    cdef uint64_t pattern = tag * CL_LANES
    cdef uint64_t lanes
    cdef int word, way
    for word in range(4):
        lanes = _lanes(block, word, pattern)
        while lanes:
            way = word * 4 + (cl_ctz(lanes) >> 4)
            # the record first: a tag of 0 (a false lane) has no record of this family and address, or is none
            if (block.tags[way] == tag and memcmp(block.records[way].bytes, key, 16) == 0
                    and block.records[way].family == family):
                return way
            lanes &= lanes - 1
    return -1


cdef inline void _touch(client_block *block, int way) noexcept nogil:
    """Make `way` the most recently used."""
    cdef uint64_t order = block.order ^ CL_IDENTITY
    cdef uint64_t x, below
    if (order & 15) == <uint64_t> way:
        return
    x = order ^ (<uint64_t> way * CL_NIBBLES)
    x = (x - CL_NIBBLES) & ~x & CL_NIBBLE_TOPS
    if x == 0:
        # not a permutation: only foreign memory gets here
        block.order = 0
        return
    below = (<uint64_t> 1 << (cl_ctz(x) - 3)) - 1
    order = (order & ~((below << 4) | 15)) | ((order & below) << 4) | <uint64_t> way
    block.order = order ^ CL_IDENTITY


cdef inline int32_t _age(const client_record *record, uint32_t ticks) noexcept nogil:
    """Ticks since the latest hit of any service."""
    cdef int32_t age, youngest = 0x7FFFFFFF
    cdef int service
    for service in range(SERVICES):
        if record.last_hit[service] != 0:
            age = <int32_t> (ticks - record.last_hit[service])
            if age < youngest:
                youngest = age
    return youngest


cdef inline uint64_t _total_hits(const client_record *record) noexcept nogil:
    return <uint64_t> record.hits[0] + record.hits[1] + record.hits[2]


cdef inline uint16_t _generation(const clientlog *log, uint32_t index) noexcept nogil:
    """The reset that holds for a record."""
    return log.generation_below if index < log.boundary else log.generation_from


cdef uint32_t _insert(clientlog *log, uint32_t index, uint32_t index2, uint16_t tag, const uint64_t *key,
                      uint32_t family, uint32_t ticks) noexcept nogil:
    """Index of a fresh record in the emptier block, or in place of the older of the two least recently used."""
    cdef client_block *block = &log.blocks[index]
    cdef client_block *other = &log.blocks[index2]
    cdef client_record *record
    cdef client_record *rival
    cdef int way, rival_way, service
    cdef int32_t age, rival_age
    if other.used < block.used:
        block = other
        index = index2
    if block.used < CLIENTLOG_WAYS:
        way = block.used
        record = &block.records[way]
        block.used += 1
        log.header.used += 1
    else:
        way = (block.order ^ CL_IDENTITY) >> 60
        record = &block.records[way]
        rival_way = (other.order ^ CL_IDENTITY) >> 60
        rival = &other.records[rival_way]
        age = _age(record, ticks)
        rival_age = _age(rival, ticks)
        if rival_age > age or (rival_age == age and _total_hits(rival) < _total_hits(record)):
            block = other
            index = index2
            way = rival_way
            record = rival
        log.header.evictions += 1
        block.tags[way] = 0
    # readers skip it while the occupancy is odd; if we die here, the next owner of this way goes on from odd
    cl_store16(&record.occupancy, record.occupancy | 1)
    cl_release()
    memcpy(record.bytes, key, 16)
    record.family = family
    record.generation = _generation(log, index * CLIENTLOG_WAYS + way)
    record.drop_flags = 0
    record.timeout_rate = CLIENTLOG_RATE_INVALID
    for service in range(SERVICES):
        record.last_hit[service] = 0
        record.hits[service] = 0
        record.drops[service] = 0
        record.tokens[service] = log.limits[service].capacity
        record.rate[service] = CLIENTLOG_RATE_INVALID
    cl_store16(&record.occupancy, record.occupancy + 1)
    cl_store16(&block.tags[way], tag)
    _touch(block, way)
    return index * CLIENTLOG_WAYS + way


cdef inline client_record *_record(const clientlog *log, uint32_t index) noexcept nogil:
    return &log.blocks[index >> 4].records[index & 15]


cdef inline void _reset(const clientlog *log, client_record *record, uint32_t index) noexcept nogil:
    """Zero what was counted before the reset that holds for this record."""
    cdef uint16_t generation = _generation(log, index)
    if <int16_t> (generation - record.generation) > 0:
        record.generation = generation
        memset(record.hits, 0, sizeof(record.hits))
        memset(record.drops, 0, sizeof(record.drops))


cdef void _update(clientlog *log, client_record *record, int service, uint32_t ticks) noexcept nogil:
    cdef const client_limit *limit = &log.limits[service]
    cdef uint32_t prev = record.last_hit[service]
    cdef int32_t delta = <int32_t> (ticks - prev)
    cdef uint64_t tokens
    cdef int steps, interval, rate
    cdef int8_t *stored
    record.hits[service] += 1
    record.last_hit[service] = ticks
    if prev == 0 or delta < 0:
        return

    if limit.enabled:
        if limit.shift >= 0:
            tokens = (ticks >> limit.shift) - (prev >> limit.shift)
        else:
            tokens = delta if delta < <int32_t> limit.capacity else limit.capacity
            tokens <<= -limit.shift
        tokens += record.tokens[service]
        record.tokens[service] = tokens if tokens < limit.capacity else limit.capacity

    if delta == 0:
        interval = -20
    else:
        steps = cl_log2(<uint32_t> delta + (<uint32_t> delta >> 1))
        interval = -16 + 4 * (steps if steps < 18 else 18)
    if service == SERVICE_NTP and record.drop_flags & (1 << SERVICE_NTP):
        stored = &record.timeout_rate
    else:
        stored = &record.rate[service]
    rate = stored[0]
    if rate == CLIENTLOG_RATE_INVALID:
        rate = -interval
    elif rate < -interval:
        rate += 1
    elif rate > -interval:
        if rate > 10 - interval:
            rate = 10 - interval
        else:
            rate = (rate - interval - 1) / 2
    stored[0] = rate


cdef uint64_t clientlog_prefetch(const clientlog *log, const ntp_addr *addr) noexcept nogil:
    cdef uint64_t key[2]
    cdef uint64_t hash
    if log.header == NULL:
        return 0
    _key(log, addr, key)
    hash = _hash(log, key, addr.family)
    cl_prefetch(&log.blocks[_first(log, hash)])
    cl_prefetch(&log.blocks[_second(log, hash)])
    return hash


cdef void clientlog_prefetch_record(const clientlog *log, uint64_t hash) noexcept nogil:
    cdef const client_block *block
    cdef uint64_t pattern, lanes
    cdef int word
    if log.header == NULL:
        return
    pattern = _tag(hash) * CL_LANES
    block = &log.blocks[_first(log, hash)]
    for word in range(4):
        lanes = _lanes(block, word, pattern)
        if lanes:
            cl_prefetch(&block.records[word * 4 + (cl_ctz(lanes) >> 4)])
    block = &log.blocks[_second(log, hash)]
    for word in range(4):
        lanes = _lanes(block, word, pattern)
        if lanes:
            cl_prefetch(&block.records[word * 4 + (cl_ctz(lanes) >> 4)])


cdef uint32_t clientlog_ticks(const clientlog *log, uint64_t ntp_time) noexcept nogil:
    cdef uint32_t ticks
    if log.header == NULL:
        return 1
    ticks = (ntp_time + log.header.phase) >> 28
    return ticks + (ticks == 0)


cdef int32_t clientlog_hit(clientlog *log, const ntp_addr *addr, uint64_t hash, int service,
                           uint32_t ticks) noexcept nogil:
    cdef uint64_t key[2]
    cdef uint16_t tag
    cdef uint32_t block, other, index
    cdef client_record *record
    cdef int way
    if log.header == NULL or (addr.family != FAMILY_IPV4 and addr.family != FAMILY_IPV6):
        return -1
    _key(log, addr, key)
    tag = _tag(hash)
    block = _first(log, hash)
    way = _find(&log.blocks[block], tag, key, addr.family)
    if way < 0:
        other = _second(log, hash)
        way = _find(&log.blocks[other], tag, key, addr.family)
        if way < 0:
            index = _insert(log, block, other, tag, key, addr.family, ticks)
        else:
            _touch(&log.blocks[other], way)
            index = other * CLIENTLOG_WAYS + way
    else:
        _touch(&log.blocks[block], way)
        index = block * CLIENTLOG_WAYS + way
    record = _record(log, index)
    _reset(log, record, index)
    _update(log, record, service, ticks)
    return index


cdef int clientlog_limit(clientlog *log, int32_t index, int service, rng_buf *rng) noexcept nogil:
    cdef const client_limit *limit = &log.limits[service]
    cdef client_record *record
    cdef uint8_t random = 0xFF
    cdef bint drop
    if index < 0 or not limit.enabled:
        return LIMIT_PASS
    record = _record(log, index)
    record.drop_flags &= ~(1 << service)
    if record.tokens[service] >= limit.cost:
        record.tokens[service] -= limit.cost
        return LIMIT_PASS
    rng_take(rng, &random, 1)
    drop = (random & limit.leak_mask) != 0
    # A client that asks faster when it gets no answer is better off with one.
    if (service == SERVICE_NTP and record.timeout_rate != CLIENTLOG_RATE_INVALID
            and record.timeout_rate > record.rate[service] + 4):
        drop = not drop
    if not drop:
        record.tokens[service] = 0
        return LIMIT_PASS
    if limit.kod_mask and ((random >> 4) & limit.kod_mask) == 0:
        return LIMIT_KOD
    record.drop_flags |= 1 << service
    if record.drops[service] != 0xFFFF:
        record.drops[service] += 1
    return LIMIT_DROP


cdef bint clientlog_read(const clientlog *log, uint64_t index, client_record *out) noexcept nogil:
    cdef const client_block *block
    cdef const client_record *record
    cdef uint16_t before
    if index >> 4 >= log.block_count:
        return False
    block = &log.blocks[index >> 4]
    record = &block.records[index & 15]
    if cl_load16(&block.tags[index & 15]) == 0:
        return False
    before = cl_load16(&record.occupancy)
    memcpy(out, record, sizeof(client_record))
    cl_acquire()
    if before & 1 or cl_load16(&record.occupancy) != before:
        return False
    _reset(log, out, index)
    return True


cdef int64_t clientlog_find(const clientlog *log, const ntp_addr *addr) noexcept nogil:
    cdef uint64_t key[2]
    cdef uint64_t hash
    cdef uint32_t block
    cdef int way
    if log.header == NULL:
        return -1
    _key(log, addr, key)
    hash = _hash(log, key, addr.family)
    block = _first(log, hash)
    way = _find(&log.blocks[block], _tag(hash), key, addr.family)
    if way < 0:
        block = _second(log, hash)
        way = _find(&log.blocks[block], _tag(hash), key, addr.family)
    return <int64_t> block * CLIENTLOG_WAYS + way if way >= 0 else -1


cdef int clientlog_interval(int rate) noexcept nogil:
    if rate == CLIENTLOG_RATE_INVALID:
        return CLIENTLOG_RATE_INVALID
    return (rate + 2 if rate > 0 else rate - 2 if rate < 0 else 0) / -4


def shard_size(uint32_t blocks) -> int:
    """Bytes of a shard with this many blocks of 16 records."""
    return clientlog_size(blocks)


def bucket_parameters(int interval, int burst) -> tuple[int, int, int]:
    """Token shift, tokens a request takes and capacity of a limit's bucket."""
    cdef clientlog log
    clientlog_set_limit(&log, SERVICE_NTP, True, interval, burst, 2, 0)
    return log.limits[0].shift, log.limits[0].cost, log.limits[0].capacity


def init_shard(unsigned char[::1] memory, uint32_t blocks, bytes seed, uint32_t ipv6_prefix=128) -> None:
    """Lay out a shard in zeroed memory, aligned to 64 bytes for speed (8 it must be). `seed` is 20 random bytes."""
    if len(seed) != 20:
        raise ValueError("a seed has 20 bytes")
    if memory.shape[0] == 0 or not clientlog_init(&memory[0], memory.shape[0], blocks, ipv6_prefix, seed):
        raise ValueError("no room for a shard, or an argument out of its range")


# One address as reported. The tuples are by service (NTP, NTS-KE, commands); intervals are log2 s with 127 for
# unknown; last_s is whole seconds ago, −1 for never.
ClientRecord = namedtuple("ClientRecord", "address hits drops interval_log2 timeout_interval_log2 last_s")


cdef class ClientLogReader:
    """A shard as reports read it, perhaps while its writer works on it. Raises ValueError when it is none.

    `base` is the number of records in the shards before it. Reset states are explained in `_clientlog.pxd`.
    """

    cdef clientlog _log
    cdef const unsigned char[::1] _memory
    cdef readonly uint32_t base

    def __init__(self, const unsigned char[::1] memory, uint32_t base=0):
        if memory.shape[0] == 0 or not clientlog_attach(&self._log, <void *> &memory[0], memory.shape[0]):
            raise ValueError("not a client log shard of this version")
        self._memory = memory
        self.base = base

    @property
    def capacity(self) -> int:
        """Number of records that there is room for; the writer may use fewer of them."""
        return self._log.block_max * CLIENTLOG_WAYS

    @property
    def used(self) -> int:
        """Number of records in use."""
        return self._log.header.used

    @property
    def evictions(self) -> int:
        """Records replaced while in use."""
        return self._log.header.evictions

    def next(self, uint32_t index, uint32_t hits_min, uint64_t reset_state, uint32_t end=0xFFFFFFFF) -> int:
        """The first record from `index` on, below `end`, in use with at least `hits_min` hits of one service.

        `end`, or the capacity where that is less: there is none.
        """
        cdef client_record record
        cdef bint found = False
        clientlog_follow(&self._log)
        end = min(end, self._log.block_max * CLIENTLOG_WAYS)
        if self._log.header.used == 0:
            return end      # not even looked at: reading would give it memory
        clientlog_set_reset(&self._log, reset_state, self.base)
        with nogil:
            while index < min(end, self._log.block_count * CLIENTLOG_WAYS) and not found:
                if index % CLIENTLOG_WAYS >= self._log.blocks[index // CLIENTLOG_WAYS].used:
                    index += CLIENTLOG_WAYS - index % CLIENTLOG_WAYS      # ways are taken in order
                    continue
                found = clientlog_read(&self._log, index, &record) and (
                    record.hits[0] >= hits_min or record.hits[1] >= hits_min or record.hits[2] >= hits_min)
                index += not found
        return index if found else end

    def find(self, bytes address) -> int | None:
        """Index of the record of an address (4 or 16 bytes)."""
        cdef ntp_addr addr
        cdef int64_t index
        addr_from_packed(&addr, address)
        clientlog_follow(&self._log)
        index = clientlog_find(&self._log, &addr)
        return index if index >= 0 else None

    def read(self, uint64_t index, uint64_t reset_state, uint64_t ntp_time) -> ClientRecord | None:
        """Record `index` at NTP64 `ntp_time`, None when it is free or just changing hands."""
        cdef client_record record
        cdef uint32_t ticks = clientlog_ticks(&self._log, ntp_time)
        clientlog_set_reset(&self._log, reset_state, self.base)
        if not clientlog_read(&self._log, index, &record):
            return None
        return ClientRecord(
            record.bytes[: 4 if record.family == FAMILY_IPV4 else 16],
            tuple([record.hits[i] for i in range(SERVICES)]),
            tuple([record.drops[i] for i in range(SERVICES)]),
            tuple([clientlog_interval(record.rate[i]) for i in range(SERVICES)]),
            clientlog_interval(record.timeout_rate),
            tuple([(ticks - record.last_hit[i]) >> 4 if record.last_hit[i] else -1 for i in range(SERVICES)]),
        )


cdef class ClientLogWriter:
    """The writer's side, a call at a time: for tests and for services that are served from Python."""

    def __cinit__(self):
        self._rng = <rng_buf *> calloc(1, sizeof(rng_buf))
        if self._rng == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._rng)

    def __init__(self, unsigned char[::1] memory):
        if memory is None:
            clientlog_attach(&self._log, NULL, 0)
        elif memory.shape[0] == 0 or not clientlog_attach(&self._log, &memory[0], memory.shape[0]):
            raise ValueError("not a client log shard of this version")
        self._memory = memory

    def set_limit(self, int service, int interval, int burst, int leak, int kod=0) -> None:
        """Limit a service (0 NTP, 1 NTS-KE, 2 commands)."""
        if not 0 <= service < SERVICES:
            raise ValueError("no such service")
        clientlog_set_limit(&self._log, service, True, interval, burst, leak, kod)

    def clear_limit(self, int service) -> None:
        """Limit a service (as in `set_limit`) no more."""
        if not 0 <= service < SERVICES:
            raise ValueError("no such service")
        clientlog_set_limit(&self._log, service, False, 0, 1, 1, 0)

    def set_reset(self, uint64_t state, uint32_t base=0) -> None:
        """Take over control's reset state; `base` is the number of records in the shards before."""
        clientlog_set_reset(&self._log, state, base)

    def feed_random(self, bytes random) -> None:
        """Make these bytes (at most 65536) the next random ones."""
        if len(random) > RNG_SIZE:
            raise ValueError("too many random bytes")
        self._rng.left = len(random)
        memcpy(self._rng.data + RNG_SIZE - len(random), <const uint8_t *> random, len(random))

    cdef void reset(self, uint64_t state, uint32_t base) noexcept:
        clientlog_set_reset(&self._log, state, base)

    cdef int count(self, const ntp_addr *addr, int service, uint64_t ntp_time) noexcept:
        cdef uint64_t hash = clientlog_prefetch(&self._log, addr)
        cdef int32_t index
        clientlog_prefetch_record(&self._log, hash)
        index = clientlog_hit(&self._log, addr, hash, service, clientlog_ticks(&self._log, ntp_time))
        rng_fill(self._rng, 1)
        return clientlog_limit(&self._log, index, service, self._rng)

    def hit(self, bytes address, int service, uint64_t ntp_time) -> int:
        """Count a request; the index of its record, −1 when none is kept."""
        cdef ntp_addr addr
        cdef uint64_t hash
        if not 0 <= service < SERVICES:
            raise ValueError("no such service")
        addr_from_packed(&addr, address)
        hash = clientlog_prefetch(&self._log, &addr)
        clientlog_prefetch_record(&self._log, hash)
        return clientlog_hit(&self._log, &addr, hash, service, clientlog_ticks(&self._log, ntp_time))

    def limit(self, int32_t index, int service) -> int:
        """What to do with the request just counted: 0 pass, 1 drop, 2 answer with RATE."""
        if not 0 <= service < SERVICES:
            raise ValueError("no such service")
        if index >= <int64_t> self._log.block_count * CLIENTLOG_WAYS:
            raise IndexError("no such record")
        rng_fill(self._rng, 1)
        return clientlog_limit(&self._log, index, service, self._rng)

    def tokens(self, uint64_t index, int service) -> int:
        """Tokens in the bucket of a record."""
        cdef client_record record
        if not 0 <= service < SERVICES or not clientlog_read(&self._log, index, &record):
            raise IndexError("no such record")
        return record.tokens[service]

    def hit_many(self, bytes addresses, int width, int service, uint64_t ntp_time, uint64_t ntp_step,
                 int batch=64) -> int:
        """Count a request from each of the concatenated addresses, in batches with prefetching.

        `width` is 4 or 16 bytes, `ntp_step` the time between two requests. The number that got a record.
        """
        cdef const uint8_t *packed = addresses
        cdef Py_ssize_t count, done, i, n
        cdef ntp_addr addrs[64]
        cdef uint64_t hashes[64]
        cdef long long kept = 0
        if width not in (4, 16) or not 1 <= batch <= 64 or not 0 <= service < SERVICES:
            raise ValueError("width 4 or 16, batch 1 … 64, service 0 … 2")
        count = len(addresses) // width
        memset(addrs, 0, sizeof(addrs))
        with nogil:
            done = 0
            while done < count:
                n = count - done if count - done < batch else batch
                for i in range(n):
                    addrs[i].family = FAMILY_IPV4 if width == 4 else FAMILY_IPV6
                    memcpy(addrs[i].bytes, packed + (done + i) * width, width)
                    hashes[i] = clientlog_prefetch(&self._log, &addrs[i])
                for i in range(n):
                    clientlog_prefetch_record(&self._log, hashes[i])
                for i in range(n):
                    kept += clientlog_hit(&self._log, &addrs[i], hashes[i], service,
                                          clientlog_ticks(&self._log, ntp_time)) >= 0
                    ntp_time += ntp_step
                done += n
        return kept
