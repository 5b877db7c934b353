"""Transmit stamps: asked for by message, taken from the error queue, and what they teach about sending."""

from libc.stdint cimport uint32_t, uint8_t

from ntpd_fast._datapath cimport mmsghdr, send_model, socket_state

cdef void learn(double *cost, double measured, double weight) noexcept nogil
cdef double lesson_weight(const send_model *model, int stage) noexcept nogil
cdef void lesson_given(send_model *model, int stage) noexcept nogil
cdef uint32_t ask_for_stamp(socket_state *state, mmsghdr *message, uint8_t *control, uint32_t used,
                            bint warm) noexcept nogil
cdef void ask_for_all(socket_state *state, bint on) noexcept nogil
cdef bint restart_ids(socket_state *state) noexcept nogil
cdef void without_ids(socket_state *state, int first, int count) noexcept nogil
cdef int read_stamps(socket_state *state) noexcept nogil
