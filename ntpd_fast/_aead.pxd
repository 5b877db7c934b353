"""The two authenticated ciphers of Network Time Security, composed from libnettle's primitives.

AES-SIV-CMAC-256 (RFC 5297, id 15) and AES-128-GCM-SIV (RFC 8452, id 30), for the packet path: no lock, no allocation,
no system call; keys live in caller memory as ready schedules (`aead_key`), which may lie in shared memory because they
hold no pointer. nettle gives AES, its CBC, CTR and GHASH assembly; only the modes' own bookkeeping is done here. nettle
has AES-128-GCM-SIV itself from 3.9 on; GHASH is in every version, costs the same, and gives one path that every
build tests. A false return never leaves plaintext behind.
"""

from libc.stdint cimport uint8_t, uint32_t

cdef extern from "<nettle/aes.h>" nogil:
    ctypedef struct aes128_ctx "struct aes128_ctx":
        pass

cdef enum:
    AEAD_AES_SIV_CMAC_256 = 15
    AEAD_AES_128_GCM_SIV = 30
    AEAD_KEY_MAX = 32           # bytes
    AEAD_NONCE_MAX = 16         # bytes, of the nonces we make
    AEAD_TAG = 16               # bytes, both algorithms

ctypedef struct aead_key:
    uint32_t algorithm          # IANA AEAD id; 0: no key
    uint32_t can_crypt          # 0: only empty plaintexts (schedule of the CTR half not made)
    uint32_t has_empty_ad       # after_empty_ad is valid
    uint32_t reserved
    aes128_ctx mac              # SIV: the CMAC half; GCM-SIV: the key-generating key
    aes128_ctx ctr              # SIV only: the CTR half
    uint8_t subkey_full[16]     # CMAC K1
    uint8_t subkey_padded[16]   # CMAC K2
    uint8_t start[16]           # S2V's CMAC of the zero block
    uint8_t after_empty_ad[16]  # S2V state once an empty AD component is taken in

cdef inline uint32_t aead_key_size(uint32_t algorithm) noexcept nogil:
    """Bytes of a key, 0 for an algorithm we do not have."""
    if algorithm == AEAD_AES_SIV_CMAC_256:
        return 32
    if algorithm == AEAD_AES_128_GCM_SIV:
        return 16
    return 0

cdef inline uint32_t aead_nonce_size(uint32_t algorithm) noexcept nogil:
    """Bytes of the nonces we make with it: min(16, longest it takes) (spec: the padding rule uses the same number)."""
    return 12 if algorithm == AEAD_AES_128_GCM_SIV else 16

cdef inline uint32_t aead_plain_offset(uint32_t algorithm) noexcept nogil:
    """Where the plaintext has to lie in the output for sealing in place (SIV: behind the tag; GCM-SIV: in front)."""
    return 0 if algorithm == AEAD_AES_128_GCM_SIV else AEAD_TAG

# Make the schedules of a raw key of aead_key_size() bytes; false for an unknown algorithm.
cdef bint aead_set_key(aead_key *key, uint32_t algorithm, const uint8_t *raw) noexcept nogil
# The same, enough only to seal and open empty plaintexts: saves a key expansion. `aead_complete_key` adds the rest.
cdef bint aead_set_key_auth_only(aead_key *key, uint32_t algorithm, const uint8_t *raw) noexcept nogil
cdef void aead_complete_key(aead_key *key, const uint8_t *raw) noexcept nogil
# Keep what an empty AD costs: for keys that seal cookies.
cdef void aead_precompute_empty_ad(aead_key *key) noexcept nogil

# out: plain_length + 16 bytes. `plain` may lie in `out` at aead_plain_offset(). False: a nonce length it does not take.
cdef bint aead_seal(const aead_key *key, const uint8_t *nonce, uint32_t nonce_length, const uint8_t *ad,
                    uint32_t ad_length,
                    const uint8_t *plain, uint32_t plain_length, uint8_t *out) noexcept nogil
# out: sealed_length - 16 bytes, not overlapping `sealed`; zeroed when the tag is wrong.
cdef bint aead_open(const aead_key *key, const uint8_t *nonce, uint32_t nonce_length, const uint8_t *ad,
                    uint32_t ad_length,
                    const uint8_t *sealed, uint32_t sealed_length, uint8_t *out) noexcept nogil
