"""The refill of the data plane's random buffer: the one place where it asks the kernel."""

from libc.stdint cimport uint8_t, uint32_t

cdef extern from "<sys/random.h>" nogil:
    ssize_t getrandom(void *buf, size_t buflen, unsigned int flags)


cdef bint rng_fill(rng_buf *rng, uint32_t wanted) noexcept nogil:
    """Make at least `wanted` (at most RNG_SIZE) bytes available; false when the kernel gave none."""
    cdef ssize_t got
    cdef uint32_t need, start
    cdef uint32_t end = RNG_SIZE - rng.left     # everything from here on is unused
    if rng.left >= wanted:
        return True
    # Refill in steps of 4 KiB (one call stays cheap and is never interrupted below 256 bytes each),
    # writing downwards from the first unused byte so that nothing has to move.
    need = (wanted - rng.left + 4095) & ~<uint32_t>4095
    if need > end:
        need = end
    start = end - need
    while start < end:
        got = getrandom(rng.data + start, end - start, 0)
        if got <= 0:
            return False
        # bytes arrive at the low end; hand out only once the whole step is there
        start += <uint32_t>got
    rng.left += need
    return True
