"""The way out: requests written, noted as outstanding, sent in batches, and given up after a while."""

from libc.stdint cimport int64_t, uint32_t

from loadtest._state cimport generator

# Everything in the message headers that stays the same from batch to batch.
cdef void lay_out(generator *g) noexcept nogil
# Send `count` messages; what the kernel does not take is withdrawn. -1: errno in `error`.
cdef int send_batch(generator *g, uint32_t count) noexcept nogil
# Give up what has waited longer than the timeout.
cdef void expire(generator *g, int64_t now_ns) noexcept nogil
