"""Stream connections by their descriptors, for a service whose connections live for three packets.

A Python socket costs a fifth of what such a connection costs outside TLS. Every call returns at once: descriptors are
non-blocking, and "not now" is a value, not an exception.
"""

from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EINTR, errno
from libc.string cimport memset

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    ctypedef unsigned short sa_family_t
    struct sockaddr:
        sa_family_t sa_family
    struct sockaddr_storage:
        sa_family_t ss_family
    int AF_INET, AF_INET6, SOCK_NONBLOCK, SOCK_CLOEXEC, MSG_NOSIGNAL, MSG_DONTWAIT, SHUT_WR
    int accept4(int fd, sockaddr *address, socklen_t *length, int flags)
    ssize_t c_recv "recv"(int fd, void *data, size_t size, int flags)
    ssize_t c_send "send"(int fd, const void *data, size_t size, int flags)
    int c_shutdown "shutdown"(int fd, int how)

cdef extern from "<netinet/in.h>" nogil:
    struct in_addr:
        pass
    struct in6_addr:
        pass
    struct sockaddr_in:
        in_addr sin_addr
    struct sockaddr_in6:
        in6_addr sin6_addr

cdef enum:
    RECEIVE_MAX = 16384


def accept(int listener) -> tuple[int, bytes] | None:
    """The descriptor of a new connection and its peer's packed address; None when nobody waits.

    OSError for anything else, errors of the connection itself among it.
    """
    cdef sockaddr_storage address
    cdef socklen_t length = sizeof(address)
    cdef int fd
    memset(&address, 0, sizeof(address))
    fd = accept4(listener, <sockaddr *>&address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
    if fd < 0:
        if errno == EAGAIN:
            return None
        PyErr_SetFromErrno(OSError)
    if address.ss_family == AF_INET6:
        return fd, (<const char *>&(<sockaddr_in6 *>&address).sin6_addr)[:16]
    return fd, (<const char *>&(<sockaddr_in *>&address).sin_addr)[:4]


def receive(int fd) -> bytes | None:
    """At most 16 KiB; empty at the end of the stream; None when nothing is there. OSError when the stream broke."""
    cdef char data[RECEIVE_MAX]
    cdef ssize_t got = c_recv(fd, data, RECEIVE_MAX, MSG_DONTWAIT)
    if got < 0:
        if errno == EAGAIN or errno == EINTR:
            return None
        PyErr_SetFromErrno(OSError)
    return data[:got]


def send(int fd, bytes data not None) -> int:
    """How many bytes were taken; 0 when there is no room now. OSError when the stream broke."""
    cdef ssize_t sent = c_send(fd, <const char *>data, len(data), MSG_NOSIGNAL | MSG_DONTWAIT)
    if sent < 0:
        if errno == EAGAIN or errno == EINTR:
            return 0
        PyErr_SetFromErrno(OSError)
    return sent


def finish(int fd) -> None:
    """Say that no more will be sent. OSError when the stream is broken."""
    if c_shutdown(fd, SHUT_WR) < 0:
        PyErr_SetFromErrno(OSError)
