"""Who may connect to the NTS-KE server: see the .pyx."""

from libc.stdint cimport uint32_t, uint64_t

from ntpd_fast._addr cimport ntp_addr
from ntpd_fast._clientlog cimport ClientLogWriter
from ntpd_fast._region cimport ControlRegion

cdef enum:
    ADMITTED = 0
    REFUSED_ACCESS = 1
    REFUSED_RATE = 2


cdef class Admission:
    """Everybody is welcome."""
    # About an accepted connection, once: ADMITTED or why not.
    cdef int decide(self, const ntp_addr *address) except -1


cdef class SharedAdmission(Admission):
    """The rules of the running daemon."""
    cdef ControlRegion _region
    cdef ClientLogWriter _clients
    cdef object _ntp_time
    cdef uint32_t _base
    cdef uint64_t _version      # of `_table`
    cdef bytes _table           # None: nobody is allowed

    cdef bint follow(self) except False
