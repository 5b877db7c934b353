"""Sending a batch's answers with honest transmit stamps; see `_sending.pyx`."""

from libc.stdint cimport int64_t

from ntpd_fast._datapath cimport socket_state, worker_state

cdef int64_t clock_ns(int clock) noexcept nogil
cdef bint refresh_page(worker_state *common) noexcept nogil
cdef int send_answers(socket_state *state, int count) noexcept nogil
