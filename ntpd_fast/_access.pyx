"""Look-ups in the compiled access table (layout: `_access.pxd`, builder: `server/access.py`).

The rule kept here: after `access_attach` said yes, no look-up reads outside the table or runs longer than
ACCESS_STEPS_MAX steps, whatever the bytes are.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from ntpd_fast._addr cimport FAMILY_IPV4, FAMILY_IPV6, ntp_addr

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
        return index < header.nibbles
    if kind == ACCESS_BYTE:
        return index < header.bytes
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
    end = sizeof(access_header)
    if header.skip_offset != end:
        return False
    end += <uint64_t> header.skips * sizeof(access_skip)
    if header.nibble_offset != end:
        return False
    end += <uint64_t> header.nibbles * 64
    if header.byte_offset != end:
        return False
    end += <uint64_t> header.bytes * 1024
    if header.size != end:
        return False
    if not _reference_ok(header, header.root4) or not _reference_ok(header, header.root6):
        return False
    skip = <const access_skip *> (table + header.skip_offset)
    for i in range(header.skips):
        if not _reference_ok(header, skip[i].hit) or not _reference_ok(header, skip[i].miss):
            return False
        if skip[i].bits < 4 or skip[i].bits > 60:
            return False
    references = <const uint32_t *> (table + header.nibble_offset)
    for i in range((header.size - header.nibble_offset) // 4):
        if not _reference_ok(header, references[i]):
            return False
    return True


cdef bint access_check(const uint8_t *table, const ntp_addr *addr) noexcept nogil:
    cdef const access_header *header = <const access_header *> table
    cdef const access_skip *skip
    cdef uint64_t hi = access_load_be64(addr.bytes)
    cdef uint64_t lo = 0
    cdef uint32_t reference, kind, index, step, bits
    if addr.family == FAMILY_IPV4:
        reference = header.root4
    elif addr.family == FAMILY_IPV6:
        reference = header.root6
        lo = access_load_be64(addr.bytes + 8)
    else:
        return False
    for step in range(ACCESS_STEPS_MAX + 1):
        kind = reference & 3
        index = reference >> 2
        if kind == ACCESS_LEAF:
            return index
        if kind == ACCESS_SKIP:
            skip = <const access_skip *> (table + header.skip_offset) + index
            if (hi ^ skip.value) & skip.mask:
                reference = skip.miss
                continue
            reference = skip.hit
            bits = skip.bits
            hi = (hi << bits) | (lo >> (64 - bits))
            lo <<= bits
        elif kind == ACCESS_NIBBLE:
            reference = (<const uint32_t *> (table + header.nibble_offset))[index * 16 + (hi >> 60)]
            hi = (hi << 4) | (lo >> 60)
            lo <<= 4
        else:
            reference = (<const uint32_t *> (table + header.byte_offset))[index * 256 + (hi >> 56)]
            hi = (hi << 8) | (lo >> 56)
            lo <<= 8
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
        memset(&addr, 0, sizeof(addr))
        if len(address) == 4:
            addr.family = FAMILY_IPV4
        elif len(address) == 16:
            addr.family = FAMILY_IPV6
        else:
            raise ValueError("an address has 4 or 16 bytes")
        memcpy(addr.bytes, <const uint8_t *> address, len(address))
        return access_check(&self._bytes[0], &addr)

    def any_allowed(self, int family) -> bool:
        """Whether any address of the family (4 or 6) is allowed."""
        return access_any_allowed(&self._bytes[0], family)

    def check_rate(self, bytes addresses, int rounds) -> int:
        """Look up the concatenated 4-byte addresses `rounds` times; the number of allowed ones (for `make bench`)."""
        cdef Py_ssize_t count = len(addresses) // 4
        cdef const uint8_t *packed = addresses
        cdef const uint8_t *table = &self._bytes[0]
        cdef ntp_addr addr
        cdef Py_ssize_t i
        cdef int r
        cdef long long allowed = 0
        memset(&addr, 0, sizeof(addr))
        addr.family = FAMILY_IPV4
        with nogil:
            for r in range(rounds):
                for i in range(count):
                    memcpy(addr.bytes, packed + 4 * i, 4)
                    allowed += access_check(table, &addr)
        return allowed
