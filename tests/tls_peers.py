"""TLS peers in memory for tests: one of ours, and OpenSSL as the independent one."""

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL, crypto

from ntpd_fast._tls import Credentials, Session, TlsError

ALPN = b"ntske/1"


def server_credentials(*pairs):
    credentials = Credentials()
    for pair in pairs:
        credentials.add_key_pair(pair.certificate, pair.key)
    return credentials


def trusting(*authorities):
    credentials = Credentials()
    for authority in authorities:
        assert credentials.add_trust(authority.pem) == 1
    return credentials


def tls_client(authority, name="ntp.example.test", **options):
    return Session(trusting(authority), ALPN, server_side=False, peer_name=name, **options)


def openssl_context(authority=None, pair=None, versions=(SSL.TLS1_3_VERSION, SSL.TLS1_3_VERSION), alpn=(ALPN,)):
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(versions[0])
    context.set_max_proto_version(versions[1])
    if authority is not None:
        context.get_cert_store().add_cert(crypto.load_certificate(crypto.FILETYPE_PEM, authority.pem))
        context.set_verify(SSL.VERIFY_PEER, lambda *args: bool(args[-1]))
        if alpn:
            context.set_alpn_protos(list(alpn))
    if pair is not None:
        context.use_certificate(x509.load_pem_x509_certificate(pair.certificate))
        context.use_privatekey(serialization.load_pem_private_key(pair.key, None))
        context.set_alpn_select_callback(lambda _, offered: ALPN if ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS)
    return context


class OpenSsl:
    """The face of `_tls.Session` over an OpenSSL connection in memory."""

    def __init__(self, context, name=None):
        self.connection = SSL.Connection(context)
        if name:
            self.connection.set_tlsext_host_name(name)
            self.connection.set_connect_state()
        else:
            self.connection.set_accept_state()

    def handshake(self):
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            raise TlsError(repr(error)) from error
        return True

    def feed(self, data):
        if data:
            self.connection.bio_write(data)

    def out(self):
        try:
            return self.connection.bio_read(100000)
        except SSL.WantReadError:
            return b""

    def write(self, data):
        self.connection.send(data)

    def read(self):
        try:
            return self.connection.recv(20000)
        except SSL.WantReadError:
            return None
        except SSL.ZeroReturnError:
            return b""

    def close(self):
        self.connection.shutdown()

    def export(self, label, context, length):
        return self.connection.export_keying_material(label, length, context)
