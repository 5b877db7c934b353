"""MACs and the key table (contracts: `_auth.pxd`).

Rules kept here: digests are compared in constant time; a table that is damaged in any way is not attached, because
nettle trusts the states it is given.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    #include <nettle/aes.h>
    #include <nettle/cmac.h>
    #include <nettle/memops.h>
    #include <nettle/nettle-meta.h>
    #include <nettle/version.h>

    struct auth_aes128 { struct aes128_ctx cipher; struct cmac128_key key; };
    struct auth_aes256 { struct aes256_ctx cipher; struct cmac128_key key; };

    #define AUTH_AES128(state) (nettle_cipher_func *)aes128_encrypt, &((const struct auth_aes128 *)(state))->cipher, \\
                               &((const struct auth_aes128 *)(state))->key
    #define AUTH_AES256(state) (nettle_cipher_func *)aes256_encrypt, &((const struct auth_aes256 *)(state))->cipher, \\
                               &((const struct auth_aes256 *)(state))->key

    static inline void auth_aes128_key(uint8_t *state, const uint8_t *key)
    {
        struct auth_aes128 *aes = (struct auth_aes128 *)state;
        aes128_set_encrypt_key(&aes->cipher, key);
        cmac128_set_key(&aes->key, &aes->cipher, (nettle_cipher_func *)aes128_encrypt);
    }
    static inline void auth_aes256_key(uint8_t *state, const uint8_t *key)
    {
        struct auth_aes256 *aes = (struct auth_aes256 *)state;
        aes256_set_encrypt_key(&aes->cipher, key);
        cmac128_set_key(&aes->key, &aes->cipher, (nettle_cipher_func *)aes256_encrypt);
    }
    static inline void auth_cmac_with(nettle_cipher_func *encrypt, const void *cipher, const struct cmac128_key *key,
                                      const uint8_t *data, size_t length, uint8_t *digest)
    {
        struct cmac128_ctx ctx;
        cmac128_init(&ctx);
        cmac128_update(&ctx, cipher, encrypt, length, data);
    #if NETTLE_VERSION_MAJOR >= 4
        cmac128_digest(&ctx, key, cipher, encrypt, digest);
    #else
        cmac128_digest(&ctx, key, cipher, encrypt, 16, digest);
    #endif
    }
    static inline void auth_cmac128(const uint8_t *state, const uint8_t *data, size_t length, uint8_t *digest)
    {
        auth_cmac_with(AUTH_AES128(state), data, length, digest);
    }
    static inline void auth_cmac256(const uint8_t *state, const uint8_t *data, size_t length, uint8_t *digest)
    {
        auth_cmac_with(AUTH_AES256(state), data, length, digest);
    }
    static inline void auth_hash_digest(const struct nettle_hash *hash, void *ctx, uint8_t *digest)
    {
    #if NETTLE_VERSION_MAJOR >= 4
        hash->digest(ctx, digest);
    #else
        hash->digest(ctx, hash->digest_size, digest);
    #endif
    }
    """
    ctypedef struct nettle_hash "struct nettle_hash":
        unsigned context_size
        unsigned digest_size
        void (*init)(void *ctx) noexcept nogil
        void (*update)(void *ctx, size_t length, const uint8_t *data) noexcept nogil
    const nettle_hash nettle_md5
    const nettle_hash nettle_sha1
    const nettle_hash nettle_sha256
    const nettle_hash nettle_sha384
    const nettle_hash nettle_sha512
    const nettle_hash nettle_sha3_224
    const nettle_hash nettle_sha3_256
    const nettle_hash nettle_sha3_384
    const nettle_hash nettle_sha3_512
    const size_t AUTH_AES128_SIZE "sizeof(struct auth_aes128)"
    const size_t AUTH_AES256_SIZE "sizeof(struct auth_aes256)"
    void auth_aes128_key(uint8_t *state, const uint8_t *key) nogil
    void auth_aes256_key(uint8_t *state, const uint8_t *key) nogil
    void auth_cmac128(const uint8_t *state, const uint8_t *data, size_t length, uint8_t *digest) nogil
    void auth_cmac256(const uint8_t *state, const uint8_t *data, size_t length, uint8_t *digest) nogil
    void auth_hash_digest(const nettle_hash *hash, void *ctx, uint8_t *digest) nogil
    int memeql_sec(const void *a, const void *b, size_t n) nogil

cdef enum:
    HASHES = 9
    AES128 = HASHES
    AES256 = HASHES + 1
    ALGORITHM_COUNT = HASHES + 2
    STATE_WORDS = 64            # of a hash that is worked on, on the stack

# Names as in a key file, in the order of their codes.
ALGORITHMS = (
    "MD5", "SHA1", "SHA256", "SHA384", "SHA512", "SHA3-224", "SHA3-256", "SHA3-384", "SHA3-512", "AES128", "AES256",
)

cdef const nettle_hash *hashes[HASHES]
hashes[0] = &nettle_md5
hashes[1] = &nettle_sha1
hashes[2] = &nettle_sha256
hashes[3] = &nettle_sha384
hashes[4] = &nettle_sha512
hashes[5] = &nettle_sha3_224
hashes[6] = &nettle_sha3_256
hashes[7] = &nettle_sha3_384
hashes[8] = &nettle_sha3_512

cdef uint32_t state_sizes[ALGORITHM_COUNT]
cdef uint32_t digest_lengths[ALGORITHM_COUNT]
cdef uint32_t build = 0


cdef void _measure():
    global build
    for i in range(HASHES):
        state_sizes[i] = hashes[i].context_size
        digest_lengths[i] = hashes[i].digest_size
    state_sizes[AES128] = AUTH_AES128_SIZE
    state_sizes[AES256] = AUTH_AES256_SIZE
    digest_lengths[AES128] = digest_lengths[AES256] = 16
    for i in range(ALGORITHM_COUNT):
        assert state_sizes[i] <= 8 * STATE_WORDS and digest_lengths[i] <= AUTH_DIGEST_MAX
        build = build * 31 + state_sizes[i]


_measure()


cdef inline uint64_t _padded(uint64_t size) noexcept nogil:
    return (size + 15) & ~<uint64_t> 15


cdef inline const uint32_t *_ids(const uint8_t *table) noexcept nogil:
    return <const uint32_t *> (table + sizeof(auth_table))


cdef inline const auth_entry *_entries(const uint8_t *table) noexcept nogil:
    cdef uint32_t count = (<const auth_table *> table).count
    return <const auth_entry *> (table + sizeof(auth_table) + _padded(<uint64_t> 4 * count))


cdef uint64_t _checksum(const uint8_t *table, uint64_t size) noexcept nogil:
    cdef const uint64_t *words = <const uint64_t *> table
    cdef uint64_t sum = 0
    cdef uint64_t i
    cdef uint64_t own = (<const uint8_t *> &(<const auth_table *> table).checksum - table) // 8
    for i in range(size // 8):
        sum = (sum ^ (words[i] if i != own else 0)) * <uint64_t> 0x9E3779B97F4A7C15ULL
        sum ^= sum >> 29
    return sum


cdef bint auth_attach(const uint8_t *table, uint64_t size) noexcept nogil:
    cdef const auth_table *header = <const auth_table *> table
    cdef const uint32_t *ids = _ids(table)
    cdef const auth_entry *entries
    cdef uint64_t states
    cdef uint32_t i
    if size < sizeof(auth_table) or <uint64_t> table & 15:
        return False
    if header.magic != AUTH_TABLE_MAGIC or header.version != AUTH_TABLE_VERSION or header.build != build:
        return False
    states = sizeof(auth_table) + _padded(<uint64_t> 4 * header.count) + <uint64_t> 16 * header.count
    if header.size > size or states > header.size or header.size & 15:
        return False
    if header.checksum != _checksum(table, header.size):
        return False
    entries = _entries(table)
    for i in range(header.count):
        if ids[i] == 0 or (i > 0 and ids[i] <= ids[i - 1]):
            return False
        if entries[i].algorithm >= ALGORITHM_COUNT:
            return False
        if entries[i].digest_length != digest_lengths[entries[i].algorithm]:
            return False
        if entries[i].offset < states or entries[i].offset > header.size or entries[i].offset & 15:
            return False
        if state_sizes[entries[i].algorithm] > header.size - entries[i].offset:
            return False
    return True


cdef int32_t auth_find(const uint8_t *table, uint32_t key_id) noexcept nogil:
    cdef const uint32_t *ids
    cdef uint32_t low = 0, count, half
    if table == NULL:
        return -1
    ids = _ids(table)
    count = (<const auth_table *> table).count
    if count == 0:
        return -1
    # the last id that is not above key_id; no branch to predict
    while count > 1:
        half = count >> 1
        low += half if ids[low + half] <= key_id else 0
        count -= half
    return <int32_t> low if ids[low] == key_id else -1


cdef void _digest(const uint8_t *table, const auth_entry *entry, const uint8_t *data, uint32_t length,
                  uint8_t *digest) noexcept nogil:
    cdef const uint8_t *state = table + entry.offset
    cdef const nettle_hash *hash
    cdef uint64_t ctx[STATE_WORDS]
    if entry.algorithm == AES128:
        auth_cmac128(state, data, length, digest)
    elif entry.algorithm == AES256:
        auth_cmac256(state, data, length, digest)
    else:
        hash = hashes[entry.algorithm]
        memcpy(ctx, state, hash.context_size)
        hash.update(ctx, length, data)
        auth_hash_digest(hash, ctx, digest)


cdef inline uint32_t _sent_length(const auth_entry *entry, uint32_t version) noexcept nogil:
    """Bytes of the digest that a packet of this version carries."""
    if version >= 4 and entry.digest_length > AUTH_DIGEST_MAX_V4:
        return AUTH_DIGEST_MAX_V4
    return entry.digest_length


cdef inline uint32_t _version(const uint8_t *packet) noexcept nogil:
    return (packet[0] >> 3) & 7


cdef uint32_t auth_mac_length(const uint8_t *table, int32_t key, uint32_t version) noexcept nogil:
    return 4 + _sent_length(&_entries(table)[key], version)


cdef int32_t auth_check(const uint8_t *table, const uint8_t *packet, uint32_t length,
                        uint32_t mac_start) noexcept nogil:
    cdef uint8_t digest[AUTH_DIGEST_MAX]
    cdef const uint8_t *mac = packet + mac_start
    cdef const auth_entry *entry
    cdef uint32_t sent
    cdef int32_t key
    if length < 4 or mac_start > length - 4 or mac_start == 0:
        return -1
    key = auth_find(table, <uint32_t> mac[0] << 24 | <uint32_t> mac[1] << 16 | <uint32_t> mac[2] << 8 | mac[3])
    if key < 0:
        return -1
    entry = &_entries(table)[key]
    sent = _sent_length(entry, _version(packet))
    if length - mac_start != 4 + sent:
        return -1
    _digest(table, entry, packet, mac_start, digest)
    return key if memeql_sec(digest, mac + 4, sent) else -1


cdef uint32_t auth_sign(const uint8_t *table, int32_t key, uint8_t *packet, uint32_t length,
                        uint32_t capacity) noexcept nogil:
    cdef uint8_t digest[AUTH_DIGEST_MAX]
    cdef const auth_entry *entry = &_entries(table)[key]
    cdef uint32_t sent = _sent_length(entry, _version(packet))
    cdef uint32_t key_id = _ids(table)[key]
    if length > capacity or capacity - length < 4 + sent:
        return 0
    _digest(table, entry, packet, length, digest)
    packet[length] = key_id >> 24
    packet[length + 1] = key_id >> 16
    packet[length + 2] = key_id >> 8
    packet[length + 3] = key_id
    memcpy(packet + length + 4, digest, sent)
    return length + 4 + sent


class KeyTableFull(Exception):
    """More keys than the table has room for."""


def md5(const uint8_t[::1] data) -> bytes:
    """The MD5 sum, for what is identified and not protected by it; `hashlib` would load a second crypto library."""
    cdef uint64_t state[STATE_WORDS]
    cdef uint8_t digest[16]
    nettle_md5.init(state)
    nettle_md5.update(state, <size_t>data.shape[0], &data[0] if data.shape[0] else NULL)
    auth_hash_digest(&nettle_md5, state, digest)
    return digest[:16]


def same(const uint8_t[::1] one, const uint8_t[::1] other) -> bool:
    """Whether two strings are the same; the time it takes tells nothing but their lengths."""
    if one.shape[0] != other.shape[0]:
        return False
    return one.shape[0] == 0 or memeql_sec(&one[0], &other[0], <size_t>one.shape[0]) != 0


def _code(algorithm) -> int:
    try:
        return ALGORITHMS.index(algorithm)
    except ValueError:
        raise ValueError(f"no such key type: {algorithm}") from None


def key_table_size(keys) -> int:
    """Bytes of the table of these (id, type name, key) rows."""
    return sizeof(auth_table) + _padded(4 * len(keys)) + sum(
        16 + _padded(state_sizes[<uint32_t> _code(algorithm)]) for _, algorithm, _ in keys
    )


def build_key_table(keys, uint64_t size_max) -> bytes:
    """The table of these (id, type name, key) rows.

    Raises ValueError for an unknown type, an id outside 1 … 2^32 − 1 or given twice, an empty key, or a cipher key of
    the wrong length; KeyTableFull when the table would be larger than `size_max` bytes.
    """
    cdef uint64_t size = key_table_size(keys)
    cdef bytearray room
    cdef uint8_t *table
    cdef uint8_t *state
    cdef auth_table *header
    cdef auth_entry *entry
    cdef uint64_t offset
    cdef uint32_t i, algorithm
    cdef bytes key
    if size > size_max:
        raise KeyTableFull(f"{len(keys)} keys need {size} bytes, {size_max} are available")
    rows = sorted(keys, key=lambda row: row[0])
    room = bytearray(size)
    table = room
    header = <auth_table *> table
    header.magic = AUTH_TABLE_MAGIC
    header.version = AUTH_TABLE_VERSION
    header.size = size
    header.count = len(rows)
    header.build = build
    offset = sizeof(auth_table) + _padded(4 * len(rows)) + 16 * len(rows)
    for i, (key_id, name, key) in enumerate(rows):
        if not 1 <= key_id <= 0xFFFFFFFF:
            raise ValueError(f"key id {key_id} is not in 1 to 4294967295")
        if i and rows[i - 1][0] == key_id:
            raise ValueError(f"key {key_id} is there twice")
        algorithm = _code(name)
        if not key:
            raise ValueError(f"key {key_id} is empty")
        (<uint32_t *> _ids(table))[i] = key_id
        entry = <auth_entry *> &_entries(table)[i]
        entry.offset = offset
        entry.algorithm = algorithm
        entry.digest_length = digest_lengths[algorithm]
        state = table + offset
        if algorithm < HASHES:
            hashes[algorithm].init(state)
            hashes[algorithm].update(state, len(key), <const uint8_t *> key)
        elif len(key) != (16 if algorithm == AES128 else 32):
            raise ValueError(f"key {key_id} has {len(key)} bytes, {name} needs {16 if algorithm == AES128 else 32}")
        elif algorithm == AES128:
            auth_aes128_key(state, key)
        else:
            auth_aes256_key(state, key)
        offset += _padded(state_sizes[algorithm])
    header.checksum = _checksum(table, size)
    return bytes(room)


cdef class KeyTable:
    """A key table as Python uses it. Raises ValueError when the bytes are none."""

    cdef const uint8_t[::1] _bytes

    def __init__(self, const uint8_t[::1] table):
        if table.shape[0] == 0 or not auth_attach(&table[0], table.shape[0]):
            raise ValueError("not a key table of this build")
        self._bytes = table

    cdef int32_t _position(self, uint32_t key_id) except -1:
        cdef int32_t key = auth_find(&self._bytes[0], key_id)
        if key < 0:
            raise KeyError(key_id)
        return key

    def __len__(self) -> int:
        return (<const auth_table *> &self._bytes[0]).count

    def __contains__(self, uint32_t key_id) -> bool:
        return auth_find(&self._bytes[0], key_id) >= 0

    def digest_length(self, uint32_t key_id) -> int:
        """Bytes of the whole digest. Raises KeyError for an unknown key."""
        return _entries(&self._bytes[0])[self._position(key_id)].digest_length

    def mac_length(self, uint32_t key_id, uint32_t version) -> int:
        """Bytes of the MAC in a packet of this NTP version. Raises KeyError for an unknown key."""
        return auth_mac_length(&self._bytes[0], self._position(key_id), version)

    def check(self, const uint8_t[::1] packet, uint32_t mac_start) -> int | None:
        """The id of the key with which the MAC at `mac_start` is valid, None when it is not."""
        cdef int32_t key
        if packet.shape[0] == 0 or packet.shape[0] > 0xFFFFFFFF:
            return None
        key = auth_check(&self._bytes[0], &packet[0], packet.shape[0], mac_start)
        return _ids(&self._bytes[0])[key] if key >= 0 else None

    def sign(self, bytes packet, uint32_t key_id) -> bytes:
        """The packet with its MAC. Raises KeyError for an unknown key, ValueError for an empty packet."""
        cdef int32_t key = self._position(key_id)
        cdef bytearray signed = bytearray(packet) + bytearray(AUTH_MAC_MAX)
        cdef uint32_t length
        if not packet or len(packet) > 0xFFFF:
            raise ValueError("no packet to sign")
        length = auth_sign(&self._bytes[0], key, signed, len(packet), len(signed))
        return bytes(signed[:length])

    def check_rate(self, bytes packet, uint32_t mac_start, int rounds) -> int:
        """Check and sign the packet anew `rounds` times; how often it was valid (for `make bench`)."""
        cdef uint8_t work[2048]
        cdef uint32_t length = len(packet)
        cdef int32_t key
        cdef int valid = 0, i
        if not 0 < mac_start <= length or length > sizeof(work):
            raise ValueError("no such packet")
        memcpy(work, <const uint8_t *> packet, length)
        with nogil:
            for i in range(rounds):
                key = auth_check(&self._bytes[0], work, length, mac_start)
                if key >= 0:
                    valid += auth_sign(&self._bytes[0], key, work, mac_start, sizeof(work)) == length
        return valid
