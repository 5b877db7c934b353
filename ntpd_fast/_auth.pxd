"""Symmetric authentication of packets (RFC 5905 MAC, RFC 8573 AES-CMAC) over libnettle.

A key table is an immutable version in flat memory: ids in order for the search, then for each key what its algorithm
can have ready: the hash's state after the key, or the cipher's schedule and the CMAC subkeys. It holds no pointer and is
good in every process that uses the same build of nettle. It is as secret as the keys it was made of.

A MAC is the key id and the digest of all that is before it. Version 4 truncates the digest to 20 bytes, so that a MAC
is never taken for an extension field (RFC 7822); versions up to 3 carry all of it (at most 64 bytes).
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    AUTH_TABLE_MAGIC = 0x4B59454B       # "KEYK"
    AUTH_TABLE_VERSION = 1
    AUTH_DIGEST_MAX = 64
    AUTH_DIGEST_MAX_V4 = 20
    AUTH_MAC_MAX = 68                   # key id and digest

ctypedef struct auth_entry:
    uint64_t offset             # of the state, from the start of the table; a multiple of 16
    uint32_t algorithm          # index of ALGORITHMS
    uint32_t digest_length      # whole, bytes

ctypedef struct auth_table:
    uint32_t magic
    uint32_t version
    uint64_t size               # bytes
    uint32_t count
    uint32_t build              # of nettle: sum over its state sizes
    uint64_t checksum           # of all 64-bit words, this one taken as 0: a state must never be used half written
    uint64_t reserved[4]
    # uint32_t ids[count], padded to 16 bytes; auth_entry entries[count]; states

# Whether the `size` bytes at `table` (16-byte aligned) are a table this process can use; once per version.
cdef bint auth_attach(const uint8_t *table, uint64_t size) noexcept nogil

# Position of a key, −1: unknown. Key id 0 is never known. `table` may be NULL.
cdef int32_t auth_find(const uint8_t *table, uint32_t key_id) noexcept nogil

# Bytes of the MAC of a key in a packet of this NTP version.
cdef uint32_t auth_mac_length(const uint8_t *table, int32_t key, uint32_t version) noexcept nogil

# Check the MAC that begins at `mac_start` and ends the packet: position of its key, −1 when it is not valid
# (unknown key, wrong length, wrong digest). `table` may be NULL.
cdef int32_t auth_check(const uint8_t *table, const uint8_t *packet, uint32_t length,
                        uint32_t mac_start) noexcept nogil

# Append the MAC of a key (from auth_check or auth_find) to a packet of `length` bytes in a buffer of `capacity`.
# The new length; 0 when it does not fit.
cdef uint32_t auth_sign(const uint8_t *table, int32_t key, uint8_t *packet, uint32_t length,
                        uint32_t capacity) noexcept nogil
