"""Network Time Security (RFC 8915), the server's side of one NTP packet.

Cookies are opened, the request is checked, the answer is sealed. Sans-IO and stateless: packet bytes and random bytes
come in, bytes and an outcome go out. No allocation, no lock, no system call; all state is in caller memory. A request
is hostile until `nts_check_request` says NTS_OK: every length is checked against the packet, and nothing of it is used
for more than its bytes.

How a worker uses it, per batch: `nts_keys_refresh`. Per packet with NTS fields (mode 3, version 4):
  1. `nts_check_request` -> NTS_OK, one of the NAKs or one of the drops (nts.md §7);
  2. NTS_OK: write header and optional extension fields of the response, then `nts_build_response` (UID, new cookies and
     nonce: all the randomness), then put the transmit timestamp into the header, then `nts_seal_response`;
     a NAK: write a KoD header (code NTSN), then `nts_build_nak`;
     a drop: nothing is sent.
The response is never longer than the request, and an authenticated one is padded to exactly its length.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from ntpd_fast._aead cimport aead_key
from ntpd_fast._random cimport rng_buf

cdef enum:
    NTS_EF_UID = 0x0104
    NTS_EF_COOKIE = 0x0204
    NTS_EF_PLACEHOLDER = 0x0304
    NTS_EF_AUTH = 0x0404
    NTS_KEYS = 4                # server keys kept: two old ones, the current one, the next one
    NTS_COOKIES_MAX = 8         # cookies in one response
    NTS_COOKIE_MAX = 100        # bytes: id 4, nonce 16, two keys of 32, tag 16
    NTS_PACKET_MAX = 1140       # bytes of an NTP packet with extension fields (ntp-wire.md §1)
    NTS_RANDOM_MAX = 144        # bytes one `nts_build_response` takes from the rng_buf at most

# Outcomes of nts_check_request.
cdef enum:
    NTS_OK = 0
    NTS_NAK_COOKIE = 1          # key unknown, or the cookie is not ours
    NTS_NAK_AUTH = 2            # the authenticator does not verify
    NTS_NAK_SIZE = 3            # our cookies have become longer than what the request has room for
    NTS_DROP_MISSING = 4        # no UID, no cookie or no authenticator
    NTS_DROP_MALFORMED = 5      # fields that do not fit together (nts.md §7 step 2)
    NTS_DROP_NO_KEYS = 6        # this server has no NTS keys
    NTS_OUTCOMES = 7

ctypedef struct nts_server_key:
    uint32_t id                 # its low two bits are its index in nts_keys.keys
    uint32_t pad
    aead_key aead               # algorithm 0: none

ctypedef struct nts_keys:       # one generation of server keys, as every process keeps it for itself
    uint64_t sequence           # of the ring it was copied from; 0: never copied
    uint32_t current            # index of the key that makes cookies
    uint32_t pad
    nts_server_key keys[4]

ctypedef struct nts_ring:       # shared memory; one writer (control)
    uint64_t sequence           # odd: slot 1 is the stable one; 0: nothing published yet
    uint64_t pad[7]
    nts_keys slots[2]

ctypedef struct nts_request:    # one request in work; reused for every packet
    # valid after NTS_OK, and the first three also after a NAK
    uint32_t length             # of the request
    uint32_t uid_offset         # of the whole field
    uint32_t uid_length         # of the whole field
    uint32_t algorithm          # AEAD of the client
    uint32_t cookies            # to be returned, 1..8
    # between nts_build_response and nts_seal_response
    uint32_t auth_offset        # in the response
    uint32_t plain_length       # of the encrypted fields
    uint32_t pad
    uint8_t c2s_s2c[64]         # keys of the association as they stand in its cookies
    aead_key c2s
    aead_key s2c
    uint8_t plain[1140]         # decrypted fields of the request

# Bring a private copy of the keys up to date; false when there are none. One load when nothing changed.
cdef bint nts_keys_refresh(nts_keys *keys, const nts_ring *ring) noexcept nogil

cdef int nts_check_request(nts_request *request, const nts_keys *keys, const uint8_t *packet,
                           uint32_t length) noexcept nogil

# Append UID and authenticator (still in the clear) to the `offset` bytes of header and optional fields in `response`
# (room: the request's length). The response's length; 0 when `rng` holds too little or `offset` leaves no room.
cdef uint32_t nts_build_response(nts_request *request, const nts_keys *keys, rng_buf *rng, const uint8_t *packet,
                                 uint8_t *response, uint32_t offset) noexcept nogil

# Encrypt and authenticate what nts_build_response laid out, over the header as it is now.
cdef void nts_seal_response(const nts_request *request, uint8_t *response) noexcept nogil

# Append the UID to a KoD header of `offset` bytes. The response's length.
cdef uint32_t nts_build_nak(const nts_request *request, const uint8_t *packet, uint8_t *response,
                            uint32_t offset) noexcept nogil

# One cookie for the keys `c2s_s2c` (C2S then S2C) of `algorithm`: its length; 0 when `rng` is empty or there is no key.
cdef uint32_t nts_make_cookie(const nts_keys *keys, rng_buf *rng, uint32_t algorithm, const uint8_t *c2s_s2c,
                              uint8_t *cookie) noexcept nogil
# The algorithm of the keys in a cookie, which are written to `c2s_s2c`; 0 when it is not ours.
cdef uint32_t nts_open_cookie(const nts_keys *keys, const uint8_t *cookie, uint32_t length,
                              uint8_t *c2s_s2c) noexcept nogil


cdef class KeyRing:
    """Both ends of the shared key ring, for the control plane: see the .pyx."""
    cdef object _mapping        # keeps the memory alive
    cdef nts_ring *ring
    cdef bint _private          # `ring` is memory of our own
    cdef nts_keys _copy

    # Look for newer keys; false when there are none at all.
    cdef bint refresh(self) noexcept
    # A cookie as of `nts_make_cookie`, with the keys of the last `refresh`.
    cdef uint32_t cookie(self, uint32_t algorithm, const uint8_t *c2s_s2c, uint8_t *cookie) except 0
