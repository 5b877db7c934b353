"""The way back: answers taken, matched to what is outstanding, checked and accounted for."""

from loadtest._state cimport generator

# Take all that waits on the sockets. The datagrams taken; -1: errno in `error`.
cdef int receive_all(generator *g) noexcept nogil
