"""AES-SIV-CMAC-256 and AES-128-GCM-SIV over libnettle (see the .pxd for the rules), and their Python face `Aead`."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    #include <nettle/aes.h>
    #include <nettle/cbc.h>
    #include <nettle/ctr.h>
    #include <nettle/gcm.h>
    #include <nettle/memops.h>
    #include <nettle/version.h>

    /* CBC assembly that keeps the round keys in registers: 40 % off a CMAC. Older nettle has the general form only. */
    static inline void nts_cbc(const struct aes128_ctx *ctx, uint8_t *iv, size_t length, uint8_t *dst,
                               const uint8_t *src)
    {
    #if NETTLE_VERSION_MAJOR > 3 || (NETTLE_VERSION_MAJOR == 3 && NETTLE_VERSION_MINOR >= 8)
        cbc_aes128_encrypt(ctx, iv, length, dst, src);
    #else
        cbc_encrypt(ctx, (nettle_cipher_func *)aes128_encrypt, 16, iv, length, dst, src);
    #endif
    }
    static inline void nts_ctr(const struct aes128_ctx *ctx, uint8_t *counter, size_t length, uint8_t *dst,
                               const uint8_t *src)
    {
        ctr_crypt(ctx, (nettle_cipher_func *)aes128_encrypt, 16, counter, length, dst, src);
    }
    /* GCM takes its hash key by enciphering the zero block: this "cipher" hands it the key we want. */
    static void nts_give_hash_key(const void *key, size_t length, uint8_t *dst, const uint8_t *src)
    {
        (void)src;
        memcpy(dst, key, length);
    }
    static inline void nts_ghash_key(struct gcm_key *table, const uint8_t *hash_key)
    {
        gcm_set_key(table, hash_key, nts_give_hash_key);
    }
    static inline void nts_ghash_start(struct gcm_ctx *ctx) { memset(ctx, 0, sizeof *ctx); }
    static inline const uint8_t *nts_ghash_state(const struct gcm_ctx *ctx) { return ctx->x.b; }
    """
    ctypedef struct gcm_key "struct gcm_key":
        pass
    ctypedef struct gcm_ctx "struct gcm_ctx":
        pass
    void aes128_set_encrypt_key(aes128_ctx *ctx, const uint8_t *key) nogil
    void aes128_encrypt(const aes128_ctx *ctx, size_t length, uint8_t *dst, const uint8_t *src) nogil
    int memeql_sec(const void *a, const void *b, size_t n) nogil
    void gcm_update(gcm_ctx *ctx, const gcm_key *key, size_t length, const uint8_t *data) nogil
    void nts_cbc(const aes128_ctx *ctx, uint8_t *iv, size_t length, uint8_t *dst, const uint8_t *src) nogil
    void nts_ctr(const aes128_ctx *ctx, uint8_t *counter, size_t length, uint8_t *dst, const uint8_t *src) nogil
    void nts_ghash_key(gcm_key *table, const uint8_t *hash_key) nogil
    void nts_ghash_start(gcm_ctx *ctx) nogil
    const uint8_t *nts_ghash_state(const gcm_ctx *ctx) nogil


cdef enum:
    BLOCK = 16
    CHUNK = 256                 # bytes of CBC output thrown away at a time: a few cache lines of stack


cdef inline void xor_block(uint8_t *into, const uint8_t *other) noexcept nogil:
    cdef uint64_t a[2]
    cdef uint64_t b[2]
    memcpy(a, into, BLOCK)
    memcpy(b, other, BLOCK)
    a[0] ^= b[0]
    a[1] ^= b[1]
    memcpy(into, a, BLOCK)


cdef inline void double_block(uint8_t *block) noexcept nogil:
    """Multiply by x in GF(2^128), big-endian (RFC 5297 §2.3, also CMAC's subkeys); no branch on the data."""
    cdef uint32_t carry = block[0] >> 7
    cdef uint32_t i
    for i in range(BLOCK - 1):
        block[i] = <uint8_t>((block[i] << 1) | (block[i + 1] >> 7))
    block[BLOCK - 1] = <uint8_t>((block[BLOCK - 1] << 1) ^ (0x87 & (0 - carry)))


cdef void cmac_finish(const aead_key *key, uint8_t *state, const uint8_t *data, uint32_t length,
                      uint8_t *out) noexcept nogil:
    """RFC 4493 over `data`, going on from `state` (zero, or the CBC of whole blocks before)."""
    cdef uint8_t waste[CHUNK]
    cdef uint8_t last[BLOCK]
    cdef uint32_t whole = (length - 1) & ~<uint32_t>(BLOCK - 1) if length else 0
    cdef uint32_t rest = length - whole
    cdef uint32_t step
    while whole:
        step = whole if whole < CHUNK else CHUNK
        nts_cbc(&key.mac, state, step, waste, data)
        data += step
        whole -= step
    if rest == BLOCK:
        xor_block(state, data)
        xor_block(state, key.subkey_full)
    else:
        memset(last, 0, BLOCK)
        if rest:
            memcpy(last, data, rest)
        last[rest] = 0x80
        xor_block(state, last)
        xor_block(state, key.subkey_padded)
    aes128_encrypt(&key.mac, BLOCK, out, state)


cdef void s2v_component(const aead_key *key, uint8_t *d, const uint8_t *data, uint32_t length) noexcept nogil:
    """D = dbl(D) xor CMAC(component)."""
    cdef uint8_t state[BLOCK]
    cdef uint8_t mac[BLOCK]
    memset(state, 0, BLOCK)
    cmac_finish(key, state, data, length, mac)
    double_block(d)
    xor_block(d, mac)


cdef void s2v_final(const aead_key *key, uint8_t *d, const uint8_t *plain, uint32_t length,
                    uint8_t *tag) noexcept nogil:
    """The last component of S2V: the plaintext, with D xored into its end or, when short, into its padded form."""
    cdef uint8_t state[BLOCK]
    cdef uint8_t tail[2 * BLOCK]
    cdef uint8_t waste[CHUNK]
    cdef uint32_t whole, rest, step
    memset(state, 0, BLOCK)
    if length < BLOCK:
        double_block(d)
        if length:
            memcpy(tail, plain, length)
        memset(tail + length, 0, BLOCK - length)
        tail[length] = 0x80
        xor_block(d, tail)
        cmac_finish(key, state, d, BLOCK, tag)
        return
    whole = (length - BLOCK) & ~<uint32_t>(BLOCK - 1)
    rest = length - whole       # 16 to 31 bytes
    while whole:
        step = whole if whole < CHUNK else CHUNK
        nts_cbc(&key.mac, state, step, waste, plain)
        plain += step
        whole -= step
    memcpy(tail, plain, rest)
    xor_block(tail + rest - BLOCK, d)
    cmac_finish(key, state, tail, rest, tag)


cdef void siv_tag(const aead_key *key, const uint8_t *nonce, uint32_t nonce_length, const uint8_t *ad,
                  uint32_t ad_length,
                  const uint8_t *plain, uint32_t plain_length, uint8_t *tag) noexcept nogil:
    cdef uint8_t d[BLOCK]
    if ad_length == 0 and key.has_empty_ad:
        memcpy(d, key.after_empty_ad, BLOCK)
    else:
        memcpy(d, key.start, BLOCK)
        s2v_component(key, d, ad, ad_length)
    s2v_component(key, d, nonce, nonce_length)
    s2v_final(key, d, plain, plain_length, tag)


cdef void siv_crypt(const aead_key *key, const uint8_t *tag, const uint8_t *src, uint32_t length,
                    uint8_t *dst) noexcept nogil:
    cdef uint8_t counter[BLOCK]
    memcpy(counter, tag, BLOCK)
    counter[8] &= 0x7f
    counter[12] &= 0x7f
    nts_ctr(&key.ctr, counter, length, dst, src)


ctypedef struct gcm_siv_message:
    aes128_ctx encryption       # of this nonce only
    gcm_key table               # GHASH key of this nonce only
    gcm_ctx hash


cdef void polyval_update(gcm_siv_message *message, const uint8_t *data, uint32_t length) noexcept nogil:
    """Take in `data`, zero-padded to blocks. POLYVAL is GHASH with every block's bytes reversed (RFC 8452 app. A)."""
    cdef uint8_t reversed_blocks[CHUNK]
    cdef uint32_t step, i, j, used
    while length:
        step = length if length < CHUNK else CHUNK
        used = (step + BLOCK - 1) & ~<uint32_t>(BLOCK - 1)
        if used != step:
            memset(reversed_blocks + used - BLOCK, 0, BLOCK)
        for i in range(0, step, 16):
            for j in range(16 if step - i >= 16 else step - i):
                reversed_blocks[i + BLOCK - 1 - j] = data[i + j]
        gcm_update(&message.hash, &message.table, used, reversed_blocks)
        data += step
        length -= step


cdef void gcm_siv_start(const aead_key *key, gcm_siv_message *message, const uint8_t *nonce) noexcept nogil:
    """Derive the message's keys from the nonce (RFC 8452 §4) and set up POLYVAL."""
    cdef uint8_t blocks[4 * BLOCK]
    cdef uint8_t raw[BLOCK]
    cdef uint8_t hash_key[BLOCK]
    cdef uint32_t i, low
    memset(blocks, 0, sizeof(blocks))
    for i in range(4):
        blocks[i * BLOCK] = <uint8_t>i
        memcpy(blocks + i * BLOCK + 4, nonce, 12)
    aes128_encrypt(&key.mac, sizeof(blocks), blocks, blocks)
    memcpy(raw, blocks + 2 * BLOCK, 8)
    memcpy(raw + 8, blocks + 3 * BLOCK, 8)
    aes128_set_encrypt_key(&message.encryption, raw)
    # mulX_GHASH(ByteReverse(authentication key))
    for i in range(8):
        hash_key[15 - i] = blocks[i]
        hash_key[7 - i] = blocks[BLOCK + i]
    low = hash_key[15] & 1
    for i in range(15, 0, -1):
        hash_key[i] = <uint8_t>((hash_key[i] >> 1) | (hash_key[i - 1] << 7))
    hash_key[0] = <uint8_t>((hash_key[0] >> 1) ^ (0xe1 & (0 - low)))
    nts_ghash_key(&message.table, hash_key)
    nts_ghash_start(&message.hash)


cdef void gcm_siv_tag(gcm_siv_message *message, const uint8_t *nonce, const uint8_t *ad, uint32_t ad_length,
                      const uint8_t *plain, uint32_t plain_length, uint8_t *tag) noexcept nogil:
    cdef uint8_t lengths[BLOCK]
    cdef uint8_t digest[BLOCK]
    cdef const uint8_t *state
    cdef uint64_t ad_bits = <uint64_t>ad_length * 8
    cdef uint64_t plain_bits = <uint64_t>plain_length * 8
    cdef uint32_t i
    for i in range(8):
        lengths[i] = <uint8_t>(ad_bits >> (8 * i))
        lengths[8 + i] = <uint8_t>(plain_bits >> (8 * i))
    polyval_update(message, ad, ad_length)
    polyval_update(message, plain, plain_length)
    polyval_update(message, lengths, BLOCK)
    state = nts_ghash_state(&message.hash)
    for i in range(16):
        digest[i] = state[BLOCK - 1 - i]
    for i in range(12):
        digest[i] ^= nonce[i]
    digest[15] &= 0x7f
    aes128_encrypt(&message.encryption, BLOCK, tag, digest)


cdef void gcm_siv_crypt(const gcm_siv_message *message, const uint8_t *tag, const uint8_t *src, uint32_t length,
                        uint8_t *dst) noexcept nogil:
    """CTR whose counter is the first four bytes, little-endian, wrapping alone (RFC 8452 §4)."""
    cdef uint8_t pad[CHUNK]
    cdef uint32_t counter = tag[0] | (<uint32_t>tag[1] << 8) | (<uint32_t>tag[2] << 16) | (<uint32_t>tag[3] << 24)
    cdef uint32_t step, i
    while length:
        step = length if length < CHUNK else CHUNK
        for i in range(0, step, 16):
            memcpy(pad + i, tag, BLOCK)
            pad[i] = <uint8_t>counter
            pad[i + 1] = <uint8_t>(counter >> 8)
            pad[i + 2] = <uint8_t>(counter >> 16)
            pad[i + 3] = <uint8_t>(counter >> 24)
            pad[i + 15] |= 0x80
            counter += 1
        aes128_encrypt(&message.encryption, (step + BLOCK - 1) & ~<uint32_t>(BLOCK - 1), pad, pad)
        for i in range(step):
            dst[i] = src[i] ^ pad[i]
        src += step
        dst += step
        length -= step


cdef bint aead_set_key_auth_only(aead_key *key, uint32_t algorithm, const uint8_t *raw) noexcept nogil:
    cdef uint8_t block[BLOCK]
    key.algorithm = 0
    key.can_crypt = 0
    key.has_empty_ad = 0
    if algorithm == AEAD_AES_128_GCM_SIV:
        aes128_set_encrypt_key(&key.mac, raw)
        key.can_crypt = 1
    elif algorithm == AEAD_AES_SIV_CMAC_256:
        aes128_set_encrypt_key(&key.mac, raw)
        memset(block, 0, BLOCK)
        aes128_encrypt(&key.mac, BLOCK, key.subkey_full, block)
        double_block(key.subkey_full)
        memcpy(key.subkey_padded, key.subkey_full, BLOCK)
        double_block(key.subkey_padded)
        # CMAC of the zero block: the block is the subkey itself
        aes128_encrypt(&key.mac, BLOCK, key.start, key.subkey_full)
    else:
        return False
    key.algorithm = algorithm
    return True


cdef void aead_complete_key(aead_key *key, const uint8_t *raw) noexcept nogil:
    if key.algorithm == AEAD_AES_SIV_CMAC_256 and not key.can_crypt:
        aes128_set_encrypt_key(&key.ctr, raw + 16)
        key.can_crypt = 1


cdef bint aead_set_key(aead_key *key, uint32_t algorithm, const uint8_t *raw) noexcept nogil:
    if not aead_set_key_auth_only(key, algorithm, raw):
        return False
    aead_complete_key(key, raw)
    return True


cdef void aead_precompute_empty_ad(aead_key *key) noexcept nogil:
    if key.algorithm == AEAD_AES_SIV_CMAC_256:
        memcpy(key.after_empty_ad, key.start, BLOCK)
        s2v_component(key, key.after_empty_ad, key.start, 0)
        key.has_empty_ad = 1


cdef bint aead_seal(const aead_key *key, const uint8_t *nonce, uint32_t nonce_length, const uint8_t *ad,
                    uint32_t ad_length,
                    const uint8_t *plain, uint32_t plain_length, uint8_t *out) noexcept nogil:
    cdef gcm_siv_message message
    cdef uint8_t tag[BLOCK]
    if plain_length and not key.can_crypt:
        return False
    if key.algorithm == AEAD_AES_SIV_CMAC_256 and nonce_length >= 1:
        siv_tag(key, nonce, nonce_length, ad, ad_length, plain, plain_length, tag)
        if plain_length:
            siv_crypt(key, tag, plain, plain_length, out + AEAD_TAG)
        memcpy(out, tag, AEAD_TAG)
        return True
    if key.algorithm == AEAD_AES_128_GCM_SIV and nonce_length == 12:
        gcm_siv_start(key, &message, nonce)
        gcm_siv_tag(&message, nonce, ad, ad_length, plain, plain_length, tag)
        gcm_siv_crypt(&message, tag, plain, plain_length, out)
        memcpy(out + plain_length, tag, AEAD_TAG)
        return True
    return False


cdef bint aead_open(const aead_key *key, const uint8_t *nonce, uint32_t nonce_length, const uint8_t *ad,
                    uint32_t ad_length,
                    const uint8_t *sealed, uint32_t sealed_length, uint8_t *out) noexcept nogil:
    cdef gcm_siv_message message
    cdef uint8_t tag[BLOCK]
    cdef const uint8_t *given
    cdef uint32_t plain_length
    if sealed_length < AEAD_TAG:
        return False
    plain_length = sealed_length - AEAD_TAG
    if plain_length and not key.can_crypt:
        return False
    if key.algorithm == AEAD_AES_SIV_CMAC_256 and nonce_length >= 1:
        given = sealed
        if plain_length:
            siv_crypt(key, given, sealed + AEAD_TAG, plain_length, out)
        siv_tag(key, nonce, nonce_length, ad, ad_length, out, plain_length, tag)
    elif key.algorithm == AEAD_AES_128_GCM_SIV and nonce_length == 12:
        given = sealed + plain_length
        gcm_siv_start(key, &message, nonce)
        gcm_siv_crypt(&message, given, sealed, plain_length, out)
        gcm_siv_tag(&message, nonce, ad, ad_length, out, plain_length, tag)
    else:
        return False
    if not memeql_sec(tag, given, AEAD_TAG):
        if plain_length:
            memset(out, 0, plain_length)
        return False
    return True


def key_size(algorithm: int) -> int:
    """Bytes of a key of AEAD `algorithm` (IANA number); 0 when we do not have it."""
    return aead_key_size(algorithm) if 0 <= algorithm <= 0xFFFF else 0


def nonce_size(algorithm: int) -> int:
    """Bytes of the nonces made for AEAD `algorithm`: 16, or 12 for AES-128-GCM-SIV."""
    return aead_nonce_size(algorithm)


def siv_seal(key: bytes, components: list[bytes], plaintext: bytes) -> bytes:
    """AES-SIV-CMAC-256 with any number of S2V components (RFC 5297 §2.6); NTS always has two, AD and nonce."""
    cdef aead_key schedule
    cdef uint8_t d[BLOCK]
    cdef bytearray out = bytearray(AEAD_TAG + len(plaintext))
    cdef uint8_t *out_bytes = <uint8_t *><char *>out
    cdef bytes component
    if len(key) != 32:
        raise ValueError(f"a key of AEAD algorithm {AEAD_AES_SIV_CMAC_256} has 32 bytes, not {len(key)}")
    aead_set_key(&schedule, AEAD_AES_SIV_CMAC_256, <const uint8_t *><const char *>key)
    memcpy(d, schedule.start, BLOCK)
    for component in components:
        s2v_component(&schedule, d, <const uint8_t *><const char *>component, len(component))
    s2v_final(&schedule, d, <const uint8_t *><const char *>plaintext, len(plaintext), out_bytes)
    siv_crypt(&schedule, out_bytes, <const uint8_t *><const char *>plaintext, len(plaintext), out_bytes + AEAD_TAG)
    return bytes(out)


cdef class Aead:
    """One key of one algorithm: for the control plane (client associations, key exchange) and for tests."""

    cdef aead_key _key

    def __cinit__(self, algorithm: int, key: bytes):
        if not 0 <= algorithm <= 0xFFFF or not aead_key_size(algorithm):
            raise ValueError(f"AEAD algorithm {algorithm} is not supported")
        if len(key) != <Py_ssize_t>aead_key_size(algorithm):
            raise ValueError(f"a key of AEAD algorithm {algorithm} has {aead_key_size(algorithm)} bytes, "
                             f"not {len(key)}")
        aead_set_key(&self._key, algorithm, <const uint8_t *><const char *>key)

    def __dealloc__(self):
        memset(&self._key, 0, sizeof(aead_key))

    @property
    def algorithm(self) -> int:
        return self._key.algorithm

    def seal(self, nonce: bytes, ad: bytes, plaintext: bytes) -> bytes:
        """Tag and ciphertext in the algorithm's own order. ValueError for a nonce length it does not take."""
        cdef const char *nonce_bytes = nonce
        cdef const char *ad_bytes = ad
        cdef const char *plain_bytes = plaintext
        cdef bytearray out = bytearray(len(plaintext) + AEAD_TAG)
        cdef char *out_bytes = out
        if not aead_seal(&self._key, <const uint8_t *>nonce_bytes, len(nonce), <const uint8_t *>ad_bytes, len(ad),
                         <const uint8_t *>plain_bytes, len(plaintext), <uint8_t *>out_bytes):
            raise ValueError(f"nonce of {len(nonce)} bytes with AEAD algorithm {self._key.algorithm}")
        return bytes(out)

    def open(self, nonce: bytes, ad: bytes, sealed: bytes) -> bytes | None:
        """The plaintext, or None when the tag is wrong or a length is impossible."""
        cdef const char *nonce_bytes = nonce
        cdef const char *ad_bytes = ad
        cdef const char *sealed_bytes = sealed
        cdef bytearray out = bytearray(max(len(sealed) - AEAD_TAG, 0) + 1)
        cdef char *out_bytes = out
        if not aead_open(&self._key, <const uint8_t *>nonce_bytes, len(nonce), <const uint8_t *>ad_bytes, len(ad),
                         <const uint8_t *>sealed_bytes, len(sealed), <uint8_t *>out_bytes):
            return None
        return bytes(out[:len(sealed) - AEAD_TAG])
