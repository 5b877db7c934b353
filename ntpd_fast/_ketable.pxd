"""Places for sessions of NTS key exchange, shared out fairly: see the .pyx."""

from libc.stdint cimport int32_t, uint32_t, uint64_t

cdef enum:
    NOBODY = -1

ctypedef struct ke_place:       # one session, or a free place
    double since                # when it was taken
    int32_t older               # the next older session, NOBODY: it is the oldest
    int32_t newer               # the next newer one; of a free place the next free one
    int32_t group
    int32_t before              # the next older session of the group
    int32_t after               # the next newer one

ctypedef struct ke_group:       # the sessions of one network, or free
    uint64_t prefix
    int32_t count
    int32_t first               # its oldest session
    int32_t last
    int32_t chained             # the next group with the same hash; of a free one the next free one
    int32_t before              # its neighbours among the groups of the same count
    int32_t after

ctypedef struct ke_row:         # the groups with a certain count, in the order they came to have it
    int32_t first
    int32_t last


cdef class SessionTable:
    """See the .pyx."""
    cdef ke_place *_place
    cdef ke_group *_group       # as many as places
    cdef ke_row *_row           # by count: 0 … room
    cdef int32_t *_chain        # first group by hash
    cdef uint32_t _chain_mask
    cdef uint64_t _seed
    cdef int32_t _room          # places there is memory for
    cdef int32_t _places        # places that may be taken
    cdef int32_t _count
    cdef int32_t _count_max     # of a group
    cdef int32_t _oldest
    cdef int32_t _newest
    cdef int32_t _free_place
    cdef int32_t _free_group

    cdef bint grow(self, int32_t room) except False
    cdef uint64_t hash(self, uint64_t prefix) noexcept
    cdef int32_t find(self, uint64_t prefix) noexcept
    cdef void move(self, int32_t group, int32_t count) noexcept
    # Take a place; there has to be one.
    cdef int32_t take(self, uint64_t prefix, double now) noexcept
    cdef void leave(self, int32_t place) noexcept
    # The session to close for a newcomer, or NOBODY.
    cdef int32_t victim(self, uint64_t prefix) noexcept
