"""A TLS 1.3 session without a socket: what other extensions call. Bodies and rules: the .pyx.

A `tls_session` is caller memory, zeroed before `tls_begin_server` and given back by `tls_end`. All functions but
`tls_failure` work without the GIL; a session belongs to one thread at a time.
"""

from libc.stdint cimport uint8_t

cdef extern from "<gnutls/gnutls.h>" nogil:
    ctypedef struct gnutls_session_int:
        pass
    ctypedef gnutls_session_int *gnutls_session_t
    ctypedef struct gnutls_certificate_credentials_st:
        pass
    ctypedef gnutls_certificate_credentials_st *gnutls_certificate_credentials_t
    ctypedef struct gnutls_datum_t:
        unsigned char *data
        unsigned int size

cdef enum:
    TLS_RECORD_MAX = 16384      # bytes of plain text in a record

ctypedef struct tls_buffer:     # what waits is data[start:end]
    uint8_t *data
    size_t start
    size_t end
    size_t room

ctypedef struct tls_session:
    gnutls_session_t session    # NULL: not begun, or ended
    tls_buffer incoming         # from the peer, not read yet
    tls_buffer outgoing         # for the peer, not sent yet; outlives the session
    bint end_of_input           # the peer will send no more
    bint done                   # the handshake is complete
    bint closed                 # close_notify is in `outgoing`

cdef class Credentials:
    """Certificates and keys: see the .pyx. A session that uses them has to keep the object alive."""
    cdef gnutls_certificate_credentials_t credentials

# A server's session that speaks only the protocol `alpn`, whose bytes stay the caller's: 0, or a GnuTLS error.
cdef int tls_begin_server(tls_session *tls, gnutls_certificate_credentials_t credentials, const char *alpn,
                          size_t alpn_size) noexcept nogil

# Bytes from the peer; none: it will send no more. False when too much is waiting unread.
cdef bint tls_feed(tls_session *tls, const uint8_t *data, size_t size) noexcept nogil

# Go on with the handshake: 1 complete, 0 more has to come, negative: it failed, and an alert may be in `outgoing`.
cdef int tls_handshake(tls_session *tls) noexcept nogil

# Decrypted bytes: 1 with their number in `got` (0: the peer has closed its side), 0 nothing yet, negative: an error.
cdef int tls_read(tls_session *tls, uint8_t *data, size_t size, size_t *got) noexcept nogil

# Encrypt into `outgoing`: 0, or an error.
cdef int tls_write(tls_session *tls, const uint8_t *data, size_t size) noexcept nogil

# Keying material (RFC 5705, RFC 8446 §7.5) of a completed handshake: 0, or an error.
cdef int tls_export(tls_session *tls, const char *label, size_t label_size, const uint8_t *context,
                    size_t context_size, uint8_t *key, size_t key_size) noexcept nogil

# Say close_notify (into `outgoing`), once. A session whose handshake is not complete stays silent.
cdef void tls_close(tls_session *tls) noexcept nogil

# How long the Finished of a client that has had our flight may be; whatever a client sends after it is longer than
# what is missing to this, should its Finished be shorter. 0: not known.
cdef size_t tls_finished_size(const tls_session *tls) noexcept nogil

# Give back everything but `outgoing`.
cdef void tls_end(tls_session *tls) noexcept nogil

# Give back the memory of a buffer, and what is in it.
cdef void buffer_clear(tls_buffer *buffer) noexcept nogil

# What went wrong, for the log.
cdef str tls_failure(const tls_session *tls, int error)
