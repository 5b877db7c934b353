"""Transmit stamps: asked for by message or for all, and taken from the error queue."""

from libc.stdint cimport uint32_t, uint8_t

from ntpd_fast._datapath cimport mmsghdr, socket_state

cdef uint32_t ask_for_stamp(socket_state *state, mmsghdr *message, uint8_t *control, uint32_t used,
                            bint warm) noexcept nogil
cdef void ask_for_all(socket_state *state, bint on) noexcept nogil
cdef bint restart_ids(socket_state *state) noexcept nogil
cdef void without_ids(socket_state *state, int first, int count) noexcept nogil
cdef int read_stamps(socket_state *state) noexcept nogil
