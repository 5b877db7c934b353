"""System calls of the clock: adjtimex(2), and runs of readings fast enough to show a clock's precision.

Everything goes through libc symbols, so that an interposed library sees each call.
"""

from libc.errno cimport errno
from libc.stdint cimport int64_t
from libc.string cimport memset

cdef extern from "<sys/timex.h>" nogil:
    cdef struct timeval_t "timeval":
        long tv_sec
        long tv_usec
    cdef struct timex:
        unsigned int modes
        long offset
        long freq
        long maxerror
        long esterror
        int status
        long constant
        timeval_t time
        long tick
        int tai
    int c_adjtimex "adjtimex"(timex *buf)

cdef extern from "<time.h>" nogil:
    ctypedef long time_t
    ctypedef int clockid_t
    cdef struct timespec:
        time_t tv_sec
        long tv_nsec
    int clock_gettime(clockid_t clock, timespec *now)
    enum:
        CLOCK_REALTIME
        CLOCK_MONOTONIC_RAW

cdef enum:
    READINGS_MAX = 256


def adjtimex(request) -> int:
    """Make the call described by a `Timex` and write the kernel's answer into it.

    Returns the state of the clock (TIME_*). Raises OSError.
    """
    cdef timex buf
    cdef int state
    memset(&buf, 0, sizeof(buf))
    buf.modes = request.modes
    buf.offset = request.offset
    buf.freq = request.freq
    buf.maxerror = request.maxerror
    buf.esterror = request.esterror
    buf.status = request.status
    buf.constant = request.constant
    buf.time.tv_sec = request.time_sec
    buf.time.tv_usec = request.time_usec
    buf.tick = request.tick
    if request.modes & 0x80:  # ADJ_TAI takes its value from the constant
        buf.constant = request.tai
    with nogil:
        state = c_adjtimex(&buf)
    if state < 0:
        import os
        raise OSError(errno, os.strerror(errno), "adjtimex")
    request.offset = buf.offset
    request.freq = buf.freq
    request.maxerror = buf.maxerror
    request.esterror = buf.esterror
    request.status = buf.status
    request.constant = buf.constant
    request.time_sec = buf.time.tv_sec
    request.time_usec = buf.time.tv_usec
    request.tick = buf.tick
    request.tai = buf.tai
    return state


cdef list run_readings(clockid_t clock, int count, bint growing_work):
    cdef timespec stamps[READINGS_MAX]
    cdef int index
    cdef volatile int busy
    cdef int turn
    if not 0 < count <= READINGS_MAX:
        raise ValueError(f"{count} readings")
    with nogil:
        for index in range(count):
            if clock_gettime(clock, &stamps[index]) != 0:
                count = -1
                break
            if growing_work:
                busy = 0
                for turn in range(index):
                    busy = busy + turn
    if count < 0:
        import os
        raise OSError(errno, os.strerror(errno), "clock_gettime")
    return [<int64_t>stamps[index].tv_sec * 1000000000 + stamps[index].tv_nsec for index in range(count)]


def realtime_readings(int count) -> list[int]:
    """`count` (≤ 256) readings of the system clock in a row, ns. Raises OSError."""
    return run_readings(CLOCK_REALTIME, count, False)


def monotonic_raw_readings(int count) -> list[int]:
    """`count` (≤ 256) readings of CLOCK_MONOTONIC_RAW with growing work between them, ns. Raises OSError."""
    return run_readings(CLOCK_MONOTONIC_RAW, count, True)
