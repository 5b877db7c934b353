"""One NTS key exchange as the server sees it, without I/O: what the driver of connections (`_kepoll`) calls."""

from libc.stdint cimport uint8_t, uint16_t

from ntpd_fast._nts cimport KeyRing
from ntpd_fast._tls cimport Credentials, tls_buffer, tls_session

cdef enum:
    ALGORITHMS_MAX = 8          # AEAD algorithms a server allows

# How a session ended: the values of `ntske_counters.KeOutcome`.
cdef enum:
    KE_OPEN = -1                # it has not
    KE_SERVED = 0
    KE_REFUSED = 1
    KE_TLS_FAILED = 2
    KE_BROKEN = 3


cdef class Service:
    """What all sessions share: see the .pyx."""
    cdef Credentials _credentials
    cdef KeyRing _ring
    cdef tuple _algorithms
    cdef uint16_t _allowed[8]
    cdef int _allowed_count
    cdef str _ntp_server
    cdef int _ntp_port
    cdef dict _heads            # (algorithm, compliant) → the records before the cookies

    cdef int choose(self, const uint8_t *message, size_t size, bint *compliant) noexcept
    cdef bytes head(self, int algorithm, bint compliant)


cdef class Session:
    """One connection: see the .pyx."""
    cdef Service _service
    cdef Credentials _credentials   # in use by `tls`
    cdef tls_session tls            # `tls.outgoing` is for the client, also after the end
    cdef object _reader             # of a message that is not the usual one
    cdef int ended                  # KE_…
    cdef str _reason

    # Bytes from the client (none: it hung up).
    cdef bint take(self, const uint8_t *data, size_t size) except False
    # Bytes the client has to send before there is anything to do; 0: not known.
    cdef size_t awaited(self)
    cdef void end(self, int outcome, str reason)
    cdef bint read(self) except False
    cdef bint grant(self, int algorithm, bint compliant) except False
    cdef bint refuse(self, bytes answer, str reason) except False
    cdef void send(self, const uint8_t *data, size_t size)
