"""The loop of the load generator: sends what is due and checks what came back, on one core without the GIL.

Rules: nothing is allocated while it runs; every answer is either matched to an outstanding request or
counted under the reason why not; time is read from the clocks only here, and everything that can be computed
from arguments (nonces, schedule, buckets) is a function of its own with a Python face for the tests.
It assumes the answers' clock and its own are the same machine's; only `latency` means anything otherwise.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EINTR, ENOBUFS, errno
from libc.math cimport log
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

cdef extern from "<sys/socket.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        void *msg_name
        unsigned int msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    struct sockaddr:
        pass
    cmsghdr *CMSG_FIRSTHDR(msghdr *message)
    cmsghdr *CMSG_NXTHDR(msghdr *message, cmsghdr *control)
    unsigned char *CMSG_DATA(cmsghdr *control)
    size_t CMSG_LEN(size_t length)
    size_t CMSG_SPACE(size_t length)
    int sendmmsg(int fd, mmsghdr *messages, unsigned int count, int flags)
    int recvmmsg(int fd, mmsghdr *messages, unsigned int count, int flags, void *timeout)
    enum: AF_INET, AF_INET6, SOL_SOCKET, MSG_DONTWAIT, MSG_TRUNC

cdef extern from "<netinet/in.h>" nogil:
    struct in_addr:
        uint32_t s_addr
    struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    struct in6_addr:
        uint8_t s6_addr[16]
    struct sockaddr_in6:
        uint16_t sin6_family
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id
    struct in_pktinfo:
        int ipi_ifindex
        in_addr ipi_spec_dst
        in_addr ipi_addr
    struct in6_pktinfo:
        in6_addr ipi6_addr
        unsigned int ipi6_ifindex
    enum: IPPROTO_IP, IPPROTO_IPV6, IP_PKTINFO, IPV6_PKTINFO
    uint16_t htons(uint16_t value)
    uint32_t htonl(uint32_t value)
    uint32_t ntohl(uint32_t value)

cdef extern from "<netinet/udp.h>" nogil:
    enum: SOL_UDP, UDP_SEGMENT

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int count, int timeout_ms)
    enum: EPOLLIN, EPOLL_CTL_ADD, EPOLL_CLOEXEC

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, unsigned long value)
    enum: PR_SET_TIMERSLACK

cdef extern from "<time.h>" nogil:
    ctypedef long time_t
    struct timespec:
        time_t tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *value)
    int nanosleep(const timespec *wanted, timespec *left)
    enum: CLOCK_REALTIME, CLOCK_MONOTONIC

cdef extern from "<unistd.h>" nogil:
    int close(int fd)

cdef extern from *:
    """
    /* SO_TIMESTAMPING's control message carries this option's own number; glibc hides it behind a macro. */
    #define LOADTEST_SCM_TIMESTAMPING 37
    """
    enum: SCM_TIMESTAMPING "LOADTEST_SCM_TIMESTAMPING"

cdef enum:
    SLICE_NS = 20000000         # how long the loop may go without looking at signals
    NAP_NS = 200000             # longest sleep while answers are outstanding
    IDLE_NAP_NS = 5000000
    LOOK_NS = 20000             # how often a loop that does not sleep looks for answers
    NTP_UNIX_OFFSET = 2208988800
    ORDER_SLACK = 4296          # 1 µs in NTP64 units: timestamps carry random bits below the precision
    TX_AFTER_RX_NS = 1000000    # an interleaved TX stamp may lie so much after our own RX stamp
    SAMPLE_EVERY = 256          # answers

COUNTER_NAMES = (
    "sent", "answered", "lost", "late", "duplicate", "unknown", "foreign", "wrong_length", "wrong_mode",
    "kod", "unsynchronised", "disordered", "interleaved", "eligible", "eligible_answered",
    "eligible_interleaved", "repeated", "bad_interleaved", "unverified", "skipped", "blocked", "unstamped",
)
globals().update(
    BATCH=BATCH, BUCKETS=BUCKETS, REQUEST_MAX=REQUEST_MAX, SEGMENTS_MAX=SEGMENTS_MAX, CLIENTS_MAX=CLIENTS_MAX
)
_HISTOGRAMS = {"latency": 0, "tx_error": 1, "request_delay": 2}

cdef uint64_t MULTIPLIER = 0x9E3779B97F4A7C15U
cdef uint64_t INVERSE = 0xF1DE83E19937733DU    # of MULTIPLIER modulo 2^64


cdef inline uint64_t make_nonce(uint64_t sequence, uint64_t kind, uint64_t seed) noexcept nogil:
    return (((sequence << 1) | kind) * MULTIPLIER) ^ seed


cdef inline uint64_t open_nonce(uint64_t value, uint64_t seed) noexcept nogil:
    """sequence << 1 | kind"""
    return (value ^ seed) * INVERSE


cdef inline uint64_t next_random(uint64_t *state) noexcept nogil:
    """splitmix64"""
    cdef uint64_t z
    state[0] += MULTIPLIER
    z = state[0]
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9U
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EBU
    return z ^ (z >> 31)


cdef inline uint32_t bucket_index(uint64_t magnitude) noexcept nogil:
    """Exact below 32; above, 32 equal buckets between each two powers of two."""
    cdef uint32_t exponent
    if magnitude < 32:
        return <uint32_t>magnitude
    exponent = 63 - <uint32_t>__builtin_clzll(magnitude)
    if exponent > 41:
        return BUCKETS - 1
    return ((exponent - 4) << 5) + <uint32_t>(magnitude >> (exponent - 5)) - 32


cdef extern from *:
    int __builtin_clzll(unsigned long long value) nogil


cdef inline void record(histogram *h, int64_t value) noexcept nogil:
    if value >= 0:
        h.counts[0][bucket_index(<uint64_t>value)] += 1
    else:
        h.counts[1][bucket_index(<uint64_t>(-value))] += 1
        h.negative_sum += value
    h.count += 1
    h.sum += value
    if value < h.minimum:
        h.minimum = value
    if value > h.maximum:
        h.maximum = value


cdef void clear(histogram *h) noexcept nogil:
    memset(h, 0, sizeof(histogram))
    h.minimum = INT64_MAX
    h.maximum = INT64_MIN


cdef inline int64_t clock_ns(int clock) noexcept nogil:
    cdef timespec now
    clock_gettime(clock, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec


cdef inline uint64_t load64(const uint8_t *p) noexcept nogil:
    """A timestamp in host order."""
    cdef uint32_t high, low
    memcpy(&high, p, 4)
    memcpy(&low, p + 4, 4)
    return (<uint64_t>ntohl(high) << 32) | ntohl(low)


cdef inline int64_t unix_ns(uint64_t ntp64) noexcept nogil:
    """NTP64 → ns since 1970, for dates from 1970 to 2106."""
    cdef uint32_t seconds = <uint32_t>(ntp64 >> 32) - <uint32_t>NTP_UNIX_OFFSET
    return <int64_t>seconds * 1000000000 + <int64_t>(((ntp64 & 0xFFFFFFFFU) * 1000000000U) >> 32)


cdef inline void pacer_advance(pacer *p) noexcept nogil:
    if p.poisson:
        p.next_ns -= log((<double>(next_random(&p.random) >> 11) + 1.0) / 9007199254740992.0) * p.gap_ns
    else:
        p.next_ns += p.gap_ns


cdef inline uint64_t pacer_catch_up(pacer *p, double now_ns) noexcept nogil:
    """Bursts given up because the schedule lies too far behind `now_ns`; the schedule goes on from now."""
    cdef uint64_t skipped
    if p.gap_ns <= 0.0 or now_ns - p.next_ns <= p.lag_ns:
        return 0
    skipped = <uint64_t>((now_ns - p.next_ns) / p.gap_ns)
    p.next_ns += <double>skipped * p.gap_ns
    return skipped


cdef inline uint32_t pacer_due(pacer *p, double now_ns, uint32_t limit) noexcept nogil:
    """Bursts due by `now_ns`, at most `limit`; they count as taken."""
    cdef uint32_t due = 0
    while due < limit and p.next_ns <= now_ns:
        pacer_advance(p)
        due += 1
    return due


ctypedef struct generator:
    # what was given
    int fds[1024]
    uint32_t fd_count
    int epoll
    uint8_t server[28]          # sockaddr_in or sockaddr_in6
    uint32_t server_size
    int family
    uint64_t base[2]            # host order: high and low half
    bint sourced
    uint32_t client_count
    uint32_t shift
    uint8_t header
    uint32_t answer_size
    bint interleaved
    const uint8_t *bank
    uint64_t bank_mask
    uint32_t request_size
    bint stamps
    uint32_t segments
    uint64_t seed
    # what goes on
    slot *ring
    uint64_t ring_mask
    client *clients
    uint64_t head               # next sequence number
    uint64_t tail               # oldest that may be outstanding
    uint64_t outstanding
    uint32_t turn               # next client
    uint32_t socket_turn
    int64_t timeout_ns
    uint64_t counters[22]
    histogram histograms[3]
    uint8_t samples[64][1280]
    uint32_t sample_sizes[64]
    uint64_t sample_sequences[64]
    uint64_t sample_count
    int error                   # errno that ended the loop
    # messages
    uint8_t *out                # BATCH × segments × 48, fresh requests
    mmsghdr send_messages[64]
    iovec send_iov[64]
    uint8_t send_control[64][128]
    mmsghdr recv_messages[64]
    iovec recv_iov[64]
    uint8_t recv_control[64][128]
    uint8_t recv_names[64][28]
    uint8_t recv_data[64][1280]


cdef inline void bump(generator *g, int which) noexcept nogil:
    g.counters[which] += 1


cdef void lay_out(generator *g) noexcept nogil:
    """Everything in the message headers that stays the same from batch to batch."""
    cdef int i
    cdef uint32_t j
    cdef msghdr *m
    cdef cmsghdr *c
    cdef uint16_t size = <uint16_t>g.request_size
    cdef uint8_t *request
    for i in range(BATCH):
        m = &g.send_messages[i].msg_hdr
        m.msg_name = g.server
        m.msg_namelen = g.server_size
        m.msg_iov = &g.send_iov[i]
        m.msg_iovlen = 1
        g.send_iov[i].iov_base = g.out + <size_t>i * g.segments * 48
        g.send_iov[i].iov_len = <size_t>g.segments * g.request_size
        m.msg_control = g.send_control[i]
        m.msg_controllen = CONTROL_ROOM
        c = CMSG_FIRSTHDR(m)
        m.msg_controllen = 0
        if g.sourced:
            if g.family == AF_INET:
                c.cmsg_level = IPPROTO_IP
                c.cmsg_type = IP_PKTINFO
                c.cmsg_len = CMSG_LEN(sizeof(in_pktinfo))
                m.msg_controllen += CMSG_SPACE(sizeof(in_pktinfo))
            else:
                c.cmsg_level = IPPROTO_IPV6
                c.cmsg_type = IPV6_PKTINFO
                c.cmsg_len = CMSG_LEN(sizeof(in6_pktinfo))
                m.msg_controllen += CMSG_SPACE(sizeof(in6_pktinfo))
            c = <cmsghdr *>(g.send_control[i] + m.msg_controllen)
        if g.segments > 1:
            c.cmsg_level = SOL_UDP
            c.cmsg_type = UDP_SEGMENT
            c.cmsg_len = CMSG_LEN(sizeof(size))
            memcpy(CMSG_DATA(c), &size, sizeof(size))
            m.msg_controllen += CMSG_SPACE(sizeof(size))
        if m.msg_controllen == 0:
            m.msg_control = NULL
        if g.bank == NULL:
            for j in range(g.segments):
                request = g.out + (<size_t>i * g.segments + j) * 48
                request[0] = g.header
                request[3] = 0x20       # precision 32: no information, as clients that hide their time send
        m = &g.recv_messages[i].msg_hdr
        m.msg_name = g.recv_names[i]
        m.msg_iov = &g.recv_iov[i]
        m.msg_iovlen = 1
        g.recv_iov[i].iov_base = g.recv_data[i]
        g.recv_iov[i].iov_len = ANSWER_ROOM


cdef inline void set_source(generator *g, uint32_t i, uint32_t number) noexcept nogil:
    """Give message `i` the address of client `number`."""
    cdef in_pktinfo info4
    cdef in6_pktinfo info6
    cdef uint64_t high = g.base[0], low = g.base[1], add
    cdef uint32_t part
    cdef void *data = g.send_control[i] + CMSG_LEN(0)
    if g.family == AF_INET:
        memset(&info4, 0, sizeof(info4))
        info4.ipi_spec_dst.s_addr = htonl(<uint32_t>low + (number << g.shift))
        memcpy(data, &info4, sizeof(info4))
        return
    memset(&info6, 0, sizeof(info6))
    if g.shift >= 64:
        high += <uint64_t>number << (g.shift - 64)
    else:
        add = <uint64_t>number << g.shift
        if g.shift > 40:
            high += <uint64_t>number >> (64 - g.shift)
        if low + add < low:
            high += 1
        low += add
    part = htonl(<uint32_t>(high >> 32))
    memcpy(&info6.ipi6_addr.s6_addr[0], &part, 4)
    part = htonl(<uint32_t>high)
    memcpy(&info6.ipi6_addr.s6_addr[4], &part, 4)
    part = htonl(<uint32_t>(low >> 32))
    memcpy(&info6.ipi6_addr.s6_addr[8], &part, 4)
    part = htonl(<uint32_t>low)
    memcpy(&info6.ipi6_addr.s6_addr[12], &part, 4)
    memcpy(data, &info6, sizeof(info6))


cdef inline void give_up_oldest(generator *g) noexcept nogil:
    """Move the tail over one request; it is lost when it still waits."""
    cdef slot *s = &g.ring[g.tail & g.ring_mask]
    if s.state == SLOT_WAITING:
        s.state = SLOT_EXPIRED
        g.outstanding -= 1
        bump(g, LOST)
    g.tail += 1


cdef void expire(generator *g, int64_t now_ns) noexcept nogil:
    """Give up what has waited longer than the timeout."""
    cdef slot *s
    while g.tail < g.head:
        s = &g.ring[g.tail & g.ring_mask]
        if s.state == SLOT_WAITING and now_ns - s.sent_ns < g.timeout_ns:
            return
        give_up_oldest(g)


cdef void write_request(
    generator *g, uint32_t i, uint32_t segment, uint32_t number, int64_t now_ns
) noexcept nogil:
    """Fill one fresh request, or take it from the bank, and note it as outstanding under the next number."""
    cdef uint64_t sequence = g.head
    cdef slot *s
    cdef client *k
    cdef uint8_t *p
    cdef uint64_t value
    if sequence - g.tail > g.ring_mask:
        give_up_oldest(g)
    s = &g.ring[sequence & g.ring_mask]
    s.sequence = sequence
    s.origin = 0
    s.sent_ns = now_ns
    s.client = number
    s.state = SLOT_WAITING
    s.eligible = 0
    g.head += 1
    g.outstanding += 1
    if g.bank != NULL:
        if segment == 0:
            g.send_iov[i].iov_base = <void *>(g.bank + (sequence & g.bank_mask) * g.request_size)
        return
    p = g.out + (<size_t>i * g.segments + segment) * 48
    if g.interleaved:
        k = &g.clients[number]
        s.origin = k.last_rx
        memcpy(p + 24, &k.last_rx, 8)
        value = 0
        if k.last_rx != 0:
            value = make_nonce(sequence, 1, g.seed)
            s.eligible = k.saved and not k.used
            k.used = 1
        memcpy(p + 32, &value, 8)
    value = make_nonce(sequence, 0, g.seed)
    memcpy(p + 40, &value, 8)


cdef int send_batch(generator *g, uint32_t count) noexcept nogil:
    """Send `count` messages; what the kernel does not take is withdrawn. -1: errno in `error`."""
    cdef uint32_t i, j, number
    cdef uint64_t first = g.head, kept, sequence
    cdef uint32_t first_turn = g.turn
    cdef int64_t now_ns = clock_ns(CLOCK_REALTIME)
    cdef slot *s
    cdef int done
    for i in range(count):
        number = g.turn
        g.turn += 1
        if g.turn == g.client_count:
            g.turn = 0
        if g.sourced:
            set_source(g, i, number)
        for j in range(g.segments):
            write_request(g, i, j, number, now_ns)
    done = sendmmsg(g.fds[g.socket_turn], g.send_messages, count, MSG_DONTWAIT)
    g.socket_turn += 1
    if g.socket_turn == g.fd_count:
        g.socket_turn = 0
    if done < 0:
        if errno != EAGAIN and errno != ENOBUFS and errno != EINTR:
            g.error = errno
            return -1
        done = 0
    g.counters[SENT] += <uint64_t>done * g.segments
    kept = first + <uint64_t>done * g.segments
    if kept != g.head:
        bump(g, BLOCKED)
        for sequence in range(kept, g.head):
            s = &g.ring[sequence & g.ring_mask]
            if g.interleaved and s.origin != 0 and s.origin == g.clients[s.client].last_rx:
                g.clients[s.client].used = not s.eligible
            s.state = SLOT_FREE
            g.outstanding -= 1
        g.head = kept
        g.turn = (first_turn + <uint32_t>done) % g.client_count
    for sequence in range(first, g.head):
        if g.ring[sequence & g.ring_mask].eligible:
            bump(g, ELIGIBLE)
    return done


cdef inline int64_t stamp_of(msghdr *m) noexcept nogil:
    """The kernel's software RX timestamp (CLOCK_REALTIME ns), 0 without one."""
    cdef cmsghdr *c = CMSG_FIRSTHDR(m)
    cdef timespec stamp
    while c != NULL:
        if c.cmsg_level == SOL_SOCKET and c.cmsg_type == SCM_TIMESTAMPING:
            memcpy(&stamp, CMSG_DATA(c), sizeof(stamp))
            return <int64_t>stamp.tv_sec * 1000000000 + stamp.tv_nsec
        c = CMSG_NXTHDR(m, c)
    return 0


cdef inline bint from_server(generator *g, const uint8_t *name) noexcept nogil:
    if g.family == AF_INET:
        return memcmp(name, g.server, 8) == 0           # family, port, address
    return memcmp(name, g.server, 4) == 0 and memcmp(name + 8, g.server + 8, 16) == 0


cdef void take_interleaved(generator *g, slot *s, const uint8_t *p) noexcept nogil:
    """Check that an interleaved answer's TX timestamp can be the previous answer's, and measure its error.

    It may be earlier than the basic one that answer carried: a server may announce when it expects to have sent.
    Where it is the same the server gives nothing better than it gave before; random bits below the precision make
    that happen now and then to one that does.
    """
    cdef client *k = &g.clients[s.client]
    cdef uint64_t tx = load64(p + 40)
    cdef int64_t error
    bump(g, INTERLEAVED)
    if k.last_rx != s.origin:
        bump(g, UNVERIFIED)
        return
    error = k.received_ns - unix_ns(tx)
    if tx == k.basic_tx:
        bump(g, REPEATED)
    if (
        <int64_t>(tx - load64(<uint8_t *>&k.last_rx)) < -<int64_t>ORDER_SLACK
        or error < -<int64_t>TX_AFTER_RX_NS
    ):
        bump(g, BAD_INTERLEAVED)
        return
    record(&g.histograms[1], error)


cdef void take_answer(generator *g, uint32_t i, int64_t read_ns) noexcept nogil:
    """Check one datagram and account for it."""
    cdef msghdr *m = &g.recv_messages[i].msg_hdr
    cdef const uint8_t *p = g.recv_data[i]
    cdef uint32_t size = g.recv_messages[i].msg_len
    cdef int64_t received_ns = 0
    cdef uint64_t opened, origin, sequence, tx
    cdef uint32_t refid, sample
    cdef slot *s
    cdef client *k
    if not from_server(g, g.recv_names[i]):
        bump(g, FOREIGN)
        return
    if size != g.answer_size or m.msg_flags & MSG_TRUNC:
        bump(g, WRONG_LENGTH)
        return
    if (p[0] & 0x38) != (g.header & 0x38) or (p[0] & 7) != (2 if (g.header & 7) == 1 else 4):
        bump(g, WRONG_MODE)
        return
    memcpy(&origin, p + 24, 8)
    opened = open_nonce(origin, g.seed)
    sequence = opened >> 1
    s = &g.ring[sequence & g.ring_mask]
    if g.bank != NULL:
        if opened & 1 or sequence > g.bank_mask:
            bump(g, UNKNOWN)
            return
        sequence = s.sequence
    elif s.sequence != sequence or (opened & 1 and s.origin == 0):
        bump(g, UNKNOWN)
        return
    if s.state != SLOT_WAITING:
        if s.state == SLOT_ANSWERED:
            bump(g, DUPLICATE)
        elif s.state == SLOT_EXPIRED:
            bump(g, LATE)
        else:
            bump(g, UNKNOWN)
        return
    s.state = SLOT_ANSWERED
    g.outstanding -= 1
    if g.counters[ANSWERED] % SAMPLE_EVERY == 0:
        sample = <uint32_t>(g.sample_count % SAMPLES)
        memcpy(g.samples[sample], p, size)
        g.sample_sizes[sample] = size
        g.sample_sequences[sample] = sequence
        g.sample_count += 1
    bump(g, ANSWERED)
    if g.stamps:
        received_ns = stamp_of(m)
        if received_ns == 0:
            bump(g, UNSTAMPED)
    if received_ns == 0:
        received_ns = read_ns
    record(&g.histograms[0], received_ns - s.sent_ns)
    if s.eligible:
        bump(g, ELIGIBLE_ANSWERED)
        if opened & 1:
            bump(g, ELIGIBLE_INTERLEAVED)
    if p[1] == 0:
        memcpy(&refid, p + 12, 4)
        if refid != 0:
            bump(g, KOD)
            return
        bump(g, UNSYNCHRONISED)
    record(&g.histograms[2], unix_ns(load64(p + 32)) - s.sent_ns)
    tx = load64(p + 40)
    if opened & 1:
        take_interleaved(g, s, p)
    else:
        if <int64_t>(tx - load64(p + 32)) < -<int64_t>ORDER_SLACK:
            bump(g, DISORDERED)
        record(&g.histograms[1], received_ns - unix_ns(tx))
    if g.interleaved:
        k = &g.clients[s.client]
        memcpy(&k.last_rx, p + 32, 8)
        k.basic_tx = 0 if opened & 1 else tx
        k.received_ns = received_ns
        k.saved = s.origin != 0
        k.used = 0


cdef int receive_from(generator *g, int fd) noexcept nogil:
    """Take all that waits on one socket. The datagrams taken; -1: errno in `error`."""
    cdef int got, i, total = 0
    cdef int64_t read_ns
    while True:
        for i in range(BATCH):
            g.recv_messages[i].msg_hdr.msg_namelen = 28
            if g.stamps:
                g.recv_messages[i].msg_hdr.msg_control = g.recv_control[i]
                g.recv_messages[i].msg_hdr.msg_controllen = CONTROL_ROOM
        got = recvmmsg(fd, g.recv_messages, BATCH, MSG_DONTWAIT, NULL)
        if got < 0:
            if errno == EAGAIN or errno == EINTR:
                return total
            g.error = errno
            return -1
        read_ns = clock_ns(CLOCK_REALTIME)
        for i in range(got):
            take_answer(g, <uint32_t>i, read_ns)
        total += got
        if got < BATCH:
            return total


cdef int receive_all(generator *g) noexcept nogil:
    cdef epoll_event events[64]
    cdef int ready, i, got, total = 0
    if g.fd_count == 1:
        return receive_from(g, g.fds[0])
    ready = epoll_wait(g.epoll, events, 64, 0)
    for i in range(ready):
        got = receive_from(g, events[i].data.fd)
        if got < 0:
            return -1
        total += got
    return total


cdef inline void nap(int64_t wanted_ns) noexcept nogil:
    cdef timespec wanted
    if wanted_ns <= 0:
        return
    wanted.tv_sec = 0
    wanted.tv_nsec = wanted_ns
    nanosleep(&wanted, NULL)


ctypedef struct plan:
    pacer pace
    int64_t start_ns            # CLOCK_MONOTONIC
    int64_t stop_ns
    int64_t sent_ns             # when the last message was sent
    uint32_t window             # 0: none
    uint32_t burst              # messages each time the pacer says so
    uint64_t limit              # sequence number to stop at; 0: none
    bint sleep


cdef int run_slice(generator *g, plan *w) noexcept nogil:
    """Go on for SLICE_NS. 1: go on; 0: everything sent and nothing outstanding; -1: errno in `error`."""
    cdef int64_t now = clock_ns(CLOCK_MONOTONIC), end = now + SLICE_NS, look = now, rest
    cdef uint32_t count, done
    cdef int got
    cdef bint sending
    while now < end:
        sending = now < w.stop_ns and (w.limit == 0 or g.head < w.limit)
        count = 0
        if sending:
            count = BATCH
            if w.pace.gap_ns > 0.0:
                g.counters[SKIPPED] += (
                    pacer_catch_up(&w.pace, <double>(now - w.start_ns)) * w.burst * g.segments)
                if w.burst <= BATCH:
                    count = BATCH // w.burst
                count = pacer_due(&w.pace, <double>(now - w.start_ns), count) * w.burst
            if w.window != 0:
                if g.outstanding >= w.window:
                    count = 0
                elif count > (w.window - g.outstanding + g.segments - 1) // g.segments:
                    count = <uint32_t>((w.window - g.outstanding + g.segments - 1) // g.segments)
            if w.limit != 0 and count > (w.limit - g.head + g.segments - 1) // g.segments:
                count = <uint32_t>((w.limit - g.head + g.segments - 1) // g.segments)
        while count > 0:
            done = count if count < BATCH else BATCH
            if send_batch(g, done) < 0:
                return -1
            w.sent_ns = clock_ns(CLOCK_MONOTONIC)
            count -= done
        now = clock_ns(CLOCK_MONOTONIC)
        if now < look:
            continue        # asking the socket all the time would slow down who puts the answers there: the server
        look = now if w.sleep else now + LOOK_NS
        got = receive_all(g)
        if got < 0:
            return -1
        expire(g, clock_ns(CLOCK_REALTIME))
        if not sending and g.outstanding == 0:
            return 0
        now = clock_ns(CLOCK_MONOTONIC)
        if w.sleep and got == 0:
            rest = NAP_NS if g.outstanding else IDLE_NAP_NS
            if sending and w.pace.gap_ns > 0.0 and w.start_ns + <int64_t>w.pace.next_ns - now < rest:
                rest = w.start_ns + <int64_t>w.pace.next_ns - now
            nap(rest)
            now = clock_ns(CLOCK_MONOTONIC)
    return 1


cdef class Generator:
    cdef generator *g
    cdef bytes bank_bytes

    def __cinit__(self):
        self.g = <generator *>calloc(1, sizeof(generator))
        if self.g == NULL:
            raise MemoryError
        self.g.epoll = -1

    def __dealloc__(self):
        if self.g != NULL:
            if self.g.epoll >= 0:
                close(self.g.epoll)
            free(self.g.ring)
            free(self.g.clients)
            free(self.g.out)
            free(self.g)

    def __init__(
        self,
        fds,
        bytes server,
        int port,
        *,
        unsigned int scope_id=0,
        bytes base=None,
        unsigned int clients=1,
        unsigned int shift=0,
        unsigned int header=0x23,
        unsigned int answer_size=48,
        bint interleaved=False,
        bytes bank=None,
        unsigned int request_size=48,
        bint stamps=False,
        unsigned int segments=1,
        uint64_t seed=1,
    ):
        cdef generator *g = self.g
        cdef uint64_t ring_size = 1 << 18, bank_size
        if g.ring != NULL:
            raise ValueError("a generator is set up once")
        if not 0 < len(fds) <= SOCKETS_MAX:
            raise ValueError(f"needs 1 to {SOCKETS_MAX} sockets")
        if len(server) not in (4, 16) or (base is not None and len(base) != len(server)):
            raise ValueError("addresses are 4 or 16 bytes, all of one family")
        if not 0 < port < 65536 or header > 255:
            raise ValueError("port or header out of range")
        if not 0 < clients <= CLIENTS_MAX or (clients > 1 and base is None):
            raise ValueError(f"1 to {CLIENTS_MAX} clients; more than one need a base address")
        if shift > (8 if len(server) == 4 else 104):
            raise ValueError("shift out of range")
        if not 0 < segments <= SEGMENTS_MAX or segments & (segments - 1):
            raise ValueError(f"segments: a power of two up to {SEGMENTS_MAX}")
        if interleaved and segments > 1:
            raise ValueError("interleaved requests of one client cannot share a message")
        if not 48 <= answer_size <= ANSWER_ROOM:
            raise ValueError("answer_size out of range")
        if bank is None:
            if request_size != 48:
                raise ValueError("fresh requests are 48 bytes")
        else:
            if not 48 <= request_size <= REQUEST_MAX or interleaved:
                raise ValueError(f"prebuilt requests are 48 to {REQUEST_MAX} bytes and not interleaved")
            bank_size = <uint64_t>len(bank)
            ring_size = bank_size // request_size
            if ring_size * request_size != bank_size or ring_size < segments or ring_size & (ring_size - 1):
                raise ValueError("the bank must hold a power of two of requests")
            g.bank_mask = ring_size - 1
            self.bank_bytes = bank
            g.bank = <const uint8_t *><const char *>bank
        for index, fd in enumerate(fds):
            g.fds[index] = fd
        g.fd_count = len(fds)
        g.family = AF_INET if len(server) == 4 else AF_INET6
        self.set_addresses(server, port, scope_id, base)
        g.client_count = clients
        g.shift = shift
        g.header = header
        g.answer_size = answer_size
        g.interleaved = interleaved
        g.request_size = request_size
        g.stamps = stamps
        g.segments = segments
        g.seed = seed
        g.ring_mask = ring_size - 1
        g.ring = <slot *>calloc(ring_size, sizeof(slot))
        g.clients = <client *>calloc(clients if interleaved else 1, sizeof(client))
        g.out = <uint8_t *>calloc(<size_t>BATCH * segments, 48)
        if g.ring == NULL or g.clients == NULL or g.out == NULL:
            raise MemoryError
        lay_out(g)
        self.reset()
        if g.fd_count > 1:
            self.watch()

    cdef set_addresses(self, bytes server, int port, unsigned int scope_id, bytes base):
        cdef generator *g = self.g
        cdef sockaddr_in *v4 = <sockaddr_in *>g.server
        cdef sockaddr_in6 *v6 = <sockaddr_in6 *>g.server
        if g.family == AF_INET:
            v4.sin_family = AF_INET
            v4.sin_port = htons(<uint16_t>port)
            memcpy(&v4.sin_addr, <const char *>server, 4)
            g.server_size = sizeof(sockaddr_in)
        else:
            v6.sin6_family = AF_INET6
            v6.sin6_port = htons(<uint16_t>port)
            memcpy(&v6.sin6_addr, <const char *>server, 16)
            v6.sin6_scope_id = scope_id
            g.server_size = sizeof(sockaddr_in6)
        g.sourced = base is not None
        if base is not None:
            value = int.from_bytes(base, "big")
            g.base[0] = value >> 64
            g.base[1] = value & 0xFFFFFFFFFFFFFFFF

    cdef watch(self):
        cdef generator *g = self.g
        cdef epoll_event event
        cdef uint32_t i
        g.epoll = epoll_create1(EPOLL_CLOEXEC)
        if g.epoll < 0:
            raise OSError(errno, "epoll_create1")
        for i in range(g.fd_count):
            memset(&event, 0, sizeof(event))
            event.events = EPOLLIN
            event.data.fd = g.fds[i]
            if epoll_ctl(g.epoll, EPOLL_CTL_ADD, g.fds[i], &event) < 0:
                raise OSError(errno, "epoll_ctl")

    def run(
        self,
        double duration_s,
        *,
        double rate=0.0,
        unsigned int window=0,
        unsigned int burst=1,
        bint poisson=False,
        bint sleep=False,
        double timeout_s=0.2,
        double lag_s=0.002,
        uint64_t limit=0,
    ):
        cdef generator *g = self.g
        cdef plan w
        cdef int state = 1
        if not 0 < duration_s <= 3600 or not 0 < timeout_s <= 60 or rate < 0 or lag_s <= 0:
            raise ValueError("duration, timeout, rate or lag out of range")
        if rate == 0 and window == 0:
            raise ValueError("needs a rate or a window")
        if not 0 < burst <= 65536:
            raise ValueError("burst out of range")
        if limit % g.segments:
            raise ValueError("limit must be a multiple of the segments")
        memset(&w, 0, sizeof(w))
        w.pace.gap_ns = 1e9 * burst * g.segments / rate if rate > 0 else 0.0
        w.pace.lag_ns = lag_s * 1e9
        w.pace.random = g.seed + g.head
        w.pace.poisson = poisson
        w.window = window
        w.burst = burst
        w.sleep = sleep
        w.limit = g.head + limit if limit else 0
        g.timeout_ns = <int64_t>(timeout_s * 1e9)
        g.error = 0
        if sleep:
            prctl(PR_SET_TIMERSLACK, 1000)
        w.start_ns = clock_ns(CLOCK_MONOTONIC)
        w.sent_ns = w.start_ns
        w.stop_ns = w.start_ns + <int64_t>(duration_s * 1e9)
        while state == 1:
            with nogil:
                state = run_slice(g, &w)
            PyErr_CheckSignals()
        if state < 0:
            raise OSError(g.error, "sending or receiving failed")
        return (min(w.stop_ns, max(w.sent_ns, w.start_ns + 1)) - w.start_ns) / 1e9

    def reset(self):
        cdef uint32_t i
        memset(self.g.counters, 0, sizeof(self.g.counters))
        for i in range(3):
            clear(&self.g.histograms[i])
        self.g.sample_count = 0

    def counters(self):
        return {name: self.g.counters[index] for index, name in enumerate(COUNTER_NAMES)}

    def histogram(self, str name):
        cdef histogram *h = &self.g.histograms[<int>_HISTOGRAMS[name]]
        cdef int i
        if h.count == 0:
            return [0] * BUCKETS, [0] * BUCKETS, 0, 0, 0, 0, 0
        return (
            [h.counts[0][i] for i in range(BUCKETS)],
            [h.counts[1][i] for i in range(BUCKETS)],
            h.count,
            h.sum,
            h.negative_sum,
            h.minimum,
            h.maximum,
        )

    def samples(self):
        cdef uint64_t i
        return [
            (self.g.sample_sequences[i], (<char *>self.g.samples[i])[:self.g.sample_sizes[i]])
            for i in range(min(self.g.sample_count, <uint64_t>SAMPLES))
        ]


def nonce(uint64_t sequence, int kind, uint64_t seed):
    return make_nonce(sequence, <uint64_t>kind, seed)


def from_nonce(uint64_t value, uint64_t seed):
    cdef uint64_t opened = open_nonce(value, seed)
    return opened >> 1, int(opened & 1)


def bucket(uint64_t value_ns):
    return bucket_index(value_ns)


cdef pacer new_pacer(double rate, uint32_t burst, bint poisson, uint64_t seed, double lag_ns) except *:
    cdef pacer p
    if rate <= 0 or burst == 0:
        raise ValueError("rate and burst must be positive")
    p.next_ns = 0.0
    p.gap_ns = 1e9 * burst / rate
    p.lag_ns = lag_ns
    p.random = seed
    p.poisson = poisson
    return p


def due_times(double rate, int count, *, unsigned int burst=1, bint poisson=False, uint64_t seed=1):
    cdef pacer p = new_pacer(rate, burst, poisson, seed, 0.0)
    times = []
    while len(times) < count:
        times.extend([p.next_ns] * burst)
        pacer_advance(&p)
    return times[:count]


def paced(double rate, now_ns, *, unsigned int burst=1, double lag_ns=2e6, unsigned int limit=64):
    cdef pacer p = new_pacer(rate, burst, False, 1, lag_ns)
    cdef uint64_t skipped = 0
    due = []
    for now in now_ns:
        skipped += pacer_catch_up(&p, now) * burst
        due.append(pacer_due(&p, now, limit) * burst)
    return due, skipped
