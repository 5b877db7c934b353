"""What can be computed from arguments alone: names of requests, histograms, the schedule of sending.

A request is named by its sequence number. Its nonces (the transmit timestamp, and in interleaved requests
the receive timestamp) are an invertible scramble of that number, so an answer leads back to its request by
arithmetic and one look into a ring of what is outstanding. All of it inline: these are a few instructions each.
"""

from libc.math cimport log
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint32_t, uint64_t
from libc.string cimport memset

cdef enum:
    BUCKETS = 1216              # values up to 2^42 ns, 32 buckets for each power of two

ctypedef struct histogram:
    uint64_t counts[2][1216]    # [0] values ≥ 0, [1] values < 0 by magnitude
    uint64_t count
    int64_t sum
    int64_t negative_sum        # of the values < 0
    int64_t minimum
    int64_t maximum

ctypedef struct pacer:
    double next_ns              # when the next burst is due
    double gap_ns               # mean time between bursts; 0: no schedule
    double lag_ns               # how far behind it may fall before bursts are skipped
    uint64_t random             # state of the arrivals' generator
    bint poisson

cdef extern from *:
    """
    static const uint64_t loadtest_multiplier = 0x9E3779B97F4A7C15U;
    static const uint64_t loadtest_inverse = 0xF1DE83E19937733DU;   /* of the multiplier modulo 2^64 */
    """
    const uint64_t MULTIPLIER "loadtest_multiplier"
    const uint64_t INVERSE "loadtest_inverse"
    int __builtin_clzll(unsigned long long value) nogil


cdef inline uint64_t make_nonce(uint64_t sequence, uint64_t kind, uint64_t seed) noexcept nogil:
    return (((sequence << 1) | kind) * MULTIPLIER) ^ seed


cdef inline uint64_t open_nonce(uint64_t value, uint64_t seed) noexcept nogil:
    """sequence << 1 | kind"""
    return (value ^ seed) * INVERSE


cdef inline uint64_t next_random(uint64_t *state) noexcept nogil:
    """splitmix64"""
    cdef uint64_t z
    state[0] += MULTIPLIER
    z = state[0]
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9U
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EBU
    return z ^ (z >> 31)


cdef inline uint32_t bucket_index(uint64_t magnitude) noexcept nogil:
    """Exact below 32; above, 32 equal buckets between each two powers of two."""
    cdef uint32_t exponent
    if magnitude < 32:
        return <uint32_t>magnitude
    exponent = 63 - <uint32_t>__builtin_clzll(magnitude)
    if exponent > 41:
        return BUCKETS - 1
    return ((exponent - 4) << 5) + <uint32_t>(magnitude >> (exponent - 5)) - 32


cdef inline void record(histogram *h, int64_t value) noexcept nogil:
    if value >= 0:
        h.counts[0][bucket_index(<uint64_t>value)] += 1
    else:
        h.counts[1][bucket_index(<uint64_t>(-value))] += 1
        h.negative_sum += value
    h.count += 1
    h.sum += value
    if value < h.minimum:
        h.minimum = value
    if value > h.maximum:
        h.maximum = value


cdef inline void clear(histogram *h) noexcept nogil:
    memset(h, 0, sizeof(histogram))
    h.minimum = INT64_MAX
    h.maximum = INT64_MIN


cdef inline void pacer_advance(pacer *p) noexcept nogil:
    if p.poisson:
        p.next_ns -= log((<double>(next_random(&p.random) >> 11) + 1.0) / 9007199254740992.0) * p.gap_ns
    else:
        p.next_ns += p.gap_ns


cdef inline uint64_t pacer_catch_up(pacer *p, double now_ns) noexcept nogil:
    """Bursts given up because the schedule lies too far behind `now_ns`; the schedule goes on from now."""
    cdef uint64_t skipped
    if p.gap_ns <= 0.0 or now_ns - p.next_ns <= p.lag_ns:
        return 0
    skipped = <uint64_t>((now_ns - p.next_ns) / p.gap_ns)
    p.next_ns += <double>skipped * p.gap_ns
    return skipped


cdef inline uint32_t pacer_due(pacer *p, double now_ns, uint32_t limit) noexcept nogil:
    """Bursts due by `now_ns`, at most `limit`; they count as taken."""
    cdef uint32_t due = 0
    while due < limit and p.next_ns <= now_ns:
        pacer_advance(p)
        due += 1
    return due
