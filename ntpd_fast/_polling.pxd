"""The loop of a process that serves NTP: which socket next, and what concerns Python."""

from ntpd_fast._datapath cimport socket_state

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents

cdef enum:
    POLLED_MAX = 256            # descriptors one poller can hold

# What is waited for: sockets of ours, and (state NULL) descriptors that concern Python.
ctypedef struct poll_set:
    int count
    int hot                     # index of the socket that alone was busy, and for how many turns since when
    int streak
    pollfd fds[256]
    socket_state *states[256]


cdef class Poller:
    """Server sockets and descriptors that concern Python."""
    cdef poll_set *set
    cdef list sockets
    cdef object epoll
    cdef add(self, int fd, short events, socket_state *state)
