"""What NTS key exchange needs of GnuTLS and nothing more: a TLS 1.3 session without a socket, certificates, HKDF.

Bytes from the peer go in with `feed`, bytes for the peer come out of `out`; the handshake runs without the GIL. TLS 1.3
only, ALPN exactly what is asked for, no session tickets, no early data (RFC 8915 §4; DESIGN §7). The distribution's
crypto policy applies. What a peer does wrong raises TlsError, with the alert for it already in `out`; all buffers are
bounded.
"""

cimport cython
from libc.errno cimport EAGAIN, EMSGSIZE, ENOMEM
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove, memset
from libc.time cimport time, time_t

cdef extern from "<string.h>" nogil:
    void explicit_bzero(void *memory, size_t size)

cdef extern from *:
    """
    #include <gnutls/gnutls.h>

    /* Take initialisation into our own hands: by itself the library ends the process when its self-tests fail, as they
       do under FIPS restrictions. We want an error code. */
    int _gnutls_global_init_skip(void);
    int _gnutls_global_init_skip(void) { return 1; }
    """

cdef extern from "<gnutls/gnutls.h>" nogil:
    ctypedef struct gnutls_priority_st:
        pass
    ctypedef gnutls_priority_st *gnutls_priority_t
    ctypedef void *gnutls_transport_ptr_t
    ctypedef enum gnutls_certificate_type_t:
        GNUTLS_CRT_X509
    ctypedef enum gnutls_x509_crt_fmt_t:
        GNUTLS_X509_FMT_PEM
    ctypedef enum gnutls_credentials_type_t:
        GNUTLS_CRD_CERTIFICATE
    ctypedef enum gnutls_close_request_t:
        GNUTLS_SHUT_WR
    ctypedef enum gnutls_server_name_type_t:
        GNUTLS_NAME_DNS
    ctypedef enum gnutls_alert_description_t:
        pass
    int GNUTLS_SERVER, GNUTLS_CLIENT, GNUTLS_NONBLOCK, GNUTLS_NO_TICKETS, GNUTLS_NO_SIGNAL
    int GNUTLS_E_SUCCESS, GNUTLS_E_AGAIN, GNUTLS_E_INTERRUPTED, GNUTLS_E_FATAL_ALERT_RECEIVED
    int GNUTLS_E_NO_APPLICATION_PROTOCOL, GNUTLS_E_WARNING_ALERT_RECEIVED, GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR, GNUTLS_E_PREMATURE_TERMINATION
    int GNUTLS_PRIORITY_INIT_DEF_APPEND, GNUTLS_ALPN_MANDATORY

    int gnutls_global_init()
    const char *gnutls_strerror(int error)
    void gnutls_free(void *ptr)
    void gnutls_global_set_time_function(time_t (*function)(time_t *) noexcept nogil)
    unsigned gnutls_fips140_mode_enabled()
    const char *gnutls_check_version(const char *)
    int gnutls_priority_init2(gnutls_priority_t *, const char *priorities, const char **err_pos, unsigned flags)
    int gnutls_certificate_allocate_credentials(gnutls_certificate_credentials_t *)
    void gnutls_certificate_free_credentials(gnutls_certificate_credentials_t)
    int gnutls_certificate_set_x509_key_mem2(gnutls_certificate_credentials_t, const gnutls_datum_t *cert,
                                             const gnutls_datum_t *key, gnutls_x509_crt_fmt_t, const char *password,
                                             unsigned flags)
    int gnutls_certificate_set_x509_trust_mem(gnutls_certificate_credentials_t, const gnutls_datum_t *ca,
                                              gnutls_x509_crt_fmt_t)
    int gnutls_certificate_set_x509_system_trust(gnutls_certificate_credentials_t)
    int gnutls_init(gnutls_session_t *, unsigned flags)
    void gnutls_deinit(gnutls_session_t)
    int gnutls_priority_set(gnutls_session_t, gnutls_priority_t)
    int gnutls_credentials_set(gnutls_session_t, gnutls_credentials_type_t, void *)
    int gnutls_alpn_set_protocols(gnutls_session_t, const gnutls_datum_t *, unsigned count, unsigned flags)
    int gnutls_alpn_get_selected_protocol(gnutls_session_t, gnutls_datum_t *)
    int gnutls_server_name_set(gnutls_session_t, gnutls_server_name_type_t, const void *name, size_t length)
    void gnutls_session_set_verify_cert(gnutls_session_t, const char *hostname, unsigned flags)
    unsigned int gnutls_session_get_verify_cert_status(gnutls_session_t)
    int gnutls_certificate_verification_status_print(unsigned status, gnutls_certificate_type_t, gnutls_datum_t *,
                                                     unsigned flags)
    void gnutls_transport_set_ptr(gnutls_session_t, gnutls_transport_ptr_t)
    void gnutls_transport_set_errno(gnutls_session_t, int)
    void gnutls_transport_set_push_function(gnutls_session_t,
                                            ssize_t (*)(gnutls_transport_ptr_t, const void *, size_t) noexcept nogil)
    void gnutls_transport_set_pull_function(gnutls_session_t,
                                            ssize_t (*)(gnutls_transport_ptr_t, void *, size_t) noexcept nogil)
    void gnutls_transport_set_pull_timeout_function(gnutls_session_t,
                                                    int (*)(gnutls_transport_ptr_t, unsigned int) noexcept nogil)
    int gnutls_handshake(gnutls_session_t)
    int gnutls_alert_send_appropriate(gnutls_session_t, int error)
    gnutls_alert_description_t gnutls_alert_get(gnutls_session_t)
    const char *gnutls_alert_get_name(gnutls_alert_description_t)
    ssize_t gnutls_record_recv(gnutls_session_t, void *data, size_t size)
    ssize_t gnutls_record_send(gnutls_session_t, const void *data, size_t size)
    ctypedef enum gnutls_digest_algorithm_t:
        pass
    gnutls_digest_algorithm_t gnutls_prf_hash_get(const gnutls_session_t)
    int gnutls_bye(gnutls_session_t, gnutls_close_request_t)
    int gnutls_prf_rfc5705(gnutls_session_t, size_t label_size, const char *label, size_t context_size,
                           const char *context, size_t out_size, char *out)

cdef extern from "<gnutls/crypto.h>" nogil:
    ctypedef enum gnutls_mac_algorithm_t:
        GNUTLS_MAC_SHA256
    unsigned gnutls_hash_get_len(gnutls_digest_algorithm_t)
    int gnutls_hkdf_extract(gnutls_mac_algorithm_t, const gnutls_datum_t *key, const gnutls_datum_t *salt, void *output)
    int gnutls_hkdf_expand(gnutls_mac_algorithm_t, const gnutls_datum_t *key, const gnutls_datum_t *info, void *output,
                           size_t length)

cdef extern from "<gnutls/x509.h>" nogil:
    ctypedef struct gnutls_x509_crt_int:
        pass
    ctypedef gnutls_x509_crt_int *gnutls_x509_crt_t
    unsigned int GNUTLS_VERIFY_DISABLE_TIME_CHECKS, GNUTLS_VERIFY_DISABLE_TRUSTED_TIME_CHECKS
    int gnutls_x509_crt_init(gnutls_x509_crt_t *)
    void gnutls_x509_crt_deinit(gnutls_x509_crt_t)
    int gnutls_x509_crt_import(gnutls_x509_crt_t, const gnutls_datum_t *data, gnutls_x509_crt_fmt_t)
    time_t gnutls_x509_crt_get_activation_time(gnutls_x509_crt_t)
    time_t gnutls_x509_crt_get_expiration_time(gnutls_x509_crt_t)


# A flight with a long certificate chain is some 10 KiB: a peer that makes us hold more is not doing key exchange.
cdef enum:
    BUFFER_MAX = 131072         # bytes waiting in either direction
    NO_PROTOCOL = -1000000      # no GnuTLS error: the peer negotiated no application protocol
    SHA256_SIZE = 32
    HKDF_MAX = 255 * SHA256_SIZE    # RFC 5869 §2.3


class TlsError(Exception):
    """The peer, its certificate or the library failed; the text is for the log."""


class AlpnError(TlsError):
    """The handshake was good, but the peer does not speak our protocol in it."""


cdef bint buffer_put(tls_buffer *buffer, const void *data, size_t size) noexcept nogil:
    cdef uint8_t *grown
    cdef size_t used = buffer.end - buffer.start
    if size > BUFFER_MAX - used:
        return False
    if buffer.end + size > buffer.room:
        if buffer.start:
            memmove(buffer.data, buffer.data + buffer.start, used)
            buffer.start = 0
            buffer.end = used
        if used + size > buffer.room:
            grown = <uint8_t *>realloc(buffer.data, used + size)
            if grown == NULL:
                return False
            buffer.data = grown
            buffer.room = used + size
    memcpy(buffer.data + buffer.end, data, size)
    buffer.end += size
    return True


cdef void buffer_clear(tls_buffer *buffer) noexcept nogil:
    """Give the memory back too: most connections wait with nothing buffered."""
    free(buffer.data)
    memset(buffer, 0, sizeof(tls_buffer))


cdef ssize_t transport_push(gnutls_transport_ptr_t pointer, const void *data, size_t size) noexcept nogil:
    cdef tls_session *transport = <tls_session *>pointer
    if not buffer_put(&transport.outgoing, data, size):
        gnutls_transport_set_errno(transport.session, EMSGSIZE)
        return -1
    return <ssize_t>size


cdef ssize_t transport_pull(gnutls_transport_ptr_t pointer, void *data, size_t size) noexcept nogil:
    cdef tls_session *transport = <tls_session *>pointer
    cdef tls_buffer *incoming = &transport.incoming
    cdef size_t have = incoming.end - incoming.start
    if have == 0:
        if transport.end_of_input:
            return 0
        gnutls_transport_set_errno(transport.session, EAGAIN)
        return -1
    if size > have:
        size = have
    memcpy(data, incoming.data + incoming.start, size)
    incoming.start += size
    if incoming.start == incoming.end:
        buffer_clear(incoming)
    return <ssize_t>size


cdef int transport_pull_timeout(gnutls_transport_ptr_t pointer, unsigned int timeout_ms) noexcept nogil:
    cdef tls_session *transport = <tls_session *>pointer
    return 1 if transport.end_of_input or transport.incoming.end > transport.incoming.start else 0


cdef int begin(tls_session *tls, unsigned side, gnutls_certificate_credentials_t credentials, const char *alpn,
               size_t alpn_size) noexcept nogil:
    cdef gnutls_datum_t protocol
    cdef int error
    protocol.data = <unsigned char *>alpn
    protocol.size = <unsigned int>alpn_size
    memset(tls, 0, sizeof(tls_session))
    error = gnutls_init(&tls.session, side | <unsigned>(GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS | GNUTLS_NO_SIGNAL))
    if error < 0:
        tls.session = NULL
        return error
    error = gnutls_priority_set(tls.session, priorities)
    if error >= 0:
        error = gnutls_credentials_set(tls.session, GNUTLS_CRD_CERTIFICATE, credentials)
    if error >= 0:
        error = gnutls_alpn_set_protocols(tls.session, &protocol, 1, GNUTLS_ALPN_MANDATORY)
    if error < 0:
        return error
    gnutls_transport_set_ptr(tls.session, tls)
    gnutls_transport_set_push_function(tls.session, transport_push)
    gnutls_transport_set_pull_function(tls.session, transport_pull)
    gnutls_transport_set_pull_timeout_function(tls.session, transport_pull_timeout)
    return 0


cdef int tls_begin_server(tls_session *tls, gnutls_certificate_credentials_t credentials, const char *alpn,
                          size_t alpn_size) noexcept nogil:
    return begin(tls, GNUTLS_SERVER, credentials, alpn, alpn_size)


cdef bint tls_feed(tls_session *tls, const uint8_t *data, size_t size) noexcept nogil:
    if size == 0:
        tls.end_of_input = True
        return True
    return buffer_put(&tls.incoming, data, size)


cdef int tls_handshake(tls_session *tls) noexcept nogil:
    cdef int error
    cdef gnutls_datum_t protocol
    if tls.done:
        return 1
    error = gnutls_handshake(tls.session)
    if error == GNUTLS_E_AGAIN or error == GNUTLS_E_INTERRUPTED:
        return 0
    if error < 0:
        gnutls_alert_send_appropriate(tls.session, error)
        return error
    # GNUTLS_ALPN_MANDATORY says nothing about a peer that does not speak ALPN at all
    if gnutls_alpn_get_selected_protocol(tls.session, &protocol) < 0:
        return NO_PROTOCOL
    tls.done = True
    return 1


cdef int tls_read(tls_session *tls, uint8_t *data, size_t size, size_t *got) noexcept nogil:
    cdef size_t waiting
    cdef ssize_t result
    got[0] = 0
    while True:
        waiting = tls.incoming.end - tls.incoming.start
        result = gnutls_record_recv(tls.session, data, size)
        # a session ticket is taken in with "again", whatever stands behind it
        if result != GNUTLS_E_AGAIN or tls.incoming.end - tls.incoming.start == waiting:
            break
    if result == GNUTLS_E_AGAIN or result == GNUTLS_E_INTERRUPTED:
        return 0
    if result < 0:
        # a rehandshake is an error too: there is none in TLS 1.3
        return <int>result
    got[0] = <size_t>result
    return 1


cdef int tls_write(tls_session *tls, const uint8_t *data, size_t size) noexcept nogil:
    cdef ssize_t sent
    while size:
        sent = gnutls_record_send(tls.session, data, size)
        if sent < 0:
            return <int>sent
        data += sent
        size -= <size_t>sent
    return 0


cdef int tls_export(tls_session *tls, const char *label, size_t label_size, const uint8_t *context,
                    size_t context_size, uint8_t *key, size_t key_size) noexcept nogil:
    return gnutls_prf_rfc5705(tls.session, label_size, label, context_size, <const char *>context, key_size,
                              <char *>key)


cdef void tls_close(tls_session *tls) noexcept nogil:
    if tls.done and not tls.closed:
        tls.closed = True
        gnutls_bye(tls.session, GNUTLS_SHUT_WR)


cdef size_t tls_finished_size(const tls_session *tls) noexcept nogil:
    cdef size_t mac = gnutls_hash_get_len(gnutls_prf_hash_get(tls.session))
    # a ChangeCipherSpec (RFC 8446 §D.4); header, handshake header, MAC, content type and tag of the Finished
    return 6 + 5 + 4 + mac + 1 + 16 if mac else 0


cdef void tls_end(tls_session *tls) noexcept nogil:
    if tls.session != NULL:
        gnutls_deinit(tls.session)
        tls.session = NULL
    buffer_clear(&tls.incoming)


cdef int64_t time_offset_s = 0


cdef time_t corrected_time(time_t *out) noexcept nogil:
    cdef time_t now = time(NULL) + <time_t>time_offset_s
    if out != NULL:
        out[0] = now
    return now


def set_time_offset(seconds: float) -> None:
    """Add this to the system clock when judging certificates, to get the daemon's corrected time."""
    global time_offset_s
    time_offset_s = <int64_t>seconds


cdef str text(int error):
    return gnutls_strerror(error).decode("ascii", "replace").rstrip(".")


cdef str tls_failure(const tls_session *tls, int error):
    cdef gnutls_datum_t reason
    cdef str message
    cdef const char *name
    if error == NO_PROTOCOL:
        return "no application protocol was negotiated"
    message = text(error)
    if tls.session == NULL:
        return message
    if error == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR:
        if gnutls_certificate_verification_status_print(
                gnutls_session_get_verify_cert_status(tls.session), GNUTLS_CRT_X509, &reason, 0) >= 0:
            message += ". " + reason.data[:reason.size].rstrip(b"\0").decode("utf-8", "replace").strip().rstrip(".")
            gnutls_free(reason.data)
    elif error == GNUTLS_E_FATAL_ALERT_RECEIVED or error == GNUTLS_E_WARNING_ALERT_RECEIVED:
        name = gnutls_alert_get_name(gnutls_alert_get(tls.session))
        if name != NULL:
            message += f" : {name.decode('ascii', 'replace')}"
    return message


cdef bint initialised = False
cdef gnutls_priority_t priorities = NULL


def initialise() -> None:
    """Start the library; done by the first use of a class here. TlsError when it refuses, for instance under FIPS."""
    global initialised, priorities
    cdef int error
    if initialised:
        return
    error = gnutls_global_init()
    if error < 0:
        raise TlsError(f"GnuTLS cannot be used : {text(error)}")
    # the system's policy with every version but TLS 1.3 taken away
    error = gnutls_priority_init2(&priorities, "-VERS-ALL:+VERS-TLS1.3", NULL, GNUTLS_PRIORITY_INIT_DEF_APPEND)
    if error < 0:
        raise TlsError(f"GnuTLS has no TLS 1.3 under the system's policy : {text(error)}")
    gnutls_global_set_time_function(corrected_time)
    initialised = True


def library() -> str:
    """Version of GnuTLS, with a word when it runs in FIPS mode."""
    version = gnutls_check_version(NULL).decode("ascii", "replace")
    return f"GnuTLS {version}" + (" (FIPS)" if gnutls_fips140_mode_enabled() else "")


cdef gnutls_datum_t datum(bytes data):
    """Points into `data`, which has to outlive it."""
    cdef gnutls_datum_t made
    made.data = <unsigned char *><char *>data
    made.size = <unsigned int>len(data)
    return made


def validity(certificates_pem: bytes) -> tuple[int, int]:
    """Unix times (s) between which the first certificate of a PEM text is valid. Raises TlsError."""
    cdef gnutls_x509_crt_t certificate
    cdef gnutls_datum_t pem
    cdef time_t begins, ends
    cdef int error
    initialise()
    pem = datum(certificates_pem)
    error = gnutls_x509_crt_init(&certificate)
    if error < 0:
        raise TlsError(text(error))
    try:
        error = gnutls_x509_crt_import(certificate, &pem, GNUTLS_X509_FMT_PEM)
        if error < 0:
            raise TlsError(text(error))
        begins = gnutls_x509_crt_get_activation_time(certificate)
        ends = gnutls_x509_crt_get_expiration_time(certificate)
    finally:
        gnutls_x509_crt_deinit(certificate)
    if begins == <time_t>-1 or ends == <time_t>-1:
        raise TlsError("no time in it that can be read")
    return begins, ends


def hkdf_sha256(secret: bytes, info: bytes, length: int) -> bytes:
    """HKDF with SHA-256 and no salt (RFC 5869), 1 to 8160 bytes. TlsError when the library's rules do not allow it."""
    cdef gnutls_datum_t key, no_salt, context
    cdef unsigned char extracted[SHA256_SIZE]
    cdef unsigned char derived[HKDF_MAX]
    cdef size_t size
    cdef int error
    if not 1 <= length <= HKDF_MAX:
        raise ValueError(f"{length} bytes")
    size = length
    initialise()
    key, no_salt, context = datum(secret), datum(b""), datum(info)
    error = gnutls_hkdf_extract(GNUTLS_MAC_SHA256, &key, &no_salt, extracted)
    if error >= 0:
        key.data, key.size = extracted, SHA256_SIZE
        error = gnutls_hkdf_expand(GNUTLS_MAC_SHA256, &key, &context, derived, size)
    try:
        if error < 0:
            raise TlsError(text(error))
        return derived[:size]
    finally:
        explicit_bzero(extracted, SHA256_SIZE)
        explicit_bzero(derived, size)


cdef class Credentials:
    """Certificates and keys of a server, or the authorities a client trusts. Sessions keep it alive."""

    def __cinit__(self):
        initialise()
        cdef int error = gnutls_certificate_allocate_credentials(&self.credentials)
        if error < 0:
            self.credentials = NULL
            raise TlsError(text(error))

    def __dealloc__(self):
        if self.credentials != NULL:
            gnutls_certificate_free_credentials(self.credentials)

    def add_key_pair(self, certificate_pem: bytes, key_pem: bytes) -> None:
        """A server's certificate chain and private key, PEM. Several may be added: the client's SNI chooses."""
        cdef gnutls_datum_t certificate = datum(certificate_pem), key = datum(key_pem)
        cdef int error
        error = gnutls_certificate_set_x509_key_mem2(self.credentials, &certificate, &key, GNUTLS_X509_FMT_PEM, NULL, 0)
        if error < 0:
            raise TlsError(text(error))

    def add_trust(self, certificates_pem: bytes) -> int:
        """Trust the authorities in some PEM text; how many there were."""
        cdef gnutls_datum_t certificates = datum(certificates_pem)
        cdef int count
        count = gnutls_certificate_set_x509_trust_mem(self.credentials, &certificates, GNUTLS_X509_FMT_PEM)
        if count < 0:
            raise TlsError(text(count))
        return count

    def add_system_trust(self) -> int:
        """Trust the system's authorities; how many there were."""
        cdef int count
        with nogil:
            count = gnutls_certificate_set_x509_system_trust(self.credentials)
        if count < 0:
            raise TlsError(text(count))
        return count


@cython.no_gc_clear  # what `tls` points to has to outlive it
cdef class Session:
    """One TLS session. `server_side` sessions present their credentials; a client verifies `peer_name` against them.

    peer_name: DNS name (sent as SNI) or literal address (matched, not sent) of the server. check_times=False leaves
    the validity period of certificates out of the verification.
    """

    cdef tls_session tls
    cdef Credentials _credentials
    cdef bytes _alpn
    cdef bytes _peer_name       # the library keeps a pointer to it

    def __cinit__(self, Credentials credentials not None, bytes alpn not None, *, bint server_side,
                  str peer_name=None, bint send_name=True, bint check_times=True):
        cdef int error
        if not server_side and not peer_name:
            raise ValueError("a client has to know the name it verifies")
        self._credentials = credentials
        self._alpn = alpn
        error = begin(&self.tls, GNUTLS_SERVER if server_side else GNUTLS_CLIENT, credentials.credentials, alpn,
                      len(alpn))
        if error < 0:
            raise TlsError(text(error))
        if not server_side:
            self._peer_name = peer_name.encode("ascii")
            if send_name:
                error = gnutls_server_name_set(self.tls.session, GNUTLS_NAME_DNS, <const char *>self._peer_name,
                                               len(self._peer_name))
                if error < 0:
                    raise TlsError(text(error))
            gnutls_session_set_verify_cert(
                self.tls.session, <const char *>self._peer_name,
                0 if check_times else GNUTLS_VERIFY_DISABLE_TIME_CHECKS | GNUTLS_VERIFY_DISABLE_TRUSTED_TIME_CHECKS)

    def __dealloc__(self):
        tls_end(&self.tls)
        buffer_clear(&self.tls.outgoing)

    def feed(self, bytes data not None) -> None:
        """Bytes from the peer; empty: it will send no more. TlsError when too much is waiting unread."""
        if not tls_feed(&self.tls, <const uint8_t *><const char *>data, len(data)):
            raise TlsError("too much unread data")

    def out(self) -> bytes:
        """Bytes to send to the peer; they are handed out once."""
        cdef tls_buffer *outgoing = &self.tls.outgoing
        cdef bytes data
        if outgoing.end == outgoing.start:
            return b""
        data = (<const char *>outgoing.data)[outgoing.start:outgoing.end]
        buffer_clear(outgoing)
        return data

    def handshake(self) -> bool:
        """Go on with the handshake; true once it is complete. TlsError when it failed (an alert may be in `out`)."""
        cdef int result
        with nogil:
            result = tls_handshake(&self.tls)
        if result == GNUTLS_E_NO_APPLICATION_PROTOCOL or result == NO_PROTOCOL:
            raise AlpnError(tls_failure(&self.tls, result))
        if result < 0:
            raise TlsError(tls_failure(&self.tls, result))
        return result > 0

    def read(self) -> bytes | None:
        """Decrypted bytes; None: nothing yet; empty: the peer has closed its side. TlsError otherwise."""
        cdef uint8_t data[TLS_RECORD_MAX]
        cdef size_t got
        cdef int result
        with nogil:
            result = tls_read(&self.tls, data, TLS_RECORD_MAX, &got)
        if result < 0:
            raise TlsError(tls_failure(&self.tls, result))
        return (<const char *>data)[:got] if result else None

    def write(self, bytes data not None) -> None:
        """Encrypt `data` into `out`."""
        cdef int error = tls_write(&self.tls, <const uint8_t *><const char *>data, len(data))
        if error < 0:
            raise TlsError(tls_failure(&self.tls, error))

    def export(self, bytes label not None, bytes context not None, size_t length) -> bytes:
        """Keying material (RFC 5705, RFC 8446 §7.5) of a completed handshake."""
        cdef bytearray key = bytearray(length)
        cdef int error
        if not self.tls.done:
            raise ValueError("no keys before the handshake is complete")
        error = tls_export(&self.tls, label, len(label), <const uint8_t *><const char *>context, len(context),
                           <uint8_t *><char *>key, length)
        if error < 0:
            raise TlsError(text(error))
        return bytes(key)

    def close(self) -> None:
        """Say close_notify (into `out`): we will send no more. A session that is broken stays silent."""
        tls_close(&self.tls)
