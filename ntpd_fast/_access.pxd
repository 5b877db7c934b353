"""The compiled access table: which addresses may ask, answered in a few loads.

`server/access.py` builds it, a worker attaches it once per version and then only reads: the table is immutable.
Two arenas of nodes follow the header, so that attaching can check every reference with one linear scan and a look-up,
which consumes at least 4 bits a step, ends whatever the table holds.

A reference (32 bits) is `index << 2 | kind`. A leaf's index is 0 (denied) or 1 (allowed).
All integers are in the byte order of the machine: a table never leaves it.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from ntpd_fast._addr cimport FAMILY_IPV4, ntp_addr

cdef enum:
    ACCESS_MAGIC = 0x4343414E      # "NACC"
    ACCESS_VERSION = 1
    ACCESS_STEPS_MAX = 32          # 128 bits, at least 4 a step

    ACCESS_LEAF = 0
    ACCESS_NIBBLE = 1              # 16 references, by the next 4 bits; index in rows of 16
    ACCESS_BYTE = 2                # 256 references, by the next 8 bits; index in rows of 16
    ACCESS_SKIP = 3                # compares up to 60 bits at once

ctypedef struct access_header:
    uint32_t magic
    uint32_t version
    uint32_t size                  # of the whole table, bytes
    uint32_t any_allowed           # bit 0: some IPv4 address is allowed, bit 1: some IPv6 address is
    uint32_t root4
    uint32_t root6
    uint32_t skips                 # number of skip nodes (32 bytes each): they follow the header
    uint32_t rows                  # number of rows of 16 references (64 bytes each): they follow the skip nodes
    uint32_t row_offset            # of the first row, bytes
    uint32_t reserved[7]

ctypedef struct access_skip:
    uint64_t value                 # the next 64 bits of the address, those under the mask
    uint64_t mask
    uint32_t next[2]               # when the bits are equal; when they are not: a leaf
    uint32_t bits                  # consumed: 4, 8 … 60
    uint32_t reserved

# Whether the `size` bytes at `table` are a table `access_check` can walk safely; once per version, not per packet.
cdef bint access_attach(const uint8_t *table, uint64_t size) noexcept nogil

# Whether `addr` may ask. The table has been attached. Addresses of no family are denied.
cdef bint access_check(const uint8_t *table, const ntp_addr *addr) noexcept nogil

# Whether any address of the family (FAMILY_*) is allowed: decides whether its socket is opened.
cdef bint access_any_allowed(const uint8_t *table, uint32_t family) noexcept nogil
