"""A network address as the data plane keeps it: 16 bytes in network order and a family.

IPv4 fills the first 4 bytes, the rest is zero, so that equality and hashing need no branch on the family.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

cdef enum:
    FAMILY_NONE = 0
    FAMILY_IPV4 = 4
    FAMILY_IPV6 = 6

ctypedef struct ntp_addr:
    uint8_t bytes[16]
    uint32_t family     # FAMILY_*

cdef inline bint addr_equal(const ntp_addr *a, const ntp_addr *b) noexcept nogil:
    return a.family == b.family and memcmp(a.bytes, b.bytes, 16) == 0

cdef inline bint addr_from_packed(ntp_addr *addr, bytes packed) except False:
    """Fill `addr` from 4 or 16 bytes in network order; ValueError for any other number."""
    if len(packed) not in (4, 16):
        raise ValueError("an address has 4 or 16 bytes")
    memset(addr, 0, sizeof(ntp_addr))
    addr.family = FAMILY_IPV4 if len(packed) == 4 else FAMILY_IPV6
    memcpy(addr.bytes, <const char *>packed, len(packed))
    return True
