"""Bodies of `_udp.pxd`: receive a batch, let the core decide, hand the answers to `_sending`.

A turn is at most BATCHES_A_TURN receive calls and ends with a batch that is not full. Everything runs without the GIL.
"""

import os
import socket as socket_module

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, UINT64_MAX
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from ntpd_fast._access cimport access_attach
from ntpd_fast._auth cimport auth_attach
from ntpd_fast._addr cimport FAMILY_IPV4, FAMILY_IPV6
from ntpd_fast._clientlog cimport (
    CLIENTLOG_WAYS, SERVICE_NTP, clientlog_attach, clientlog_follow, clientlog_set_limit, clientlog_set_reset,
)
from ntpd_fast._datapath cimport (
    BATCH, BATCHES_A_TURN, CHANNEL_MAGIC, CONTROL_ERR, CONTROL_IN, DATA_ROOM, RANDOM_A_PACKET, SATURATED,
    SATURATED_MAX, TX_COUNTER, TX_IDS, TX_NONE, channel_message, cmsghdr, mmsghdr, msghdr, socklen_t, socket_state, worker_state,
)
from ntpd_fast._forecast cimport WARM, forecast_start, send_model
from ntpd_fast._nts cimport KeyRing, nts_keys_refresh
from ntpd_fast._packet cimport (
    OUT_CONTROL, OUT_DROP_FORMAT, OUT_DROP_LENGTH, OUT_DROP_STALE, OUT_DROP_STEPPING, OUT_SIGND, RES_AUTH, RES_CANDIDATE,
    RES_HIT, RES_INTERLEAVED, STAMP_DAEMON, STAMP_KERNEL, answered, map_cook, peer_table, peers_check, serve_answer,
    serve_batch, serve_context, serve_finish, serve_prefetch, serve_prefetch_records, serve_prepare, serve_request,
)
from ntpd_fast._ptp cimport PTP_PREFIX, ptp_unwrap
from ntpd_fast._random cimport rng_fill
from ntpd_fast._region cimport (
    COUNT_BATCHES, COUNT_BATCH_FULL, COUNT_CONTROL_FULL, COUNT_CONTROL_SENT, COUNT_KERNEL_DROPS, COUNT_NTP_AUTH,
    COUNT_NTP_HITS, COUNT_NTP_INTERLEAVED, COUNT_RECV_ERRORS, COUNT_RX_DAEMON, COUNT_SIGND_FULL, COUNT_TX_DAEMON,
    REF_STEPPING, SERVING_MAGIC, TABLE_ACCESS, TABLE_COUNT, TABLE_KEYS, TABLE_PEERS, TABLE_SERVING, ControlRegion,
    WorkerRegion, nf_fence, nf_load_acquire, nf_store_release, serving_options, table_current,
)
from ntpd_fast._sending cimport clock_ns, refresh_page, send_answers
from ntpd_fast._socket cimport (
    CMSG_DATA, CMSG_FIRSTHDR, CMSG_LEN, CMSG_NXTHDR, recvmmsg, sockaddr, timespec,
)
from ntpd_fast._stamps cimport read_stamps, restart_ids
from ntpd_fast._tsmap cimport tsmap_attach, tsmap_repair

cdef extern from "<time.h>" nogil:
    int CLOCK_REALTIME

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
    int PR_SET_TIMERSLACK

cdef extern from "<sys/time.h>" nogil:
    struct timeval:
        long tv_sec
        long tv_usec

cdef extern from "<sys/socket.h>" nogil:
    ssize_t send(int fd, const void *data, size_t size, int flags)
    ssize_t sendto(int fd, const void *data, size_t size, int flags, const sockaddr *address, socklen_t length)
    int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
    int getsockopt(int fd, int level, int name, void *value, socklen_t *size)
    int MSG_DONTWAIT, MSG_TRUNC, MSG_WAITFORONE, SOL_SOCKET, SO_RCVTIMEO, AF_INET, AF_INET6

cdef extern from "<netinet/in.h>" nogil:
    int IPPROTO_IP, IPPROTO_IPV6, IP_PKTINFO, IPV6_PKTINFO

# <asm/socket.h> and <linux/net_tstamp.h>; the newest are not in every header
cdef enum:
    SO_TIMESTAMP = 29
    SO_TIMESTAMPNS = 35
    SO_TIMESTAMPING = 37
    SO_SELECT_ERR_QUEUE = 45
    SO_MEMINFO = 55
    MEMINFO_DROPS = 8           # index of the count of datagrams that found no room
    MEMINFO_FIELDS = 9
    PKTINFO4_SIZE = 12          # ifindex, local address, header destination
    PKTINFO6_SIZE = 20          # address, ifindex
    NAME4_SIZE = 16
    NAME6_SIZE = 28

cdef long WAIT_US = 1000                        # the kernel rounds it up to a tick
cdef int64_t NS_PER_S = 1000000000LL
cdef int64_t STAMP_AHEAD_NS = 1000000000LL      # kernel stamps further than this in the future are not used
cdef int64_t STAMP_AGE_NS = 3600000000000LL     # nor older ones: no request waits so long, they are of another clock


cdef bint adopt_table(worker_state *common, int which, const uint8_t *table) noexcept nogil:
    """Check a new version of a table and use it; false, and the table before it is given up, when it is damaged."""
    cdef uint64_t capacity = common.control.tables[which].capacity
    cdef const serving_options *options
    if which == TABLE_ACCESS:
        common.serve.access = NULL
        if not access_attach(table, capacity):
            return False
        common.serve.access = table
    elif which == TABLE_PEERS:
        common.serve.peers = NULL
        if not peers_check(table, capacity):
            return False
        common.serve.peers = <const peer_table *>table
    elif which == TABLE_KEYS:
        common.serve.keys = NULL
        if not auth_attach(table, capacity):
            return False
        common.serve.keys = table
    elif which == TABLE_SERVING:
        options = <const serving_options *>table
        if capacity < sizeof(serving_options) or options.magic != SERVING_MAGIC:
            return False
        common.serve.net_correction = options.net_correction != 0
        common.serve.signd = options.signd != 0
        clientlog_set_limit(&common.serve.log, SERVICE_NTP, options.limit_enabled != 0, options.limit_interval,
                            options.limit_burst, options.limit_leak, options.limit_kod)
        common.serve.min_poll = <int8_t>options.limit_interval if options.limit_enabled else -19
    return True


cdef void refresh_tables(worker_state *common) noexcept nogil:
    """Adopt the current version of each table and tell control which ones are read from now on."""
    cdef uint64_t version
    cdef const uint8_t *table
    cdef int which
    for which in range(TABLE_COUNT):
        version = nf_load_acquire(&common.control.tables[which].current)
        if version == common.versions[which] or version == 0:
            continue
        while True:
            table = table_current(common.control, which, &version)
            nf_store_release(&common.worker.used[which], version)
            nf_fence()
            # Control may have moved on before it could see what we use; then the copy may be about to change.
            if nf_load_acquire(&common.control.tables[which].current) == version:
                break
        common.versions[which] = version
        if not adopt_table(common, which, table):
            common.bad_table = True
    clientlog_set_reset(&common.serve.log, nf_load_acquire(&common.control.log_reset), common.log_base)
    if common.ring != NULL:
        nts_keys_refresh(&common.serve.nts, common.ring)


cdef int64_t read_control(socket_state *state, int index, channel_message *route) noexcept nogil:
    """Take the receive stamp (raw ns, 0: none) out of a message and turn its packet info into the answer's.

    `route` takes the local address and the interface for a packet that goes to control; NULL when nobody asks.
    """
    cdef msghdr *message = &state.rx[index].msg_hdr
    cdef cmsghdr *item = CMSG_FIRSTHDR(message)
    cdef cmsghdr *out
    cdef timespec stamp
    cdef int64_t raw_ns = 0
    cdef uint8_t *data
    state.info_length[index] = 0
    while item != NULL:
        if item.cmsg_level == SOL_SOCKET:
            if item.cmsg_type == SO_TIMESTAMPING or item.cmsg_type == SO_TIMESTAMPNS:
                if item.cmsg_len >= CMSG_LEN(sizeof(timespec)):
                    memcpy(&stamp, CMSG_DATA(item), sizeof(timespec))
                    if stamp.tv_sec != 0:
                        raw_ns = <int64_t>stamp.tv_sec * NS_PER_S + stamp.tv_nsec
            elif item.cmsg_type == SO_TIMESTAMP and item.cmsg_len >= CMSG_LEN(sizeof(timespec)):
                memcpy(&stamp, CMSG_DATA(item), sizeof(timespec))       # a timeval has the same layout, in µs
                raw_ns = <int64_t>stamp.tv_sec * NS_PER_S + stamp.tv_nsec * 1000
        elif item.cmsg_level == IPPROTO_IP and item.cmsg_type == IP_PKTINFO:
            if state.packet_info:
                # Answer from the local address that was asked, by whatever route: the interface stays open.
                out = <cmsghdr *>state.control_out[index]
                out.cmsg_len = CMSG_LEN(PKTINFO4_SIZE)
                out.cmsg_level = IPPROTO_IP
                out.cmsg_type = IP_PKTINFO
                data = CMSG_DATA(out)
                memset(data, 0, PKTINFO4_SIZE)
                memcpy(data + 4, CMSG_DATA(item) + 4, 4)
                state.info_length[index] = <uint8_t>CMSG_LEN(PKTINFO4_SIZE)
            if route != NULL:
                memcpy(&route.interface, CMSG_DATA(item), 4)
                memcpy(route.local, CMSG_DATA(item) + 4, 4)
        elif item.cmsg_level == IPPROTO_IPV6 and item.cmsg_type == IPV6_PKTINFO:
            data = CMSG_DATA(item)
            if state.packet_info and data[0] != 0xFF:   # asked by multicast: the kernel chooses the source
                out = <cmsghdr *>state.control_out[index]
                out.cmsg_len = CMSG_LEN(PKTINFO6_SIZE)
                out.cmsg_level = IPPROTO_IPV6
                out.cmsg_type = IPV6_PKTINFO
                memcpy(CMSG_DATA(out), data, PKTINFO6_SIZE)
                if not (data[0] == 0xFE and data[1] & 0xC0 == 0x80):
                    memset(CMSG_DATA(out) + 16, 0, 4)   # only a link-local address needs its interface
                state.info_length[index] = <uint8_t>CMSG_LEN(PKTINFO6_SIZE)
            if route != NULL:
                memcpy(route.local, data, 16)
                memcpy(&route.interface, data + 16, 4)
        item = CMSG_NXTHDR(message, item)
    return raw_ns


cdef void to_control(socket_state *state, int index, const serve_request *request, const serve_answer *answer,
                     int64_t raw_ns) noexcept nogil:
    """Hand a packet to control: as received, or (OUT_SIGND) the answer that is to be signed."""
    cdef worker_state *common = state.common
    cdef uint8_t buffer[1280]
    cdef channel_message *message = <channel_message *>buffer
    cdef const uint8_t *data = request.data
    cdef uint32_t length = request.length
    memset(message, 0, sizeof(channel_message))
    memcpy(message.local, state.bound, 16)
    read_control(state, index, message)
    if answer.outcome == OUT_SIGND:
        data = answer.data
        length = answer.length
    message.magic = CHANNEL_MAGIC
    message.outcome = answer.outcome
    message.family = request.addr.family
    message.key_id = answer.key_id
    message.port = request.port
    message.length = <uint16_t>length
    message.rx_source = request.rx_source
    message.rx_raw_ns = raw_ns
    memcpy(message.remote, request.addr.bytes, 16)
    memcpy(buffer + sizeof(channel_message), data, length)
    if common.channel >= 0 and send(common.channel, buffer, sizeof(channel_message) + length, MSG_DONTWAIT) >= 0:
        common.worker.counters[COUNT_CONTROL_SENT] += 1
    else:
        common.worker.counters[COUNT_SIGND_FULL if answer.outcome == OUT_SIGND else COUNT_CONTROL_FULL] += 1


cdef void count_facts(uint64_t *counters, const serve_request *request, const serve_answer *answer) noexcept nogil:
    if answer.flags & RES_HIT:
        counters[COUNT_NTP_HITS] += 1
        if answer.flags & RES_CANDIDATE:
            counters[COUNT_RX_DAEMON + request.rx_source] += 1
        if answer.flags & RES_AUTH:
            counters[COUNT_NTP_AUTH] += 1
        if answer.flags & RES_INTERLEAVED:
            counters[COUNT_NTP_INTERLEAVED] += 1


cdef bint is_probe(const worker_state *common, const serve_request *request) noexcept nogil:
    """Whether the daemon itself asks if we answer: with bytes that only it knows."""
    return request.length == sizeof(common.control.probe) and (
        memcmp(request.data, common.control.probe, sizeof(common.control.probe)) == 0
    )


cdef int prepare_batch(socket_state *state, int received, int64_t now_raw) noexcept nogil:
    """Turn the received datagrams into answers without transmit stamps; the number of answers to send."""
    cdef worker_state *common = state.common
    cdef serve_context *serve = &common.serve
    cdef uint64_t *counters = common.worker.counters
    cdef serve_request *request
    cdef serve_answer *answer
    cdef msghdr *message
    cdef int64_t rx_raw, now = map_cook(&serve.page, now_raw)
    cdef int64_t raw_of[64]
    cdef int index, slot, usable = 0, count = 0
    cdef uint32_t name_size = NAME4_SIZE if state.family == AF_INET else NAME6_SIZE
    common.kernel_rx = False
    # First pass: who asks, and their records on the way into the cache.
    for index in range(received):
        message = &state.rx[index].msg_hdr
        if message.msg_flags & MSG_TRUNC or message.msg_namelen < name_size:
            counters[OUT_DROP_LENGTH] += 1
            continue
        rx_raw = read_control(state, index, NULL)
        request = &state.requests[usable]
        request.rx_source = STAMP_DAEMON
        request.rx_ns = now
        if rx_raw != 0 and not state.distrust_rx and -STAMP_AHEAD_NS <= now_raw - rx_raw <= STAMP_AGE_NS:
            if now_raw - rx_raw > common.stale_ns:
                counters[OUT_DROP_STALE] += 1
                continue
            request.rx_source = STAMP_KERNEL
            common.kernel_rx = True
            request.rx_ns = map_cook(&serve.page, rx_raw)
        else:
            rx_raw = now_raw
        raw_of[usable] = rx_raw
        request.data = state.data_in[index]
        request.length = state.rx[index].msg_len
        if state.ptp:
            if not ptp_unwrap(request.data, request.length, state.ptp_domain):
                counters[OUT_DROP_FORMAT] += 1
                continue
            request.data += PTP_PREFIX
            request.length -= PTP_PREFIX
        request.port = (<uint16_t>state.names[index][2] << 8) | state.names[index][3]
        if state.family == AF_INET:
            request.addr.family = FAMILY_IPV4
            memset(request.addr.bytes, 0, 16)
            memcpy(request.addr.bytes, &state.names[index][4], 4)
        else:
            request.addr.family = FAMILY_IPV6
            memcpy(request.addr.bytes, &state.names[index][8], 16)
        serve_prefetch(serve, request)
        state.slots[usable] = index
        usable += 1
    for index in range(usable):
        serve_prefetch_records(serve, &state.requests[index])
    # Second pass: the gates.
    for index in range(usable):
        request = &state.requests[index]
        slot = state.slots[index]
        answer = &state.answers[count]
        answer.data = state.data_out[slot] + PTP_PREFIX     # room for a prefix, used or not
        answer.nts = &common.nts[count]
        serve_prepare(serve, request, answer)
        count_facts(counters, request, answer)
        if not answered(answer.outcome):
            if answer.outcome == OUT_DROP_LENGTH and is_probe(common, request):
                sendto(state.fd, request.data, request.length, MSG_DONTWAIT,
                       <const sockaddr *>state.names[slot], name_size)
                continue
            counters[answer.outcome] += 1
            if answer.outcome == OUT_SIGND:
                serve_finish(serve, answer, now)
                if answer.outcome == OUT_SIGND:
                    counters[COUNT_TX_DAEMON] += 1
                    to_control(state, slot, request, answer, raw_of[index])
            elif answer.outcome == OUT_CONTROL:
                to_control(state, slot, request, answer, raw_of[index])
            continue
        state.slots[count] = slot
        count += 1
    return count


cdef int run_batch(socket_state *state, bint waits) noexcept nogil:
    """Receive, answer and send one batch; the number of datagrams received, 0 when there was none.

    `waits`: for the first datagram, as long as the socket's SO_RCVTIMEO says, and unless a signal comes.
    """
    cdef worker_state *common = state.common
    cdef serve_context *serve = &common.serve
    cdef uint64_t *counters = common.worker.counters
    cdef int64_t now_raw
    cdef int received, index, count
    if not refresh_page(common):
        return 0
    received = recvmmsg(state.fd, state.rx, BATCH, MSG_WAITFORONE if waits else MSG_DONTWAIT, NULL)
    if received <= 0:
        if received < 0:
            if errno == EINTR:
                common.interrupted = True
            elif errno != EAGAIN:
                counters[COUNT_RECV_ERRORS] += 1
        state.distrust_rx = False
        state.filled = False
        return 0
    counters[COUNT_BATCHES] += 1
    if received == BATCH:
        counters[COUNT_BATCH_FULL] += 1
    state.woken = not state.filled
    state.filled = received == BATCH
    if not state.filled:
        state.full_batches >>= 1
    elif state.full_batches < SATURATED_MAX:
        state.full_batches += 1
    if waits:
        state.waited += 1
        refresh_page(common)
    if serve.page.step_count != common.step_count:
        # The clock was stepped: what waits in the queue may carry stamps of the old time.
        common.step_count = serve.page.step_count
        state.distrust_rx = True
    refresh_tables(common)
    if state.stamps_due:
        read_stamps(state)      # those of the batch before, with one call, and in time for who asks again
    rng_fill(&common.random, received * RANDOM_A_PACKET)
    now_raw = clock_ns(CLOCK_REALTIME)
    serve_batch(serve, map_cook(&serve.page, now_raw))
    count = prepare_batch(state, received, now_raw)
    # What the kernel shortened is made whole for the next call.
    for index in range(received):
        state.rx[index].msg_hdr.msg_namelen = NAME6_SIZE
        state.rx[index].msg_hdr.msg_controllen = CONTROL_IN
    if received < BATCH:
        state.distrust_rx = False
    if serve.page.flags & REF_STEPPING:
        counters[OUT_DROP_STEPPING] += count        # the stepping began while this call waited
        return received
    counters[OUT_DROP_STEPPING] += send_answers(state, count)
    return received


cdef int run_turn(socket_state *state) noexcept nogil:
    """A socket's turn after it was readable; the number of datagrams taken."""
    cdef int total = 0, received, batch
    for batch in range(BATCHES_A_TURN):
        received = run_batch(state, False)
        total += received
        if received < BATCH:
            break
    return total


cdef class WorkerCore:
    """What the sockets of one worker share.

    `stale_ns`: age at which a queued request is dropped. `ring`: server keys of NTS, None without NTS. `channel`:
    non-blocking datagram socket to control for packets that are control's, -1 without one.
    """

    def __cinit__(self, ControlRegion control, WorkerRegion worker, int64_t stale_ns, KeyRing ring=None,
                  int channel=-1):
        self.state = <worker_state *>calloc(1, sizeof(worker_state))
        if self.state == NULL:
            raise MemoryError
        if not worker.mapping.writable:
            raise ValueError("the worker's region is mapped read-only")
        self.control = control
        self.worker = worker
        self.ring = ring
        self.state.control = control.region
        self.state.worker = worker.region
        self.state.channel = channel
        if ring is not None:
            self.state.ring = ring.ring
        self.state.page_sequence = UINT64_MAX
        self.state.serve.rng = &self.state.random
        self.state.serve.min_poll = -19
        self.state.stale_ns = stale_ns
        self.state.gap_ns = 1e6
        if not clientlog_attach(&self.state.serve.log, part(worker, worker.region.log_offset), worker.region.log_size):
            raise ValueError("the worker's client log is damaged")
        if not tsmap_attach(&self.state.serve.map, part(worker, worker.region.map_offset), worker.region.map_size):
            raise ValueError("the worker's timestamp map is damaged")
        tsmap_repair(&self.state.serve.map)
        self.state.log_base = worker.region.index * self.state.serve.log.block_max * CLIENTLOG_WAYS
        refresh_page(self.state)
        self.state.step_count = self.state.serve.page.step_count
        refresh_tables(self.state)

    def __dealloc__(self):
        free(self.state)

    @staticmethod
    def sharpen_timers():
        """Have this process's short sleeps end when they should (the kernel adds 50 µs otherwise)."""
        if prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0) != 0:
            raise OSError(errno, os.strerror(errno))

    def follow_log(self):
        """Client log and timestamp map were laid out anew, in another size."""
        clientlog_follow(&self.state.serve.log)
        if self.state.serve.map.header != NULL:
            self.state.serve.map.capacity = self.state.serve.map.header.capacity

    def refresh(self):
        """Adopt the current tables now, also without traffic; false when one of them is unusable."""
        self.state.bad_table = False
        refresh_tables(self.state)
        return not self.state.bad_table


cdef uint32_t kernel_drops(int fd) noexcept nogil:
    """Datagrams that found no room in a socket's buffer so far; 0 from a kernel that does not tell.

    Asked for now and then: SO_RXQ_OVFL would have the kernel tell it with every datagram once one was lost.
    """
    cdef uint32_t fields[9]
    cdef socklen_t size = sizeof(fields)
    if getsockopt(fd, SOL_SOCKET, SO_MEMINFO, fields, &size) != 0 or size < sizeof(fields):
        return 0
    return fields[MEMINFO_DROPS]


cdef void *part(WorkerRegion worker, uint64_t offset):
    """An address inside a worker's region; NULL for offset 0."""
    return NULL if offset == 0 else <void *>(worker.mapping.address + offset)


TX_MODES = {"none": TX_NONE, "ids": TX_IDS, "counter": TX_COUNTER}


cdef class ServerSocket:
    """One bound, non-blocking UDP socket; `packet_info` when it is bound to a wildcard address.

    The caller has set packet info and receive stamps; `tx_mode` says how transmit stamps are asked for (a key of
    TX_MODES; ids falls back to counter, and either to none, by what the kernel does). `ptp_domain` >= 0: NTP over PTP in
    that domain. Keeps the Python socket alive.
    """

    def __cinit__(self, WorkerCore core, sock, bint packet_info, tx_mode="ids", int ptp_domain=-1):
        cdef int index, one = 1
        cdef bytes bound
        self.core = core
        self.socket = sock
        self.state = <socket_state *>calloc(1, sizeof(socket_state))
        if self.state == NULL:
            raise MemoryError
        self.state.common = core.state
        self.state.fd = sock.fileno()
        self.state.family = AF_INET if sock.family == socket_module.AF_INET else AF_INET6
        self.state.packet_info = packet_info
        self.state.ptp = ptp_domain >= 0
        self.state.ptp_domain = ptp_domain if ptp_domain >= 0 else 0
        forecast_start(&self.state.model)
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
            self.state.err_data[index].iov_base = self.state.err_in[index]
            self.state.err_data[index].iov_len = 192
            self.state.err[index].msg_hdr.msg_iov = &self.state.err_data[index]
            self.state.err[index].msg_hdr.msg_iovlen = 1
            self.state.err[index].msg_hdr.msg_control = self.state.err_control[index]
            self.state.err[index].msg_hdr.msg_controllen = CONTROL_ERR
        self.state.tx_mode = TX_MODES[tx_mode]
        if not packet_info:
            # What it is bound to is known: spare the kernel the telling of it with each datagram.
            bound = socket_module.inet_pton(sock.family, sock.getsockname()[0].partition("%")[0])
            memcpy(self.state.bound, <const char *>bound, len(bound))
            if sock.family == socket_module.AF_INET:
                sock.setsockopt(IPPROTO_IP, IP_PKTINFO, 0)
            else:
                sock.setsockopt(IPPROTO_IPV6, socket_module.IPV6_RECVPKTINFO, 0)
        self.state.kernel_drops = kernel_drops(self.state.fd)
        if self.state.tx_mode != TX_NONE:
            setsockopt(self.state.fd, SOL_SOCKET, SO_SELECT_ERR_QUEUE, &one, sizeof(one))
            restart_ids(self.state)

    def __dealloc__(self):
        free(self.state)

    def run_turn(self):
        """Serve what waits, at most BATCHES_A_TURN batches; the number of datagrams taken."""
        cdef int total
        with nogil:
            total = run_turn(self.state)
            if self.state.stamps_due:
                read_stamps(self.state)
        return total

    def may_wait(self):
        """Let receive calls wait for this socket, WAIT_US at most. Calls that are not to wait say so themselves.

        For a process that is alone in receiving from it: the flag belongs to the open file.
        """
        cdef timeval wait
        wait.tv_sec = 0
        wait.tv_usec = WAIT_US
        if setsockopt(self.state.fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) != 0:
            raise OSError(errno, os.strerror(errno))
        os.set_blocking(self.state.fd, True)
        self.state.may_wait = True

    def count_drops(self):
        """Add what found no room in the receive buffer since the last call to the worker's counters."""
        cdef uint32_t dropped = kernel_drops(self.state.fd)
        self.state.common.worker.counters[COUNT_KERNEL_DROPS] += <uint32_t>(dropped - self.state.kernel_drops)
        self.state.kernel_drops = dropped

    @property
    def waited(self):
        """Receive calls that waited for this socket alone and got something."""
        return self.state.waited

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
    def tx_mode(self):
        """How transmit stamps are asked for now (a key of TX_MODES)."""
        return [name for name, value in TX_MODES.items() if value == self.state.tx_mode][0]

    @property
    def model(self):
        """Learned times in ns: writing one answer; until a lone message leaves that is the first after a wake-up, or a
        later one; until the first of several leaves, and from one of several to the next, once the caches are warm."""
        cdef send_model *model = &self.state.model
        return model.write, model.lone[0], model.lone[WARM], model.first[WARM], model.unit[WARM] * model.tilt[WARM]

    @property
    def saturated(self):
        """Whether batches have been full for long enough to be sent in large calls."""
        return self.state.full_batches > SATURATED
