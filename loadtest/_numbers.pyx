"""Python faces of `_numbers.pxd`: the bank builder names its requests by them, the tests hold them."""

from libc.stdint cimport uint32_t, uint64_t

globals().update(BUCKETS=BUCKETS)


def nonce(uint64_t sequence, int kind, uint64_t seed):
    return make_nonce(sequence, <uint64_t>kind, seed)


def from_nonce(uint64_t value, uint64_t seed):
    cdef uint64_t opened = open_nonce(value, seed)
    return opened >> 1, int(opened & 1)


def bucket(uint64_t value_ns):
    return bucket_index(value_ns)


cdef pacer new_pacer(double rate, uint32_t burst, bint poisson, uint64_t seed, double lag_ns) except *:
    cdef pacer p
    if rate <= 0 or burst == 0:
        raise ValueError("rate and burst must be positive")
    p.next_ns = 0.0
    p.gap_ns = 1e9 * burst / rate
    p.lag_ns = lag_ns
    p.random = seed
    p.poisson = poisson
    return p


def due_times(double rate, int count, *, unsigned int burst=1, bint poisson=False, uint64_t seed=1):
    cdef pacer p = new_pacer(rate, burst, poisson, seed, 0.0)
    times = []
    while len(times) < count:
        times.extend([p.next_ns] * burst)
        pacer_advance(&p)
    return times[:count]


def paced(double rate, now_ns, *, unsigned int burst=1, double lag_ns=2e6, unsigned int limit=64):
    cdef pacer p = new_pacer(rate, burst, False, 1, lag_ns)
    cdef uint64_t skipped = 0
    due = []
    for now in now_ns:
        skipped += pacer_catch_up(&p, now) * burst
        due.append(pacer_due(&p, now, limit) * burst)
    return due, skipped
