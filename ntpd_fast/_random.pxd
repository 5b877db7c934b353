"""Random bytes for the data plane, taken from a buffer that someone else keeps full.

The sans-IO core makes no system call: whoever drives it (`_udp`, a test) tops the buffer up before each batch with
`rng_fill` (getrandom) or with bytes of its own choosing. A byte is handed out once and zeroed. A zeroed buffer is an
empty one: memory wiped on fork (MADV_WIPEONFORK) hands out nothing before it is filled anew.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef enum:
    RNG_SIZE = 65536

ctypedef struct rng_buf:
    uint32_t left       # unused bytes, the last ones of `data`
    uint8_t data[65536]

cdef inline uint32_t rng_left(const rng_buf *rng) noexcept nogil:
    """Unused bytes in the buffer."""
    return rng.left

cdef inline bint rng_take(rng_buf *rng, void *out, uint32_t size) noexcept nogil:
    """Move `size` bytes out of the buffer; false, and nothing written, when it holds fewer."""
    cdef uint8_t *next_unused
    if rng.left < size:
        return False
    next_unused = rng.data + (RNG_SIZE - rng.left)
    memcpy(out, next_unused, size)
    memset(next_unused, 0, size)
    rng.left -= size
    return True

cdef bint rng_fill(rng_buf *rng, uint32_t wanted) noexcept nogil
