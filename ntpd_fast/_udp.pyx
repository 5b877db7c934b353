"""Bodies of `_udp.pxd`: the only place of the data plane that makes system calls.

A turn is at most BATCHES_A_TURN receive calls and ends with a batch that is not full. In a batch all requests are
prepared first, then the clock is read once, then all answers are stamped and sent with one call. The stamp of each
answer is the clock's reading plus the learned time until the kernel takes that answer, so that a place late in the
batch does not make it lie. Everything runs without the GIL.
"""

import os
import select
import socket as socket_module

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t, UINT64_MAX
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from ntpd_fast._access cimport access_attach
from ntpd_fast._addr cimport FAMILY_IPV4, FAMILY_IPV6
from ntpd_fast._packet cimport (
    OUT_DROP_LENGTH, OUT_DROP_STALE, OUT_DROP_STEPPING, RES_AUTH, RES_CANDIDATE, RES_HIT, RES_INTERLEAVED,
    STAMP_DAEMON, STAMP_KERNEL, answered, map_cook, serve_answer, serve_batch, serve_context, serve_finish,
    serve_prepare, serve_request,
)
from ntpd_fast._random cimport RNG_SIZE, rng_fill
from ntpd_fast._region cimport (
    COUNT_BATCHES, COUNT_BATCH_FULL, COUNT_NTP_AUTH, COUNT_NTP_HITS, COUNT_NTP_INTERLEAVED, COUNT_RECV_ERRORS,
    COUNT_RX_DAEMON, COUNT_SEND_ERRORS, COUNT_TX_DAEMON, REF_STEPPING, TABLE_ACCESS, ControlRegion, WorkerRegion,
    control_region, nf_fence, nf_load_acquire, nf_store_release, ref_read, table_current, worker_region,
)

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *ts)
    int nanosleep(const timespec *request, timespec *left)
    int CLOCK_REALTIME, CLOCK_MONOTONIC

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLIN, EPOLLPRI

cdef extern from "<sys/socket.h>" nogil:
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    cmsghdr *CMSG_FIRSTHDR(msghdr *message)
    cmsghdr *CMSG_NXTHDR(msghdr *message, cmsghdr *previous)
    uint8_t *CMSG_DATA(cmsghdr *message)
    size_t CMSG_LEN(size_t length)
    size_t CMSG_SPACE(size_t length)
    int recvmmsg(int fd, mmsghdr *messages, unsigned int count, int flags, timespec *timeout)
    int sendmmsg(int fd, mmsghdr *messages, unsigned int count, int flags)
    int MSG_DONTWAIT, MSG_TRUNC, SOL_SOCKET, AF_INET, AF_INET6

cdef extern from "<netinet/in.h>" nogil:
    int IPPROTO_IP, IPPROTO_IPV6, IP_PKTINFO, IPV6_PKTINFO

cdef enum:
    SCM_TIMESTAMPING = 37
    PKTINFO4_SIZE = 12          # ifindex, local address, header destination
    PKTINFO6_SIZE = 20          # address, ifindex
    NAME4_SIZE = 16
    NAME6_SIZE = 28
    EVENTS = 16
    OTHERS_MAX = 16             # descriptors of Python's that one wait reports

cdef int64_t NS_PER_S = 1000000000LL
cdef int64_t STAMP_SANITY_NS = 1000000000LL     # kernel stamps further than this from the clock are not used
cdef int64_t HOLD_SLEEP_NS = 50000              # pause while the clock is being stepped
cdef double COST_LIMIT_NS = 50000.0             # longest cost believed: above it the process was preempted
cdef double COST_WEIGHT = 0.0625                # of a new measurement in the running mean
cdef double SEND_FRACTION = 0.5                 # place inside a message's send cost at which it leaves


cdef inline int64_t clock_ns(int clock) noexcept nogil:
    cdef timespec ts
    clock_gettime(clock, &ts)
    return <int64_t>ts.tv_sec * NS_PER_S + ts.tv_nsec


cdef inline void learn(double *cost, double measured) noexcept nogil:
    if 0.0 <= measured <= COST_LIMIT_NS:
        cost[0] += (measured - cost[0]) * COST_WEIGHT


cdef void refresh_tables(worker_state *common) noexcept nogil:
    """Adopt the current version of each table and tell control which one is read from now on."""
    cdef uint64_t version
    cdef const uint8_t *table
    while True:
        table = table_current(common.control, TABLE_ACCESS, &version)
        if version == common.access_version:
            return
        nf_store_release(&common.worker.used[TABLE_ACCESS], version)
        nf_fence()
        # Control may have moved on before it could see what we use; then the copy may be about to change.
        if nf_load_acquire(&common.control.tables[TABLE_ACCESS].current) == version:
            break
    common.access_version = version
    common.bad_access = table != NULL and not access_attach(table, common.control.tables[TABLE_ACCESS].capacity)
    if common.bad_access:
        common.serve.access = NULL
    else:
        common.serve.access = table


cdef inline bint refresh_page(worker_state *common) noexcept nogil:
    """Read the reference page if it changed; false while the clock is being stepped."""
    ref_read(&common.control.reference, &common.serve.page, &common.page_sequence)
    return not common.serve.page.flags & REF_STEPPING


cdef int64_t read_control(socket_state *state, int index, bint *have_info) noexcept nogil:
    """Take the receive stamp (raw ns, 0: none) out of a message and turn its packet info into the answer's."""
    cdef msghdr *message = &state.rx[index].msg_hdr
    cdef cmsghdr *item = CMSG_FIRSTHDR(message)
    cdef cmsghdr *out
    cdef timespec stamp
    cdef int64_t raw_ns = 0
    cdef uint8_t *data
    have_info[0] = False
    while item != NULL:
        if item.cmsg_level == SOL_SOCKET and item.cmsg_type == SCM_TIMESTAMPING:
            if item.cmsg_len >= CMSG_LEN(sizeof(timespec)):
                memcpy(&stamp, CMSG_DATA(item), sizeof(timespec))
                raw_ns = <int64_t>stamp.tv_sec * NS_PER_S + stamp.tv_nsec
        elif state.packet_info and item.cmsg_level == IPPROTO_IP and item.cmsg_type == IP_PKTINFO:
            # Answer from the local address that was asked, by whatever route: the interface stays open.
            out = <cmsghdr *>state.control_out[index]
            out.cmsg_len = CMSG_LEN(PKTINFO4_SIZE)
            out.cmsg_level = IPPROTO_IP
            out.cmsg_type = IP_PKTINFO
            data = CMSG_DATA(out)
            memset(data, 0, PKTINFO4_SIZE)
            memcpy(data + 4, CMSG_DATA(item) + 4, 4)
            have_info[0] = True
        elif state.packet_info and item.cmsg_level == IPPROTO_IPV6 and item.cmsg_type == IPV6_PKTINFO:
            out = <cmsghdr *>state.control_out[index]
            out.cmsg_len = CMSG_LEN(PKTINFO6_SIZE)
            out.cmsg_level = IPPROTO_IPV6
            out.cmsg_type = IPV6_PKTINFO
            data = CMSG_DATA(out)
            memcpy(data, CMSG_DATA(item), PKTINFO6_SIZE)
            if not (data[0] == 0xFE and data[1] & 0xC0 == 0x80):
                memset(data + 16, 0, 4)     # only a link-local address needs its interface
            if data[0] == 0xFF:
                have_info[0] = False        # asked by multicast: let the kernel choose the source
            else:
                have_info[0] = True
        item = CMSG_NXTHDR(message, item)
    return raw_ns


cdef int run_batch(socket_state *state) noexcept nogil:
    """Receive, answer and send one batch; the number of datagrams received, 0 when there was none."""
    cdef worker_state *common = state.common
    cdef serve_context *serve = &common.serve
    cdef uint64_t *counters = common.worker.counters
    cdef serve_request request
    cdef serve_answer *answer
    cdef msghdr *message
    cdef int64_t now_raw, now, rx_raw, clock_before, clock_mid, clock_after, tx_ns
    cdef int received, index, count = 0, sent, result, name_size
    cdef uint64_t sequence
    cdef double step_ns
    cdef bint info
    name_size = NAME4_SIZE if state.family == AF_INET else NAME6_SIZE

    if not refresh_page(common):
        return 0
    received = recvmmsg(state.fd, state.rx, BATCH, MSG_DONTWAIT, NULL)
    if received <= 0:
        if received < 0 and errno != EAGAIN and errno != EINTR:
            counters[COUNT_RECV_ERRORS] += 1
        state.distrust_rx = False
        return 0
    counters[COUNT_BATCHES] += 1
    if received == BATCH:
        counters[COUNT_BATCH_FULL] += 1
    if serve.page.step_count != common.step_count:
        # The clock was stepped: what waits in the queue may carry stamps of the old time.
        common.step_count = serve.page.step_count
        state.distrust_rx = True
    refresh_tables(common)
    rng_fill(&common.random, received * RANDOM_A_PACKET)
    now_raw = clock_ns(CLOCK_REALTIME)
    now = map_cook(&serve.page, now_raw)
    serve_batch(serve, now)

    for index in range(received):
        message = &state.rx[index].msg_hdr
        if message.msg_flags & MSG_TRUNC or message.msg_namelen < <socklen_t>name_size:
            counters[OUT_DROP_LENGTH] += 1
            continue
        rx_raw = read_control(state, index, &info)
        request.rx_source = STAMP_DAEMON
        request.rx_ns = now
        if rx_raw != 0 and not state.distrust_rx and -STAMP_SANITY_NS <= now_raw - rx_raw <= STAMP_SANITY_NS:
            if now_raw - rx_raw > common.stale_ns:
                counters[OUT_DROP_STALE] += 1
                continue
            request.rx_source = STAMP_KERNEL
            request.rx_ns = map_cook(&serve.page, rx_raw)
        request.data = state.data_in[index]
        request.length = state.rx[index].msg_len
        request.port = (<uint16_t>state.names[index][2] << 8) | state.names[index][3]
        if state.family == AF_INET:
            request.addr.family = FAMILY_IPV4
            memset(request.addr.bytes, 0, 16)
            memcpy(request.addr.bytes, &state.names[index][4], 4)
        else:
            request.addr.family = FAMILY_IPV6
            memcpy(request.addr.bytes, &state.names[index][8], 16)
        answer = &state.answers[count]
        answer.data = state.data_out[index]
        serve_prepare(serve, &request, answer)
        if answer.flags:
            if answer.flags & RES_HIT:
                counters[COUNT_NTP_HITS] += 1
            if answer.flags & RES_CANDIDATE:
                counters[COUNT_RX_DAEMON + request.rx_source] += 1
            if answer.flags & RES_AUTH:
                counters[COUNT_NTP_AUTH] += 1
            if answer.flags & RES_INTERLEAVED:
                counters[COUNT_NTP_INTERLEAVED] += 1
        if not answered(answer.outcome):
            counters[answer.outcome] += 1
            continue
        state.tx_data[count].iov_base = answer.data
        message = &state.tx[count].msg_hdr
        message.msg_name = state.names[index]
        message.msg_namelen = name_size
        if info:
            message.msg_control = state.control_out[index]
            message.msg_controllen = CMSG_SPACE(PKTINFO4_SIZE if state.family == AF_INET else PKTINFO6_SIZE)
        else:
            message.msg_control = NULL
            message.msg_controllen = 0
        count += 1
    # What the kernel shortened is made whole for the next call.
    for index in range(received):
        message = &state.rx[index].msg_hdr
        message.msg_namelen = NAME6_SIZE
        message.msg_controllen = CONTROL_IN
    if received < BATCH:
        state.distrust_rx = False
    if count == 0:
        return received

    clock_before = clock_ns(CLOCK_REALTIME)
    sequence = nf_load_acquire(&common.control.reference.sequence)
    if sequence != common.page_sequence:
        # The clock was changed during this batch. A slew moves both stamps together; after a step the receive
        # stamps and this reading are of two times: nobody is answered rather than answered wrong by the step.
        if not refresh_page(common) or serve.page.step_count != common.step_count:
            counters[OUT_DROP_STEPPING] += count
            return received
    now = map_cook(&serve.page, clock_before)
    if count == 1:
        tx_ns = <int64_t>(state.cost_finish + state.cost_single * SEND_FRACTION)
        step_ns = 0.0
    else:
        tx_ns = <int64_t>(state.cost_finish * count + state.cost_each * SEND_FRACTION)
        step_ns = state.cost_each
    sent = 0
    for index in range(count):
        answer = &state.answers[index]
        serve_finish(serve, answer, now + tx_ns + <int64_t>(step_ns * sent))
        counters[answer.outcome] += 1
        if answered(answer.outcome):
            if sent != index:
                state.tx[sent].msg_hdr = state.tx[index].msg_hdr
                state.tx[sent].msg_hdr.msg_iov = &state.tx_data[sent]
                state.tx_data[sent].iov_base = answer.data
            state.tx_data[sent].iov_len = answer.length
            sent += 1
    count = sent
    if count == 0:
        return received
    counters[COUNT_TX_DAEMON] += count
    clock_mid = clock_ns(CLOCK_REALTIME)
    sent = 0
    while sent < count:
        result = sendmmsg(state.fd, state.tx + sent, count - sent, MSG_DONTWAIT)
        if result > 0:
            sent += result
        elif errno != EINTR:
            if errno == EAGAIN:
                counters[COUNT_SEND_ERRORS] += count - sent     # no room: what is left would only get old
                break
            counters[COUNT_SEND_ERRORS] += 1
            sent += 1
    clock_after = clock_ns(CLOCK_REALTIME)
    learn(&state.cost_finish, <double>(clock_mid - clock_before) / count)
    if count == 1:
        learn(&state.cost_single, <double>(clock_after - clock_mid))
    else:
        learn(&state.cost_each, <double>(clock_after - clock_mid) / count)
    return received


cdef int run_turn(socket_state *state) noexcept nogil:
    """A socket's turn after it was readable; the number of datagrams taken."""
    cdef int total = 0, received, batch
    for batch in range(BATCHES_A_TURN):
        received = run_batch(state)
        total += received
        if received < BATCH:
            break
    return total


cdef int poll_turns(int epoll, worker_state *common, int64_t deadline_ns, int *others) noexcept nogil:
    """Serve until a descriptor of Python's is ready (their number; written to `others`), a signal came or the
    deadline passed (0). -1: the epoll set is broken."""
    cdef epoll_event events[16]
    cdef int64_t now
    cdef int64_t timeout_ms
    cdef int ready, index, found
    cdef timespec pause
    while True:
        now = clock_ns(CLOCK_MONOTONIC)
        nf_store_release(&common.worker.heartbeat_ns, <uint64_t>now)
        timeout_ms = 0 if deadline_ns <= now else (deadline_ns - now + 999999) // 1000000
        if timeout_ms > 60000:
            timeout_ms = 60000
        ready = epoll_wait(epoll, events, EVENTS, <int>timeout_ms)
        if ready < 0:
            return 0 if errno == EINTR else -1
        found = 0
        for index in range(ready):
            if events[index].data.u64 & 1:
                others[found] = <int>(events[index].data.u64 >> 1)
                found += 1
            else:
                run_turn(<socket_state *><uintptr_t>events[index].data.u64)
        if found:
            return found
        if deadline_ns <= now:
            return 0
        if common.serve.page.flags & REF_STEPPING and ready > 0:
            pause.tv_sec = 0
            pause.tv_nsec = HOLD_SLEEP_NS
            nanosleep(&pause, NULL)


cdef class WorkerCore:
    """What the sockets of one worker share; `stale_ns` is the age at which a queued request is dropped."""

    def __cinit__(self, ControlRegion control, WorkerRegion worker, int64_t stale_ns, int min_poll=-19):
        self.state = <worker_state *>calloc(1, sizeof(worker_state))
        if self.state == NULL:
            raise MemoryError
        if not worker.mapping.writable:
            raise ValueError("the worker's region is mapped read-only")
        self.control = control
        self.worker = worker
        self.state.control = control.region
        self.state.worker = worker.region
        self.state.page_sequence = UINT64_MAX
        self.state.serve.rng = &self.state.random
        self.state.serve.min_poll = min_poll
        self.state.stale_ns = stale_ns
        ref_read(&self.state.control.reference, &self.state.serve.page, &self.state.page_sequence)
        self.state.step_count = self.state.serve.page.step_count
        refresh_tables(self.state)

    def __dealloc__(self):
        free(self.state)

    def refresh(self):
        """Adopt the current tables now, also without traffic; false when the access table is unusable."""
        refresh_tables(self.state)
        return not self.state.bad_access

    def set_net_correction(self, bint enabled):
        """Answer extension field 0x010A (`ptpport`)."""
        self.state.serve.net_correction = enabled


cdef class ServerSocket:
    """One bound, non-blocking UDP socket; `packet_info` when it is bound to a wildcard address.

    The caller has set the options (receive stamps, packet info); this object only receives and sends. It keeps the
    Python socket alive.
    """

    def __cinit__(self, WorkerCore core, sock, bint packet_info):
        cdef int index
        self.core = core
        self.socket = sock
        self.state = <socket_state *>calloc(1, sizeof(socket_state))
        if self.state == NULL:
            raise MemoryError
        self.state.common = core.state
        self.state.fd = sock.fileno()
        self.state.family = AF_INET if sock.family == socket_module.AF_INET else AF_INET6
        self.state.packet_info = packet_info
        self.state.cost_finish = 50.0
        self.state.cost_single = 5000.0
        self.state.cost_each = 2000.0
        for index in range(BATCH):
            self.state.rx_data[index].iov_base = self.state.data_in[index]
            self.state.rx_data[index].iov_len = DATA_ROOM
            self.state.rx[index].msg_hdr.msg_name = self.state.names[index]
            self.state.rx[index].msg_hdr.msg_namelen = NAME6_SIZE
            self.state.rx[index].msg_hdr.msg_iov = &self.state.rx_data[index]
            self.state.rx[index].msg_hdr.msg_iovlen = 1
            self.state.rx[index].msg_hdr.msg_control = self.state.control_in[index]
            self.state.rx[index].msg_hdr.msg_controllen = CONTROL_IN
            self.state.tx[index].msg_hdr.msg_iov = &self.state.tx_data[index]
            self.state.tx[index].msg_hdr.msg_iovlen = 1

    def __dealloc__(self):
        free(self.state)

    def run_turn(self):
        """Serve what waits, at most BATCHES_A_TURN batches; the number of datagrams taken."""
        cdef int total
        with nogil:
            total = run_turn(self.state)
        return total

    def drain(self):
        """Throw away what waits in the error queue; the number of entries."""
        count = 0
        while True:
            try:
                self.socket.recvmsg(1, 1, socket_module.MSG_ERRQUEUE | socket_module.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                return count
            except OSError:
                return count
            count += 1

    @property
    def costs(self):
        """Learned cost of sending in ns: writing an answer, a lone message, each message of a batch."""
        return self.state.cost_finish, self.state.cost_single, self.state.cost_each


cdef class Poller:
    """Waits for server sockets and serves them in place; returns to Python only for what concerns Python."""

    def __cinit__(self):
        self.sockets = []
        self.others = {}
        self.epoll = -1

    def __init__(self):
        # The Python object owns the descriptor.
        self.others["epoll"] = select.epoll()
        self.epoll = self.others["epoll"].fileno()

    def fileno(self):
        """The epoll descriptor: readable when something waits (for an event loop around this one)."""
        return self.epoll

    def add_socket(self, ServerSocket sock):
        """Serve this socket from `wait`."""
        cdef epoll_event event
        event.events = EPOLLIN
        event.data.u64 = <uint64_t><uintptr_t>sock.state
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, sock.state.fd, &event) != 0:
            raise OSError(errno, os.strerror(errno))
        self.sockets.append(sock)

    def remove_socket(self, ServerSocket sock):
        """Stop serving this socket; what it has queued stays queued."""
        if epoll_ctl(self.epoll, EPOLL_CTL_DEL, sock.state.fd, NULL) != 0:
            raise OSError(errno, os.strerror(errno))
        self.sockets.remove(sock)

    def add_reader(self, int fd):
        """Have `wait` report this descriptor when it is readable."""
        cdef epoll_event event
        event.events = EPOLLIN
        event.data.u64 = (<uint64_t>fd << 1) | 1
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, fd, &event) != 0:
            raise OSError(errno, os.strerror(errno))

    def wait(self, WorkerCore core, double timeout_s):
        """Serve for at most `timeout_s`; the descriptors given to `add_reader` that are readable.

        Returns early, with nothing, when a signal came.
        """
        cdef int others[16]
        cdef int found, epoll = self.epoll
        cdef worker_state *state = core.state
        cdef int64_t deadline
        deadline = clock_ns(CLOCK_MONOTONIC) + <int64_t>(timeout_s * 1e9)
        with nogil:
            found = poll_turns(epoll, state, deadline, others)
        if found < 0:
            raise OSError("cannot wait for the server sockets")
        return [others[index] for index in range(found)]

    def close(self):
        """Close the epoll descriptor; the sockets stay open."""
        self.others["epoll"].close()
        self.sockets.clear()
