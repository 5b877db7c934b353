"""Bodies of `_polling.pxd`: serve whatever comes, without the GIL, until something concerns Python.

Usually the process waits in poll(2) and serves what is readable. While requests come to one socket only, and fast, it
waits in that socket's receive call instead, which spares a system call a wake-up, and looks after the others every
CHECK_NS. Where requests are dense it pauses a moment after a batch, so that one wake-up serves several. Poll rather
than epoll, because an epoll set is told about every transmit stamp at the moment the message leaves, between the
kernel's stamp and the wire.
"""

import select

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free

from ntpd_fast._datapath cimport socket_state, worker_state
from ntpd_fast._region cimport REF_STEPPING, nf_store_release
from ntpd_fast._sending cimport clock_ns
from ntpd_fast._stamps cimport read_stamps
from ntpd_fast._udp cimport ServerSocket, WorkerCore, run_batch, run_turn

cdef extern from "<poll.h>" nogil:
    int poll(pollfd *fds, unsigned long count, int timeout_ms)
    int POLLIN, POLLPRI, POLLERR, POLLNVAL

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int nanosleep(const timespec *request, timespec *left)
    int CLOCK_MONOTONIC

cdef enum:
    OTHERS_MAX = 16             # descriptors of Python's that one wait reports
    HOT_TURNS = 16              # turns of one socket alone before it is waited for directly
    WAIT_MAX_MS = 60000

cdef int64_t HOLD_SLEEP_NS = 50000              # pause while the clock is being stepped
# Gathering: with requests closer than GATHER_GAP_NS, wait for about GATHER of them, at most GATHER_MAX_NS. To wake up is
# the dearest part of an answer. Their receive stamps are the kernel's, so only the answer comes later, and its stamp
# says so.
cdef double GATHER_GAP_NS = 50000.0
cdef double GATHER = 24.0
cdef double GATHER_MAX_NS = 150000.0
cdef int GATHERED = 32                          # a batch with so many needs no waiting
cdef double GAP_WEIGHT = 0.125
cdef double GAP_MAX_NS = 1000000.0              # a silence counts as no more, so that it is soon forgotten
cdef int64_t HOT_GAP_NS = 500000                # mean time between these turns at most
cdef int64_t CHECK_NS = 500000                  # how long the other descriptors may wait meanwhile


cdef void gather(worker_state *common, int received, int64_t now) noexcept nogil:
    """After a batch or turn: under load, leave the next requests the time to become one."""
    cdef double gap
    cdef timespec pause
    if received <= 0:
        return
    gap = <double>(now - common.last_turn_ns) / received
    common.last_turn_ns = now
    if gap > GAP_MAX_NS:
        gap = GAP_MAX_NS
    common.gap_ns += (gap - common.gap_ns) * GAP_WEIGHT
    if received < GATHERED and common.kernel_rx and common.gap_ns < GATHER_GAP_NS:
        gap = common.gap_ns * GATHER
        pause.tv_sec = 0
        pause.tv_nsec = <long>(GATHER_MAX_NS if gap > GATHER_MAX_NS else gap)
        nanosleep(&pause, NULL)


cdef inline int64_t beat(worker_state *common) noexcept nogil:
    """Tell that this process lives; the monotonic time in ns."""
    cdef int64_t now = clock_ns(CLOCK_MONOTONIC)
    nf_store_release(&common.worker.heartbeat_ns, <uint64_t>now)
    return now


cdef void stay_on(poll_set *set, int hot, worker_state *common, int64_t deadline_ns) noexcept nogil:
    """Serve one socket, waiting in its receive call, until it falls silent or something else has to be done."""
    cdef socket_state *state = set.states[hot]
    cdef int64_t now, next_check = clock_ns(CLOCK_MONOTONIC) + CHECK_NS
    cdef int index, received
    while True:
        received = run_batch(state, True)
        if received <= 0:
            return
        now = beat(common)
        gather(common, received, now)
        if now >= deadline_ns or common.serve.page.flags & REF_STEPPING:
            return
        if now < next_check:
            continue
        next_check = now + CHECK_NS
        if poll(set.fds, set.count, 0) <= 0:
            continue
        for index in range(set.count):
            if set.fds[index].revents and index != hot:
                return
        if set.fds[hot].revents & (POLLERR | POLLPRI):
            read_stamps(state)


cdef int serve_until(poll_set *set, worker_state *common, int64_t deadline_ns, int *others) noexcept nogil:
    """Serve until a descriptor of Python's is ready (their number; written to `others`), a signal came or the
    deadline passed (0). -1: the descriptors cannot be polled."""
    cdef int64_t now, timeout_ms, since = 0
    cdef int ready, index, found, busy, last, received
    cdef timespec pause
    common.interrupted = False
    while True:
        now = beat(common)
        timeout_ms = 0 if deadline_ns <= now else (deadline_ns - now + 999999) // 1000000
        if timeout_ms > WAIT_MAX_MS:
            timeout_ms = WAIT_MAX_MS
        ready = poll(set.fds, set.count, <int>timeout_ms)
        if ready < 0:
            return 0 if errno == EINTR else -1
        found = 0
        busy = 0
        received = 0
        last = -1
        for index in range(set.count if ready > 0 else 0):
            if set.fds[index].revents == 0:
                continue
            if set.states[index] == NULL:
                if found < OTHERS_MAX:
                    others[found] = set.fds[index].fd
                    found += 1
                continue
            if set.fds[index].revents & POLLNVAL:
                return -1
            if set.fds[index].revents & (POLLERR | POLLPRI):
                read_stamps(set.states[index])
            if set.fds[index].revents & POLLIN:
                received += run_turn(set.states[index])
                busy += 1
                last = index
            if set.states[index].stamps_due:
                read_stamps(set.states[index])      # before the next wait: they would end it at once
        if found:
            return found
        if deadline_ns <= now:
            return 0
        if common.serve.page.flags & REF_STEPPING and ready > 0:
            pause.tv_sec = 0
            pause.tv_nsec = HOLD_SLEEP_NS
            nanosleep(&pause, NULL)
            continue
        gather(common, received, now)
        if busy != 1 or last != set.hot or now - since > HOT_TURNS * HOT_GAP_NS:
            set.hot = last
            set.streak = 0
            since = now
            continue
        set.streak += 1
        if set.streak >= HOT_TURNS and set.states[last].may_wait:
            stay_on(set, last, common, deadline_ns)
            if set.states[last].stamps_due:
                read_stamps(set.states[last])
            set.streak = 0
            if common.interrupted:
                return 0


cdef class Poller:
    """Waits for server sockets and serves them in place; returns to Python only for what concerns Python."""

    def __cinit__(self):
        self.set = <poll_set *>calloc(1, sizeof(poll_set))
        if self.set == NULL:
            raise MemoryError
        self.set.hot = -1
        self.sockets = []
        self.epoll = None

    def __dealloc__(self):
        free(self.set)

    def fileno(self):
        """An epoll descriptor that is readable when something waits (for an event loop around this one)."""
        if self.epoll is None:
            self.epoll = select.epoll()
            for index in range(self.set.count):
                self.epoll.register(self.set.fds[index].fd, self.set.fds[index].events)
        return self.epoll.fileno()

    cdef add(self, int fd, short events, socket_state *state):
        if self.set.count == POLLED_MAX:
            raise ValueError(f"more than {POLLED_MAX} descriptors to wait for")
        if self.epoll is not None:
            self.epoll.register(fd, events)
        self.set.fds[self.set.count].fd = fd
        self.set.fds[self.set.count].events = events
        self.set.states[self.set.count] = state
        self.set.count += 1

    def add_socket(self, ServerSocket sock):
        """Serve this socket from `wait`. ValueError when there are too many."""
        self.add(sock.state.fd, <short>(POLLIN | POLLPRI), sock.state)
        self.sockets.append(sock)

    def remove_socket(self, ServerSocket sock):
        """Stop serving this socket; what it has queued stays queued."""
        cdef int index
        self.sockets.remove(sock)
        if self.epoll is not None:
            self.epoll.unregister(sock.state.fd)
        for index in range(self.set.count):
            if self.set.states[index] == sock.state:
                self.set.count -= 1
                self.set.fds[index] = self.set.fds[self.set.count]
                self.set.states[index] = self.set.states[self.set.count]
                break
        self.set.hot = -1

    def add_reader(self, int fd):
        """Have `wait` report this descriptor when it is readable. ValueError when there are too many."""
        self.add(fd, <short>POLLIN, NULL)

    def wait(self, WorkerCore core, double timeout_s):
        """Serve for at most `timeout_s`; the descriptors given to `add_reader` that are readable.

        Returns early, with nothing, when a signal came.
        """
        cdef int others[16]
        cdef int found
        cdef int64_t deadline = clock_ns(CLOCK_MONOTONIC) + <int64_t>(timeout_s * 1e9)
        with nogil:
            found = serve_until(self.set, core.state, deadline, others)
        if found < 0:
            raise OSError(errno, "cannot wait for the server sockets")
        return [others[index] for index in range(found)]

    def close(self):
        """Wait for nothing any more; the sockets stay open."""
        self.set.count = 0
        self.sockets.clear()
        if self.epoll is not None:
            self.epoll.close()
            self.epoll = None
