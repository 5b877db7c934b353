"""One NTS key exchange as the server sees it, without I/O: TLS, the request, keys, cookies, the answer.

Bytes of the client go in, bytes for it come out. The request that nearly every client sends is read here, in one pass
over its bytes; anything else goes to the codec of records (`nts/records.py`, through `Service.decide`), whose rules
hold: `Service.choose` takes only messages for which the codec comes to the same agreement. No Python object is made for
the former but the session itself. A connection costs no TLS state before its first byte, and none after its answer.
"""

cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from ntpd_fast._aead cimport AEAD_AES_128_GCM_SIV, AEAD_AES_SIV_CMAC_256, aead_key_size
from ntpd_fast._nts cimport NTS_COOKIE_MAX, NTS_COOKIES_MAX, KeyRing
from ntpd_fast._tls cimport (
    TLS_RECORD_MAX,
    Credentials,
    buffer_clear,
    tls_begin_server,
    tls_buffer,
    tls_close,
    tls_end,
    tls_export,
    tls_failure,
    tls_feed,
    tls_finished_size,
    tls_handshake,
    tls_read,
    tls_write,
)

cdef extern from "<string.h>" nogil:
    void explicit_bzero(void *memory, size_t size)

# Of RFC 8915 §4; their meaning is with `nts.records.RecordType`.
cdef enum:
    CRITICAL = 0x8000
    RECORD_END = 0
    RECORD_PROTOCOL = 1
    RECORD_AEAD = 4
    RECORD_COOKIE = 5
    RECORD_COMPLIANT_EXPORT = 1024
    RECORD_HEADER = 4
    BODY_MAX = 256              # bytes of a record that are looked at
    KEY_MAX = 32
    HEAD_MAX = 1024             # bytes of an answer before its cookies; the longest there can be has some 300

cdef const char *ALPN = b"ntske/1"
cdef const char *LABEL = b"EXPORTER-network-time-security"


cdef inline uint32_t read16(const uint8_t *p) noexcept nogil:
    return (<uint32_t>p[0] << 8) | p[1]


cdef inline uint8_t *write16(uint8_t *p, uint32_t value) noexcept nogil:
    p[0] = <uint8_t>(value >> 8)
    p[1] = <uint8_t>value
    return p + 2


cdef class Service:
    """What all sessions share; a session takes it as it is when its first byte comes.

    credentials: TLS certificates and keys. ring: server keys. algorithms: `ntsaeads`, what clients may have.
    ntp_server: `ntsntpserver`. ntp_port: where it serves NTP. `outcomes`, and the methods that raise
    here, are for a subclass to give.
    """

    outcomes = tuple(range(KE_BROKEN + 1))

    def __init__(self, Credentials credentials not None, KeyRing ring not None, algorithms, ntp_server, ntp_port):
        self._heads = {}
        self._credentials = credentials
        self._ring = ring
        self.algorithms = algorithms
        self.ntp_server = ntp_server
        self.ntp_port = ntp_port

    @property
    def credentials(self):
        return self._credentials

    @credentials.setter
    def credentials(self, Credentials credentials not None):
        self._credentials = credentials

    @property
    def ring(self):
        return self._ring

    @property
    def algorithms(self):
        return self._algorithms

    @algorithms.setter
    def algorithms(self, algorithms):
        chosen = tuple(algorithms)
        if len(chosen) > ALGORITHMS_MAX:
            raise ValueError(f"{len(chosen)} AEAD algorithms are more than there are")
        self._allowed_count = 0
        for algorithm in chosen:
            if aead_key_size(algorithm):
                self._allowed[self._allowed_count] = algorithm
                self._allowed_count += 1
        self._algorithms = chosen

    @property
    def ntp_server(self):
        return self._ntp_server

    @ntp_server.setter
    def ntp_server(self, name):
        self._heads.clear()
        self._ntp_server = name

    @property
    def ntp_port(self):
        return self._ntp_port

    @ntp_port.setter
    def ntp_port(self, port):
        self._heads.clear()
        self._ntp_port = port

    def compose(self, algorithm, compliant):
        """The records of an answer before its cookies, as bytes."""
        raise NotImplementedError

    def reader(self):
        """What collects a message that is not the usual one."""
        raise NotImplementedError

    def decide(self, reader, data):
        """More bytes of such a message: a decision once it is complete, else None.

        A decision is (algorithm, compliant export, answer, reason): an algorithm is granted; without one the answer is
        sent; without that the session just ends. The reason is for the log.
        """
        raise NotImplementedError

    def no_keys(self):
        """The answer when there are no server keys."""
        raise NotImplementedError

    def usual(self, message):
        """(algorithm, compliant export) when `message` is a request of the usual form that can be served, else None."""
        cdef const uint8_t[::1] data = message
        cdef bint compliant = False
        cdef int algorithm = self.choose(&data[0], data.shape[0], &compliant) if data.shape[0] else 0
        return (algorithm, compliant) if algorithm else None

    cdef int choose(self, const uint8_t *message, size_t size, bint *compliant) noexcept:
        """The algorithm to grant to a request of the usual form: 0 if it is not, or can not be.

        The form: next protocol (critical) NTPv4 alone, AEAD algorithms, perhaps the compliant export, end of message
        (critical), each once, in this order, and nothing else. The client's order of algorithms decides.
        """
        cdef size_t offset = 6
        cdef size_t end, at
        cdef int i
        cdef uint32_t algorithm = 0
        compliant[0] = False
        # protocol record and the header of the next
        if size < 6 + RECORD_HEADER or read16(message) != CRITICAL | RECORD_PROTOCOL or read16(message + 2) != 2:
            return 0
        if read16(message + 4) != 0 or read16(message + 6) & ~<uint32_t>CRITICAL != RECORD_AEAD:
            return 0
        end = 6 + RECORD_HEADER + read16(message + 8)
        if end > size or end > 6 + RECORD_HEADER + BODY_MAX or end & 1:
            return 0
        at = 6 + RECORD_HEADER
        while at < end and algorithm == 0:
            for i in range(self._allowed_count):
                if self._allowed[i] == read16(message + at):
                    algorithm = self._allowed[i]
            at += 2
        offset = end
        if size - offset >= RECORD_HEADER and \
                read16(message + offset) & ~<uint32_t>CRITICAL == RECORD_COMPLIANT_EXPORT and \
                read16(message + offset + 2) == 0:
            compliant[0] = algorithm == AEAD_AES_128_GCM_SIV
            offset += RECORD_HEADER
        if size - offset != RECORD_HEADER or read16(message + offset) != CRITICAL | RECORD_END or \
                read16(message + offset + 2) != 0:
            return 0
        return <int>algorithm

    cdef bytes head(self, int algorithm, bint compliant):
        cdef bytes head = self._heads.get((algorithm, compliant))
        if head is None:
            head = self.compose(algorithm, bool(compliant))
            if len(head) > HEAD_MAX:
                raise ValueError(f"an answer begins with {len(head)} bytes")
            self._heads[(algorithm, compliant)] = head
        return head


@cython.no_gc_clear  # what `tls` points to has to outlive it
cdef class Session:
    """One connection. After `ended` is set nothing is read any more: send what is in `tls.outgoing`, then close."""

    def __cinit__(self, Service service not None):
        self._service = service
        self.ended = KE_OPEN
        self._reason = ""

    def __dealloc__(self):
        tls_end(&self.tls)
        buffer_clear(&self.tls.outgoing)

    @property
    def outcome(self):
        """How the session ended, one of the service's `outcomes`; None: it has not."""
        return None if self.ended == KE_OPEN else self._service.outcomes[self.ended]

    @property
    def reason(self):
        """Why there are no keys, for a debug log."""
        return self._reason

    @property
    def holds_tls(self):
        """Whether there is TLS state."""
        return self.tls.session != NULL

    def receive(self, bytes data not None) -> bytes:
        """Bytes from the client (empty: it hung up); bytes for the client."""
        cdef tls_buffer *outgoing = &self.tls.outgoing
        cdef bytes out
        self.take(<const uint8_t *><const char *>data, len(data))
        out = (<const char *>outgoing.data)[outgoing.start:outgoing.end] if outgoing.end > outgoing.start else b""
        buffer_clear(outgoing)
        return out

    cdef void end(self, int outcome, str reason):
        self.ended = outcome
        self._reason = reason

    cdef size_t awaited(self):
        if self.ended != KE_OPEN or self.tls.session == NULL or self.tls.done:
            return 0
        # what has begun to come may be anything
        return tls_finished_size(&self.tls) + 1 if self.tls.incoming.end == self.tls.incoming.start else 0

    cdef bint take(self, const uint8_t *data, size_t size) except False:
        cdef int result
        if self.ended != KE_OPEN:
            return True
        if self.tls.session == NULL:
            if size == 0:
                self.end(KE_TLS_FAILED, "closed before the handshake")
                return True
            self._credentials = self._service._credentials
            result = tls_begin_server(&self.tls, self._credentials.credentials, ALPN, 7)
            if result < 0:
                self.end(KE_TLS_FAILED, tls_failure(&self.tls, result))
        if self.ended == KE_OPEN and not tls_feed(&self.tls, data, size):
            self.end(KE_TLS_FAILED, "too much unread data")
        if self.ended == KE_OPEN and not self.tls.done:
            with nogil:
                result = tls_handshake(&self.tls)
            if result < 0:
                self.end(KE_TLS_FAILED, tls_failure(&self.tls, result))
            elif result == 0 and size == 0:
                self.end(KE_TLS_FAILED, "closed in the handshake")
        if self.ended == KE_OPEN and self.tls.done:
            self.read()
        if self.ended == KE_OPEN and size == 0:
            # whatever the library is still waiting for, it will not come
            self.end(KE_BROKEN, "closed before the End of Message record")
        if self.ended != KE_OPEN:
            # the TLS state is the bulk of a connection's memory, and its keys are of no more use
            tls_end(&self.tls)
            self._credentials = None
            self._reader = None
        return True

    cdef bint read(self) except False:
        cdef uint8_t data[TLS_RECORD_MAX]
        cdef uint8_t more[TLS_RECORD_MAX]
        cdef size_t got, extra
        cdef bint compliant = False
        cdef int algorithm
        cdef int result
        cdef bytes answer = b""
        cdef str reason = ""
        while True:
            result = tls_read(&self.tls, data, TLS_RECORD_MAX, &got)
            if result < 0:
                self.end(KE_TLS_FAILED, tls_failure(&self.tls, result))
                return True
            if result == 0:
                return True
            if got == 0:
                self.end(KE_BROKEN, "closed before the End of Message record")
                return True
            algorithm = self._service.choose(data, got, &compliant) if self._reader is None else 0
            if algorithm == 0:
                if self._reader is None:
                    self._reader = self._service.reader()
                decision = self._service.decide(self._reader, (<const char *>data)[:got])
                if decision is None:
                    continue
                algorithm, compliant, answer, reason = decision
                if algorithm == 0 and not answer:
                    self.end(KE_BROKEN, reason)
                    tls_close(&self.tls)
                    return True
            # what follows the End of Message in a record of its own is as wrong as in the same one
            result = tls_read(&self.tls, more, TLS_RECORD_MAX, &extra)
            if result < 0:
                self.end(KE_TLS_FAILED, tls_failure(&self.tls, result))
            elif extra:
                self.end(KE_BROKEN, "data after the End of Message record")
                tls_close(&self.tls)
            elif algorithm:
                self.grant(algorithm, compliant)
            else:
                self.refuse(answer, reason)
            return True

    cdef bint refuse(self, bytes answer, str reason) except False:
        self.end(KE_REFUSED, reason)
        self.send(<const uint8_t *><const char *>answer, len(answer))
        return True

    cdef bint grant(self, int algorithm, bint compliant) except False:
        cdef uint8_t answer[HEAD_MAX + NTS_COOKIES_MAX * (RECORD_HEADER + NTS_COOKIE_MAX) + RECORD_HEADER]
        cdef uint8_t keys[2 * KEY_MAX]
        cdef uint8_t context[5]
        cdef uint8_t *at = answer
        cdef size_t key_size = aead_key_size(algorithm)
        cdef uint32_t length
        cdef bytes head
        cdef int i, error
        if not self._service._ring.refresh():
            return self.refuse(self._service.no_keys(), "no server keys")
        # protocol, algorithm, direction; chrony before 4.6.1 named another algorithm (nts.md §3)
        memset(context, 0, sizeof(context))
        write16(context + 2, AEAD_AES_SIV_CMAC_256 if algorithm == AEAD_AES_128_GCM_SIV and not compliant
                else algorithm)
        for i in range(2):
            context[4] = i
            error = tls_export(&self.tls, LABEL, 30, context, sizeof(context), keys + i * key_size, key_size)
            if error < 0:
                explicit_bzero(keys, sizeof(keys))
                self.end(KE_TLS_FAILED, tls_failure(&self.tls, error))
                return True
        head = self._service.head(algorithm, compliant)
        memcpy(at, <const char *>head, len(head))
        at += len(head)
        for i in range(NTS_COOKIES_MAX):
            length = self._service._ring.cookie(algorithm, keys, at + RECORD_HEADER)
            write16(write16(at, RECORD_COOKIE), length)
            at += RECORD_HEADER + length
        at = write16(write16(at, CRITICAL | RECORD_END), 0)
        explicit_bzero(keys, sizeof(keys))
        self.end(KE_SERVED, "")
        self.send(answer, at - answer)
        return True

    cdef void send(self, const uint8_t *data, size_t size):
        cdef int error = tls_write(&self.tls, data, size)
        if error < 0:
            self.end(KE_TLS_FAILED, tls_failure(&self.tls, error))
            return
        tls_close(&self.tls)
