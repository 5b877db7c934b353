"""Connections of NTS key exchange, driven by one epoll set: thin glue over `_ntske.Session`.

Whatever has become possible is done in one call: accept, read, answer, close. In a process of its own this is the
waiting of the event loop itself (`wait`, called by `server/ntske_loop.py`), so that nothing of the loop runs for a
connection; in another's loop the set is one more descriptor to watch, and `turn` its callback.

Few system calls a key exchange are the point: TLS apart, they and the wake-ups between them are what it costs. So

- a connection is read as soon as it is accepted: when there is much to do, the client's hello is there already;
- while a client has nothing to say but its Finished, which its request follows, it does not wake us for that alone
  (SO_RCVLOWAT);
- the answer and the end of the stream leave in one packet;
- after that only the client's end wakes us.

Rules: no connection can hold up another; what the peer does wrong ends its connection and is counted. Deadlines, limits
and the log are the owner's (`server/ntske_server.py`): it is told by the methods it overrides.
"""

from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from ntpd_fast._addr cimport FAMILY_IPV4, FAMILY_IPV6, addr_from_packed, ntp_addr
from ntpd_fast._keadmission cimport ADMITTED, REFUSED_ACCESS, Admission
from ntpd_fast._ketable cimport NOBODY, SessionTable
from ntpd_fast._ntske cimport KE_OPEN, KE_REFUSED, KE_SERVED, Service, Session
from ntpd_fast._tls cimport buffer_clear, tls_buffer

cdef extern from "<unistd.h>" nogil:
    int c_close "close"(int fd)

cdef extern from "<time.h>" nogil:
    struct timespec:
        int64_t tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *now)

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    ctypedef unsigned short sa_family_t
    struct sockaddr:
        sa_family_t sa_family
    struct sockaddr_storage:
        sa_family_t ss_family
    int AF_INET6, SOCK_NONBLOCK, SOCK_CLOEXEC, MSG_NOSIGNAL, MSG_DONTWAIT, MSG_MORE, MSG_TRUNC
    int SHUT_WR, SOL_SOCKET, SO_RCVLOWAT
    int accept4(int fd, sockaddr *address, socklen_t *length, int flags)
    ssize_t c_recv "recv"(int fd, void *data, size_t size, int flags)
    ssize_t c_send "send"(int fd, const void *data, size_t size, int flags)
    int c_shutdown "shutdown"(int fd, int how)
    int setsockopt(int fd, int level, int name, const void *value, socklen_t size)

cdef extern from "<netinet/in.h>" nogil:
    struct in_addr:
        pass
    struct in6_addr:
        pass
    struct sockaddr_in:
        in_addr sin_addr
    struct sockaddr_in6:
        in6_addr sin6_addr

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL
    uint32_t EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLEXCLUSIVE
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int operation, int fd, epoll_event *event)
    int epoll_wait(int epoll, epoll_event *events, int count, int timeout_ms)

cdef enum:
    EVENTS_A_TURN = 64          # before others in the event loop get theirs
    ACCEPTS_A_TURN = 16         # of each listening socket
    RECEIVE_MAX = 16384
    DISCARD_MAX = 1 << 20       # bytes thrown away at the end of a connection: more than its buffer holds
    LISTENER = 0                # serial number of what is no connection
    TIMEOUT_S_MAX = 3600        # of one wait
    TIMEOUT_MS_MAX = 3600000


cdef double monotonic_s() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef class Connection:
    """One accepted socket. Its session is there from the first byte on."""

    cdef int fd
    cdef int place              # in the table
    cdef uint32_t serial
    cdef Session session
    cdef bint watched           # in the epoll set
    cdef uint32_t events        # as asked for there
    cdef bint patient           # SO_RCVLOWAT is set
    cdef bint closing           # the answer is out and our side is closed: all that can still come is the client's end


cdef class Connections:
    """All connections of a process, and the sockets they come from.

    table: places for sessions. admission: decides about addresses. cells: counters, each where `places` says by its
    name.
    """

    cdef readonly int fd        # of the epoll set: readable when there is something to do; −1: closed
    cdef bint _own              # it is ours, not the event loop's
    cdef bint _expiring         # somebody calls `expire`
    cdef bint _stirred          # the event loop has been given something to do
    cdef SessionTable _table
    cdef Admission _admission
    cdef Service _service
    cdef uint64_t[::1] _cells
    cdef list _by_place         # index: place in the table
    cdef list _by_fd            # index: descriptor; this object for a listening socket
    cdef uint32_t _serial
    cdef int _accepted, _sessions, _refused_access, _refused_rate, _refused_full
    cdef int _evicted, _timed_out, _accept_errors, _send_errors
    cdef int _outcomes[8]

    def __cinit__(self):
        self.fd = -1

    def __init__(self, Service service not None, SessionTable table not None, Admission admission not None,
                 uint64_t[::1] cells, places, outcomes):
        """outcomes: names of the counters of sessions' ends, in the order of their values."""
        self._service = service
        self._table = table
        self._admission = admission
        self._cells = cells
        self._by_place = []
        self._by_fd = []
        if max(places.values()) >= cells.shape[0] or len(outcomes) > 8:
            raise ValueError("no memory for all counters")
        for i, name in enumerate(outcomes):
            self._outcomes[i] = places[name]
        self._accepted = places["accepted"]
        self._sessions = places["sessions"]
        self._refused_access = places["refused_access"]
        self._refused_rate = places["refused_rate"]
        self._refused_full = places["refused_full"]
        self._evicted = places["evicted"]
        self._timed_out = places["timed_out"]
        self._accept_errors = places["accept_errors"]
        self._send_errors = places["send_errors"]

    def __dealloc__(self):
        if self.fd >= 0 and self._own:
            c_close(self.fd)

    def out_of_resources(self, error):
        """Whether an error of accept(2) means that there is no descriptor or memory for a newcomer.

        What waits to be accepted is reported again and again: the owner has to `deafen`.
        """
        raise NotImplementedError

    def first(self):
        """There is a session: `expire` has to be called, again and again until there is none."""
        raise NotImplementedError

    def ended(self, reason):
        """A session has ended without keys."""
        raise NotImplementedError

    def transient(self, number):
        """Whether an error of accept(2) means the connection it would have returned, not the listener."""
        raise NotImplementedError

    def open(self, int fd=-1) -> None:
        """Begin. fd: the epoll set of an event loop that calls `wait`; without it, a set of our own to be watched."""
        if self.fd >= 0:
            raise ValueError("open already")
        self._own = fd < 0
        self.fd = epoll_create1(EPOLL_CLOEXEC) if self._own else fd
        if self.fd < 0:
            PyErr_SetFromErrno(OSError)
        self._cells[self._sessions] = 0

    def close(self) -> None:
        """Drop all connections, and watch nothing any more. Listening sockets have to be taken out before."""
        while self._table._oldest != NOBODY:
            self.drop(self._by_place[self._table._oldest])
        if self.fd >= 0 and self._own:
            c_close(self.fd)
        self.fd = -1
        self._expiring = False

    def listen(self, int listener) -> None:
        """Accept from a listening socket that never blocks.

        Others may do the same with it: whoever waits directly (`wait`) is not woken for every connection of theirs.
        """
        self.control(EPOLL_CTL_ADD, listener, LISTENER, EPOLLIN if self._own else EPOLLIN | EPOLLEXCLUSIVE)
        enter(self._by_fd, listener, self)

    def deafen(self, int listener) -> None:
        """Accept no more from it."""
        self._by_fd[listener] = None
        self.control(EPOLL_CTL_DEL, listener, LISTENER, 0)

    def expire(self, double age_s) -> float | None:
        """Drop what is older than that; seconds until the next is, None when there is none.

        Sessions all live equally long, so the oldest is always the next to expire: one timer for all.
        """
        cdef Connection connection
        cdef double left
        while self._table._oldest != NOBODY:
            left = self._table._place[self._table._oldest].since + age_s - monotonic_s()
            if left > 0:
                return left
            connection = self._by_place[self._table._oldest]
            if connection.session is None or connection.session.ended == KE_OPEN:
                self._cells[self._timed_out] += 1
            self.drop(connection)
        self._expiring = False
        return None

    def turn(self) -> None:
        """Do what is possible now, with a set of our own."""
        cdef epoll_event events[EVENTS_A_TURN]
        cdef int i
        cdef int count = epoll_wait(self.fd, events, EVENTS_A_TURN, 0)
        for i in range(count):
            if self.fd < 0:
                return
            self.dispatch(&events[i])

    def wait(self, double timeout_s) -> list[tuple[int, int]]:
        """Do what becomes possible, until that time (negative: for ever) or until the event loop has something to do.

        (descriptor, events) of what else is in its set. A signal ends the waiting too.
        """
        cdef epoll_event events[EVENTS_A_TURN]
        cdef double deadline = monotonic_s() + timeout_s
        cdef double left = timeout_s
        cdef int timeout_ms, count, i
        cdef list others = []
        self._stirred = False
        while True:
            # rounded up: to wake too early is to wake twice
            timeout_ms = -1 if timeout_s < 0 else <int>(left * 1e3 + 0.999) if left < TIMEOUT_S_MAX else TIMEOUT_MS_MAX
            with nogil:
                count = epoll_wait(self.fd, events, EVENTS_A_TURN, timeout_ms)
            if count < 0:
                if errno != EINTR:
                    PyErr_SetFromErrno(OSError)
                return others
            for i in range(count):
                if not self.dispatch(&events[i]):
                    others.append((<uint32_t>events[i].data.u64, events[i].events))
            if timeout_s >= 0:
                left = deadline - monotonic_s()
            if others or self._stirred or count == 0 or left <= 0 and timeout_s >= 0:
                return others

    cdef int dispatch(self, const epoll_event *event) except -1:
        """Whether it is an event of ours, which then has been dealt with."""
        # what is not ours says nothing in its upper half that we could rely on
        cdef int fd = <int>(event.data.u64 & 0x7FFFFFFF)
        cdef uint32_t serial = <uint32_t>(event.data.u64 >> 32)
        cdef object whose = self._by_fd[fd] if fd < len(self._by_fd) else None
        cdef Connection connection
        if whose is self:
            self.accept(fd)
            return 1
        if whose is None:
            # what came before in this turn may have closed it
            return self._own
        connection = whose
        # … and others may have taken its descriptor
        if connection.serial == serial:
            self.ready(connection, event.events)
        return 1

    cdef bint control(self, int operation, int fd, uint32_t serial, uint32_t events) except False:
        cdef epoll_event event
        memset(&event, 0, sizeof(event))
        event.events = events
        event.data.u64 = <uint64_t>serial << 32 | <uint32_t>fd
        if epoll_ctl(self.fd, operation, fd, &event) < 0:
            PyErr_SetFromErrno(OSError)
        return True

    cdef bint watch(self, Connection connection, uint32_t events) except False:
        if connection.events != events or not connection.watched:
            self.control(EPOLL_CTL_MOD if connection.watched else EPOLL_CTL_ADD, connection.fd, connection.serial,
                         events)
            connection.watched = True
            connection.events = events
        return True

    cdef bint accept(self, int listener) except False:
        cdef sockaddr_storage address
        cdef socklen_t length
        cdef ntp_addr peer
        cdef int fd, i
        for i in range(ACCEPTS_A_TURN):
            length = sizeof(address)
            address.ss_family = 0
            fd = accept4(listener, <sockaddr *>&address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd >= 0:
                memset(&peer, 0, sizeof(peer))
                if address.ss_family == AF_INET6:
                    peer.family = FAMILY_IPV6
                    memcpy(peer.bytes, &(<sockaddr_in6 *>&address).sin6_addr, 16)
                else:
                    peer.family = FAMILY_IPV4
                    memcpy(peer.bytes, &(<sockaddr_in *>&address).sin_addr, 4)
                self.admit(fd, &peer)
            elif errno == EAGAIN:
                break
            else:
                try:
                    PyErr_SetFromErrno(OSError)
                except OSError as error:
                    if not self.failed(error):
                        break
        return True

    cdef bint failed(self, error) except -1:
        """Whether to go on accepting."""
        if self.out_of_resources(error):
            self._stirred = True
            return False
        self._cells[self._accept_errors] += 1
        if not self.transient(error.errno):
            raise error
        return True

    cdef bint admit(self, int fd, const ntp_addr *address) except False:
        cdef Connection connection
        cdef uint64_t prefix = prefix_number(address)
        cdef int refusal = self._admission.decide(address)
        cdef int victim
        if refusal != ADMITTED:
            self._cells[self._refused_access if refusal == REFUSED_ACCESS else self._refused_rate] += 1
            c_close(fd)
            return True
        self._cells[self._accepted] += 1
        if self._table._count >= self._table._places:
            victim = self._table.victim(prefix)
            if victim == NOBODY:
                self._cells[self._refused_full] += 1
                c_close(fd)
                return True
            self._cells[self._evicted] += 1
            self.drop(self._by_place[victim])
        connection = Connection.__new__(Connection)
        connection.fd = fd
        self._serial = self._serial + 1 if self._serial != <uint32_t>0xFFFFFFFF else LISTENER + 1
        connection.serial = self._serial
        connection.place = self._table.take(prefix, monotonic_s())
        enter(self._by_fd, fd, connection)
        enter(self._by_place, connection.place, connection)
        self._cells[self._sessions] = self._table._count
        if not self._expiring:
            self._expiring = self._stirred = True
            self.first()
        self.receive(connection)
        if connection.fd >= 0:
            self.watch(connection, connection.events or EPOLLIN)
        return True

    cdef bint ready(self, Connection connection, uint32_t events) except False:
        if connection.closing:
            # The end of the stream or an error: nothing else is asked for. What came before it is of no interest, but
            # closing over it would reset the connection, and may cost the client the answer.
            c_recv(connection.fd, NULL, DISCARD_MAX, MSG_DONTWAIT | MSG_TRUNC)
            self.drop(connection)
        elif connection.events & EPOLLOUT:
            self.send(connection)
        else:
            self.receive(connection)
        return True

    cdef bint receive(self, Connection connection) except False:
        cdef uint8_t data[RECEIVE_MAX]
        cdef Session session
        cdef ssize_t got = c_recv(connection.fd, data, RECEIVE_MAX, MSG_DONTWAIT)
        if got < 0:
            if errno == EAGAIN or errno == EINTR:
                return True
            # the stream is broken: as if the client had hung up
            got = 0
        session = connection.session
        if session is None:
            session = connection.session = Session(self._service)
        session.take(data, got)
        if session.ended != KE_OPEN:
            self._cells[self._outcomes[session.ended]] += 1
            if session._reason:
                self.ended(session._reason)
        return self.send(connection)

    cdef bint send(self, Connection connection) except False:
        """Send what there is, and see what comes then."""
        cdef Session session = connection.session
        cdef tls_buffer *outgoing = &session.tls.outgoing
        cdef size_t size = outgoing.end - outgoing.start
        cdef bint answered = session.ended == KE_SERVED or session.ended == KE_REFUSED
        cdef ssize_t sent
        if size:
            # the end of the stream goes with the answer
            sent = c_send(connection.fd, outgoing.data + outgoing.start, size,
                          MSG_NOSIGNAL | MSG_DONTWAIT | (MSG_MORE if answered else 0))
            if sent < 0:
                if errno != EAGAIN and errno != EINTR:
                    self._cells[self._send_errors] += 1
                    self.drop(connection)
                    return True
                sent = 0
            outgoing.start += sent
            if <size_t>sent < size:
                # a client that does not read gets nothing more to answer
                return self.watch(connection, EPOLLOUT)
            buffer_clear(outgoing)
        if session.ended == KE_OPEN:
            self.set_patience(connection, session.awaited() if size else 0)
            return self.watch(connection, EPOLLIN) if connection.watched else True
        if not answered:
            self.drop(connection)
            return True
        # Close our side and wait for the client's: closing over unread bytes resets, and may cost the answer.
        if c_shutdown(connection.fd, SHUT_WR) < 0:
            self.drop(connection)
            return True
        connection.closing = True
        return self.watch(connection, EPOLLRDHUP)

    cdef void set_patience(self, Connection connection, size_t least):
        """Be woken by no fewer bytes than this, unless the stream ends."""
        cdef int value = <int>least if least else 1
        if connection.patient != (least != 0):
            # if it fails we are woken more often
            if setsockopt(connection.fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof(value)) == 0:
                connection.patient = least != 0

    cdef bint drop(self, Connection connection) except False:
        # nobody else has the descriptor: closed, it leaves the epoll set by itself
        c_close(connection.fd)
        self._by_fd[connection.fd] = None
        self._by_place[connection.place] = None
        connection.fd = -1
        self._table.leave(connection.place)
        self._cells[self._sessions] = self._table._count
        return True


cdef bint enter(list table, int index, object what) except False:
    while index >= len(table):
        table.append(None)
    table[index] = what
    return True


cdef uint64_t prefix_number(const ntp_addr *address) noexcept nogil:
    cdef uint64_t number = address.family
    cdef int i
    for i in range(3 if address.family == FAMILY_IPV4 else 6):
        number = number << 8 | address.bytes[i]
    return number


def prefix_of(bytes address not None) -> int:
    """What counts as one network when places are shared out, as a number: an IPv4 /24, an IPv6 /48.

    `address` is packed.
    """
    cdef ntp_addr addr
    addr_from_packed(&addr, address)
    return prefix_number(&addr)
