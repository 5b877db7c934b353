"""Look-ups in the compiled access table (layout: `_access.pxd`, builder: `server/access.py`).

The rule kept here: after `access_attach` said yes, no look-up reads outside the table or runs longer than
ACCESS_STEPS_MAX steps, whatever the bytes are.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from ntpd_fast._addr cimport FAMILY_IPV4, FAMILY_IPV6, addr_from_packed, ntp_addr

cdef extern from *:
    """
    #include <endian.h>
    #include <stdint.h>
    #include <string.h>
    static inline uint64_t access_load_be64(const uint8_t *p)
    {
        uint64_t v;
        memcpy(&v, p, 8);
        return be64toh(v);
    }
    """
    uint64_t access_load_be64(const uint8_t *p) nogil


cdef inline bint _reference_ok(const access_header *header, uint32_t reference) noexcept nogil:
    cdef uint32_t kind = reference & 3
    cdef uint32_t index = reference >> 2
    if kind == ACCESS_LEAF:
        return index <= 1
    if kind == ACCESS_NIBBLE:
        return index < header.rows
    if kind == ACCESS_BYTE:
        return index + 16 <= header.rows
    return index < header.skips


cdef bint access_attach(const uint8_t *table, uint64_t size) noexcept nogil:
    cdef const access_header *header = <const access_header *> table
    cdef const uint32_t *references
    cdef const access_skip *skip
    cdef uint64_t end
    cdef uint32_t i
    if size < sizeof(access_header) or (<uint64_t> table) & 7 != 0:
        return False
    if header.magic != ACCESS_MAGIC or header.version != ACCESS_VERSION or header.size > size:
        return False
    end = sizeof(access_header) + <uint64_t> header.skips * sizeof(access_skip)
    if header.row_offset != end or header.size != end + <uint64_t> header.rows * 64:
        return False
    if not _reference_ok(header, header.root4) or not _reference_ok(header, header.root6):
        return False
    skip = <const access_skip *> (table + sizeof(access_header))
    for i in range(header.skips):
        if not _reference_ok(header, skip[i].next[0]) or not _reference_ok(header, skip[i].next[1]):
            return False
        if skip[i].bits < 4 or skip[i].bits > 60:
            return False
    references = <const uint32_t *> (table + header.row_offset)
    for i in range(header.rows * 16):
        if not _reference_ok(header, references[i]):
            return False
    return True


cdef bint access_check(const uint8_t *table, const ntp_addr *addr) noexcept nogil:
    cdef const access_header *header = <const access_header *> table
    cdef const uint32_t *rows = <const uint32_t *> (table + header.row_offset)
    cdef const access_skip *skips = <const access_skip *> (table + sizeof(access_header))
    cdef const access_skip *skip
    cdef uint64_t hi = access_load_be64(addr.bytes)
    cdef uint64_t lo = 0
    cdef uint32_t reference, step, bits
    if addr.family == FAMILY_IPV4:
        reference = header.root4
    elif addr.family == FAMILY_IPV6:
        reference = header.root6
        lo = access_load_be64(addr.bytes + 8)
    else:
        return False
    for step in range(ACCESS_STEPS_MAX + 1):
        if reference & 3 == ACCESS_LEAF:
            return reference >> 2
        # one branch that is hard to predict, not three: both sizes of rows and both ends of a skip take the same way
        if reference & 3 == ACCESS_SKIP:
            skip = skips + (reference >> 2)
            bits = skip.bits
            reference = skip.next[((hi ^ skip.value) & skip.mask) != 0]
        else:
            bits = (reference & 3) << 2
            reference = rows[(reference >> 2) * 16 + (hi >> (64 - bits))]
        hi = (hi << bits) | (lo >> (64 - bits))
        lo <<= bits
    # only a table with a cycle gets here, which the builder cannot make
    return False


cdef bint access_any_allowed(const uint8_t *table, uint32_t family) noexcept nogil:
    cdef const access_header *header = <const access_header *> table
    if family == FAMILY_IPV4:
        return header.any_allowed & 1
    if family == FAMILY_IPV6:
        return (header.any_allowed >> 1) & 1
    return False


cdef class AccessView:
    """A compiled table as Python sees it: for tests, and for control's own sockets.

    Raises ValueError when the bytes are not a table.
    """

    cdef const uint8_t[::1] _bytes

    def __init__(self, const uint8_t[::1] table):
        if table.shape[0] == 0 or not access_attach(&table[0], table.shape[0]):
            raise ValueError("not an access table of this version")
        self._bytes = table

    def check(self, bytes address) -> bool:
        """Whether the address (4 or 16 bytes, network order) may ask."""
        cdef ntp_addr addr
        addr_from_packed(&addr, address)
        return access_check(&self._bytes[0], &addr)

    def any_allowed(self, int family) -> bool:
        """Whether any address of the family (4 or 6) is allowed."""
        return access_any_allowed(&self._bytes[0], family)

    def check_rate(self, bytes addresses, int rounds) -> int:
        """Look up the concatenated 4-byte addresses `rounds` times; how often allowed (for `make bench`)."""
        cdef Py_ssize_t count = len(addresses) // 4
        cdef const uint8_t *packed = addresses
        cdef const uint8_t *table = &self._bytes[0]
        cdef ntp_addr *addrs = <ntp_addr *> calloc(count + 1, sizeof(ntp_addr))
        cdef Py_ssize_t i
        cdef int r
        cdef long long allowed = 0
        if addrs == NULL:
            raise MemoryError
        with nogil:
            for i in range(count):
                addrs[i].family = FAMILY_IPV4
                memcpy(addrs[i].bytes, packed + 4 * i, 4)
            for r in range(rounds):
                for i in range(count):
                    allowed += access_check(table, &addrs[i])
            free(addrs)
        return allowed
