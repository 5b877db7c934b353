"""The NTS server's work on one NTP packet (rules and order of calls: the .pxd), and the Python faces of it.

Cookies have chrony's layout (nts.md §4): key id, nonce, and the two association keys sealed with an empty AD. The AEAD
of the client follows from their length.
"""

import os

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from ntpd_fast._aead cimport (
    AEAD_AES_128_GCM_SIV,
    AEAD_AES_SIV_CMAC_256,
    AEAD_TAG,
    aead_complete_key,
    aead_key_size,
    aead_nonce_size,
    aead_open,
    aead_plain_offset,
    aead_precompute_empty_ad,
    aead_seal,
    aead_set_key,
    aead_set_key_auth_only,
)
from ntpd_fast._random cimport rng_fill, rng_left, rng_take
from ntpd_fast._region cimport Mapping, nf_fence, nf_fence_acquire, nf_load_acquire, nf_load_relaxed, nf_store_release

cdef enum:
    HEADER = 48                 # bytes of the NTP header
    EF_HEADER = 4               # bytes of type and length
    EF_MIN = 16                 # bytes of the shortest extension field (RFC 7822)
    COPY_TRIES = 8              # reads of the ring before staying with the keys at hand


cdef inline uint32_t read16(const uint8_t *p) noexcept nogil:
    return (<uint32_t>p[0] << 8) | p[1]


cdef inline uint32_t read32(const uint8_t *p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline void write16(uint8_t *p, uint32_t value) noexcept nogil:
    p[0] = <uint8_t>(value >> 8)
    p[1] = <uint8_t>value


cdef inline void write_field_header(uint8_t *p, uint32_t kind, uint32_t length) noexcept nogil:
    write16(p, kind)
    write16(p + 2, length)


cdef inline uint32_t padded(uint32_t length) noexcept nogil:
    return (length + 3) & ~<uint32_t>3


cdef inline uint32_t cookie_size(uint32_t server_algorithm, uint32_t client_algorithm) noexcept nogil:
    return 4 + aead_nonce_size(server_algorithm) + 2 * aead_key_size(client_algorithm) + AEAD_TAG


cdef bint nts_keys_refresh(nts_keys *keys, const nts_ring *ring) noexcept nogil:
    cdef uint64_t seen = nf_load_acquire(&ring.sequence)
    cdef uint64_t again
    cdef int tries
    if seen == keys.sequence:
        return seen != 0
    for tries in range(COPY_TRIES):
        memcpy(keys, &ring.slots[seen & 1], sizeof(nts_keys))
        nf_fence_acquire()
        again = nf_load_relaxed(&ring.sequence)
        if again == seen:
            keys.sequence = seen
            return True
        nf_fence_acquire()
        seen = again
    # A writer that publishes faster than we copy is broken: without a whole copy there are no keys.
    memset(keys, 0, sizeof(nts_keys))
    return False


cdef void ring_write(nts_ring *ring, const nts_keys *keys) noexcept nogil:
    """Publish; a slot is never changed while `sequence` points readers to it."""
    cdef uint64_t sequence = ring.sequence
    if sequence & 1:
        # our predecessor died between its two halves: slot 1 is whole, slot 0 may not be
        memcpy(&ring.slots[0], &ring.slots[1], sizeof(nts_keys))
        nf_fence()
        sequence += 1
        nf_store_release(&ring.sequence, sequence)
        nf_fence()
    memcpy(&ring.slots[1], &ring.slots[0], sizeof(nts_keys))
    nf_fence()
    nf_store_release(&ring.sequence, sequence + 1)
    nf_fence()
    memcpy(&ring.slots[0], keys, sizeof(nts_keys))
    nf_fence()
    nf_store_release(&ring.sequence, sequence + 2)
    nf_fence()
    memcpy(&ring.slots[1], keys, sizeof(nts_keys))
    nf_fence()


cdef uint32_t nts_make_cookie(const nts_keys *keys, rng_buf *rng, uint32_t algorithm, const uint8_t *c2s_s2c,
                              uint8_t *cookie) noexcept nogil:
    cdef const nts_server_key *key = &keys.keys[keys.current & (NTS_KEYS - 1)]
    cdef uint32_t nonce_size = aead_nonce_size(key.aead.algorithm)
    cdef uint32_t plain_length = 2 * aead_key_size(algorithm)
    if key.aead.algorithm == 0 or plain_length == 0 or not rng_take(rng, cookie + 4, nonce_size):
        return 0
    cookie[0] = <uint8_t>(key.id >> 24)
    cookie[1] = <uint8_t>(key.id >> 16)
    cookie[2] = <uint8_t>(key.id >> 8)
    cookie[3] = <uint8_t>key.id
    aead_seal(&key.aead, cookie + 4, nonce_size, cookie, 0, c2s_s2c, plain_length, cookie + 4 + nonce_size)
    return 4 + nonce_size + plain_length + AEAD_TAG


cdef uint32_t nts_open_cookie(const nts_keys *keys, const uint8_t *cookie, uint32_t length,
                              uint8_t *c2s_s2c) noexcept nogil:
    cdef const nts_server_key *key
    cdef uint32_t nonce_size, plain_length, algorithm
    if length < 4:
        return 0
    key = &keys.keys[read32(cookie) & (NTS_KEYS - 1)]
    if key.aead.algorithm == 0 or key.id != read32(cookie):
        return 0
    nonce_size = aead_nonce_size(key.aead.algorithm)
    if length < 4 + nonce_size + AEAD_TAG:
        return 0
    plain_length = length - 4 - nonce_size - AEAD_TAG
    if plain_length == 64:
        algorithm = AEAD_AES_SIV_CMAC_256
    elif plain_length == 32:
        algorithm = AEAD_AES_128_GCM_SIV
    else:
        return 0
    if not aead_open(&key.aead, cookie + 4, nonce_size, cookie, 0, cookie + 4 + nonce_size, length - 4 - nonce_size,
                     c2s_s2c):
        return 0
    return algorithm


cdef bint count_encrypted_placeholders(const nts_request *request, uint32_t length, uint32_t cookie_length,
                                       uint32_t *count) noexcept nogil:
    """Walk the decrypted fields; placeholders count, the rest is ignored. False when they are no fields."""
    cdef uint32_t offset = 0
    cdef uint32_t field
    while offset < length:
        if length - offset < EF_HEADER:
            return False
        field = read16(request.plain + offset + 2)
        # the lower bound of RFC 7822 tells fields from MACs: there are none in here
        if field < EF_HEADER or field & 3 or field > length - offset:
            return False
        if read16(request.plain + offset) == NTS_EF_PLACEHOLDER:
            if field - EF_HEADER != cookie_length:
                return False
            count[0] += 1
        offset += field
    return True


cdef int nts_check_request(nts_request *request, const nts_keys *keys, const uint8_t *packet,
                           uint32_t length) noexcept nogil:
    cdef uint32_t offset = HEADER
    cdef uint32_t kind, field
    cdef uint32_t cookie = 0            # offset of the body
    cdef uint32_t cookie_length = 0     # of the body
    cdef uint32_t placeholders = 0
    cdef uint32_t placeholder_length = 0
    cdef uint32_t auth = 0              # offset of the field
    cdef uint32_t auth_length = 0       # of the field
    cdef uint32_t nonce_length, sealed_length, nonce_min, room, fit, own
    cdef const uint8_t *body

    request.uid_offset = 0
    request.uid_length = 0
    request.cookies = 0
    request.length = length
    if keys.keys[keys.current & (NTS_KEYS - 1)].aead.algorithm == 0:
        return NTS_DROP_NO_KEYS
    if length > NTS_PACKET_MAX or length & 3:
        return NTS_DROP_MALFORMED
    while offset < length:
        if length - offset < EF_MIN:
            return NTS_DROP_MALFORMED
        kind = read16(packet + offset)
        field = read16(packet + offset + 2)
        if field < EF_MIN or field & 3 or field > length - offset:
            return NTS_DROP_MALFORMED
        if auth:
            # the authenticator has to be the last: what follows it nobody vouches for
            return NTS_DROP_MALFORMED
        if kind == NTS_EF_UID:
            if request.uid_length:
                return NTS_DROP_MALFORMED
            request.uid_offset = offset
            request.uid_length = field
        elif kind == NTS_EF_COOKIE:
            if cookie:
                return NTS_DROP_MALFORMED
            cookie = offset + EF_HEADER
            cookie_length = field - EF_HEADER
        elif kind == NTS_EF_PLACEHOLDER:
            if placeholders and placeholder_length != field - EF_HEADER:
                return NTS_DROP_MALFORMED
            placeholder_length = field - EF_HEADER
            placeholders += 1
        elif kind == NTS_EF_AUTH:
            auth = offset
            auth_length = field
        offset += field
    if request.uid_length == 0 or cookie == 0 or auth == 0:
        return NTS_DROP_MISSING
    if placeholders and placeholder_length != cookie_length:
        return NTS_DROP_MALFORMED

    request.algorithm = nts_open_cookie(keys, packet + cookie, cookie_length, request.c2s_s2c)
    if request.algorithm == 0:
        return NTS_NAK_COOKIE

    body = packet + auth + EF_HEADER
    nonce_length = read16(body)
    sealed_length = read16(body + 2)
    # a nonce shorter than what we answer with has to be made up for by padding, or the answer would not fit
    nonce_min = aead_nonce_size(request.algorithm)
    if padded(nonce_length) > nonce_min:
        nonce_min = padded(nonce_length)
    if sealed_length < AEAD_TAG or EF_HEADER + nonce_min + padded(sealed_length) > auth_length - EF_HEADER:
        return NTS_NAK_AUTH
    aead_set_key_auth_only(&request.c2s, request.algorithm, request.c2s_s2c)
    if sealed_length > AEAD_TAG:
        aead_complete_key(&request.c2s, request.c2s_s2c)
    if not aead_open(&request.c2s, body + 4, nonce_length, packet, auth,
                     body + 4 + padded(nonce_length), sealed_length, request.plain):
        return NTS_NAK_AUTH
    if not count_encrypted_placeholders(request, sealed_length - AEAD_TAG, cookie_length, &placeholders):
        return NTS_DROP_MALFORMED

    # Room in the answer: all that the request spent on cookie, placeholders and authenticator. Encrypted
    # placeholders are inside the authenticator.
    request.cookies = placeholders + 1 if placeholders < NTS_COOKIES_MAX else NTS_COOKIES_MAX
    own = EF_HEADER + cookie_size(keys.keys[keys.current & (NTS_KEYS - 1)].aead.algorithm, request.algorithm)
    room = length - HEADER - request.uid_length
    field = 2 * EF_HEADER + aead_nonce_size(request.algorithm) + AEAD_TAG
    fit = (room - field) // own if room > field else 0
    if fit < request.cookies:
        request.cookies = fit
    if request.cookies == 0:
        return NTS_NAK_SIZE
    return NTS_OK


cdef uint32_t nts_build_response(nts_request *request, const nts_keys *keys, rng_buf *rng, const uint8_t *packet,
                                 uint8_t *response, uint32_t offset) noexcept nogil:
    cdef uint32_t algorithm = request.algorithm
    cdef uint32_t nonce_size = aead_nonce_size(algorithm)
    cdef uint32_t own = cookie_size(keys.keys[keys.current & (NTS_KEYS - 1)].aead.algorithm, algorithm)
    cdef uint32_t fixed, i
    cdef uint8_t *auth
    cdef uint8_t *plain
    request.auth_offset = offset + request.uid_length
    fixed = request.auth_offset + 2 * EF_HEADER + nonce_size + AEAD_TAG
    # optional fields in the answer that the request did not carry cost cookies before they cost the answer
    while request.cookies and fixed + request.cookies * (EF_HEADER + own) > request.length:
        request.cookies -= 1
    if request.cookies == 0 or rng_left(rng) < NTS_RANDOM_MAX:
        return 0
    memcpy(response + offset, packet + request.uid_offset, request.uid_length)
    auth = response + request.auth_offset
    memset(auth, 0, request.length - request.auth_offset)
    request.plain_length = request.cookies * (EF_HEADER + own)
    write_field_header(auth, NTS_EF_AUTH, request.length - request.auth_offset)
    write16(auth + 4, nonce_size)
    write16(auth + 6, AEAD_TAG + request.plain_length)
    rng_take(rng, auth + 8, nonce_size)
    plain = auth + 8 + nonce_size + aead_plain_offset(algorithm)
    for i in range(request.cookies):
        write_field_header(plain, NTS_EF_COOKIE, EF_HEADER + own)
        nts_make_cookie(keys, rng, algorithm, request.c2s_s2c, plain + EF_HEADER)
        plain += EF_HEADER + own
    aead_set_key(&request.s2c, algorithm, request.c2s_s2c + aead_key_size(algorithm))
    return request.length


cdef void nts_seal_response(const nts_request *request, uint8_t *response) noexcept nogil:
    cdef uint32_t nonce_size = aead_nonce_size(request.algorithm)
    cdef uint8_t *nonce = response + request.auth_offset + 8
    cdef uint8_t *sealed = nonce + nonce_size
    aead_seal(&request.s2c, nonce, nonce_size, response, request.auth_offset,
              sealed + aead_plain_offset(request.algorithm), request.plain_length, sealed)


cdef uint32_t nts_build_nak(const nts_request *request, const uint8_t *packet, uint8_t *response,
                            uint32_t offset) noexcept nogil:
    memcpy(response + offset, packet + request.uid_offset, request.uid_length)
    return offset + request.uid_length


OUTCOMES = {
    NTS_OK: "ok",
    NTS_NAK_COOKIE: "nak-cookie",
    NTS_NAK_AUTH: "nak-authenticator",
    NTS_NAK_SIZE: "nak-cookie-size",
    NTS_DROP_MISSING: "drop-missing-field",
    NTS_DROP_MALFORMED: "drop-malformed",
    NTS_DROP_NO_KEYS: "drop-no-keys",
}

RING_BYTES = sizeof(nts_ring)


cdef rng_buf process_random     # of this process's Python faces; zeroed, that is empty, at start


def _forget_random():
    memset(&process_random, 0, sizeof(rng_buf))


# A child that went on with its parent's bytes would repeat its nonces.
os.register_at_fork(after_in_child=_forget_random)


cdef bint need_random() except False:
    if not rng_fill(&process_random, NTS_RANDOM_MAX):
        raise OSError("the kernel gives no random bytes")
    return True


cdef class KeyRing:
    """Server keys in shared memory (`mapping`), or in private memory when none is given.

    `publish` is for the one writer, the rest for everybody. Cookies are made with the newest published keys.
    """

    def __cinit__(self, Mapping mapping=None):
        if mapping is None:
            self.ring = <nts_ring *>calloc(1, sizeof(nts_ring))
            if self.ring == NULL:
                raise MemoryError
            self._private = True
        else:
            if mapping.size < sizeof(nts_ring):
                raise ValueError(f"shared memory of {mapping.size} bytes is too small for {RING_BYTES} of NTS keys")
            self._mapping = mapping
            self.ring = <nts_ring *>mapping.address
        memset(&self._copy, 0, sizeof(nts_keys))

    def __dealloc__(self):
        memset(&self._copy, 0, sizeof(nts_keys))
        # not `_mapping is None`: the garbage collector may have taken it already
        if self._private:
            memset(self.ring, 0, sizeof(nts_ring))
            free(self.ring)

    def publish(self, keys: list[tuple[int, int, bytes]], current_id: int) -> None:
        """Replace all keys: (id, AEAD, raw key) each, at most one per id modulo 4; `current_id` makes new cookies."""
        cdef nts_keys fresh
        cdef nts_server_key *slot
        cdef bytes raw
        memset(&fresh, 0, sizeof(nts_keys))
        for identifier, algorithm, raw in keys:
            slot = &fresh.keys[identifier % NTS_KEYS]
            if slot.aead.algorithm:
                raise ValueError(f"two NTS server keys for slot {identifier % NTS_KEYS}")
            if len(raw) != <Py_ssize_t>aead_key_size(algorithm) or not raw:
                raise ValueError(f"NTS server key of {len(raw)} bytes for AEAD algorithm {algorithm}")
            slot.id = identifier
            aead_set_key(&slot.aead, algorithm, <const uint8_t *><const char *>raw)
            aead_precompute_empty_ad(&slot.aead)
        fresh.current = current_id % NTS_KEYS
        slot = &fresh.keys[fresh.current]
        if slot.aead.algorithm == 0 or slot.id != <uint32_t>current_id:
            raise ValueError("the current NTS server key is not among the keys")
        ring_write(self.ring, &fresh)
        memset(&fresh, 0, sizeof(nts_keys))

    @property
    def sequence(self) -> int:
        """Grows with each `publish`; 0: no keys yet."""
        return nf_load_acquire(&self.ring.sequence)

    def make_cookie(self, algorithm: int, c2s: bytes, s2c: bytes) -> bytes:
        """A cookie of an association. ValueError without server keys or with keys of another length."""
        cdef uint8_t cookie[NTS_COOKIE_MAX]
        cdef bytes keys = c2s + s2c
        cdef uint32_t length
        if len(c2s) != len(s2c) or len(c2s) != <Py_ssize_t>aead_key_size(algorithm) or not c2s:
            raise ValueError(f"keys of {len(c2s)} and {len(s2c)} bytes for AEAD algorithm {algorithm}")
        if not nts_keys_refresh(&self._copy, self.ring):
            raise ValueError("no NTS server keys")
        need_random()
        length = nts_make_cookie(&self._copy, &process_random, algorithm, <const uint8_t *><const char *>keys, cookie)
        return (<const char *>cookie)[:length]

    cdef bint refresh(self) noexcept:
        return nts_keys_refresh(&self._copy, self.ring)

    cdef uint32_t cookie(self, uint32_t algorithm, const uint8_t *c2s_s2c, uint8_t *cookie) except 0:
        cdef uint32_t length
        need_random()
        length = nts_make_cookie(&self._copy, &process_random, algorithm, c2s_s2c, cookie)
        if length == 0:
            raise ValueError(f"no cookie for AEAD algorithm {algorithm}")
        return length

    def open_cookie(self, cookie: bytes) -> tuple[int, bytes, bytes] | None:
        """(AEAD, C2S, S2C) of a cookie, None when it is not ours."""
        cdef uint8_t keys[64]
        cdef uint32_t algorithm, size
        if not nts_keys_refresh(&self._copy, self.ring):
            return None
        algorithm = nts_open_cookie(&self._copy, <const uint8_t *><const char *>cookie, len(cookie), keys)
        if algorithm == 0:
            return None
        size = aead_key_size(algorithm)
        return algorithm, (<const char *>keys)[:size], (<const char *>keys)[size:2 * size]


cdef class Responder:
    """One request at a time through the data-plane functions: for tests and for servers made in Python."""

    cdef KeyRing _ring
    cdef nts_keys _keys
    cdef nts_request _request
    cdef bytes _packet
    cdef int _outcome

    def __cinit__(self, KeyRing ring not None):
        self._ring = ring
        memset(&self._keys, 0, sizeof(nts_keys))
        self._packet = b""
        self._outcome = NTS_DROP_MISSING

    def check(self, packet: bytes) -> str:
        """Name of the outcome, one of OUTCOMES."""
        nts_keys_refresh(&self._keys, self._ring.ring)
        self._packet = packet
        self._outcome = nts_check_request(&self._request, &self._keys, <const uint8_t *><const char *>packet,
                                          len(packet))
        return OUTCOMES[self._outcome]

    def repeat(self, packet: bytes, head: bytes, rounds: int) -> int:
        """Check and answer a request again and again without the GIL: how often that worked (benches, leak tests)."""
        cdef uint8_t response[NTS_PACKET_MAX]
        cdef const uint8_t *data = <const uint8_t *><const char *>packet
        cdef const uint8_t *header = <const uint8_t *><const char *>head
        cdef uint32_t length = len(packet)
        cdef uint32_t head_length = len(head)
        cdef long long count = rounds
        cdef long long answered = 0
        cdef long long i
        if not HEADER <= head_length <= length:
            raise ValueError("header longer than the request")
        nts_keys_refresh(&self._keys, self._ring.ring)
        with nogil:
            for i in range(count):
                if nts_check_request(&self._request, &self._keys, data, length) != NTS_OK:
                    continue
                if not rng_fill(&process_random, NTS_RANDOM_MAX):
                    break
                memcpy(response, header, head_length)
                if nts_build_response(&self._request, &self._keys, &process_random, data, response, head_length):
                    nts_seal_response(&self._request, response)
                    answered += 1
        return answered

    @property
    def cookies(self) -> int:
        """Cookies the answer will hold."""
        return self._request.cookies

    def respond(self, head: bytes, transmit: bytes = b"") -> bytes:
        """The answer to the checked request: header and optional fields `head`, sealed, or a NAK.

        `transmit` (8 bytes) overwrites the transmit timestamp after the cookies are made, as a worker does it.
        """
        cdef uint8_t response[NTS_PACKET_MAX]
        cdef const uint8_t *packet = <const uint8_t *><const char *>self._packet
        cdef uint32_t length
        if not HEADER <= len(head) <= len(self._packet):
            raise ValueError("header longer than the request")
        memcpy(response, <const char *>head, len(head))
        if self._outcome == NTS_OK:
            need_random()
            length = nts_build_response(&self._request, &self._keys, &process_random, packet, response, len(head))
            if length == 0:
                raise ValueError("no room for the answer")
            if transmit:
                memcpy(response + 40, <const char *>transmit, 8)
            nts_seal_response(&self._request, response)
        elif self._outcome in (NTS_NAK_COOKIE, NTS_NAK_AUTH, NTS_NAK_SIZE):
            if len(head) + self._request.uid_length > NTS_PACKET_MAX:
                raise ValueError("no room for the answer")
            length = nts_build_nak(&self._request, packet, response, len(head))
        else:
            raise ValueError("nothing is sent to a dropped request")
        return (<const char *>response)[:length]
