"""The data plane's system calls: batches of datagrams in, batches of answers out, one socket at a time."""

from ntpd_fast._datapath cimport socket_state, worker_state
from ntpd_fast._nts cimport KeyRing
from ntpd_fast._region cimport ControlRegion, WorkerRegion

cdef int run_batch(socket_state *state, bint waits) noexcept nogil
cdef int run_turn(socket_state *state) noexcept nogil


cdef class WorkerCore:
    """What the sockets of one worker share."""
    cdef worker_state *state
    cdef ControlRegion control
    cdef WorkerRegion worker
    cdef KeyRing ring


cdef class ServerSocket:
    """One NTP socket served by this process."""
    cdef socket_state *state
    cdef WorkerCore core
    cdef readonly object socket
