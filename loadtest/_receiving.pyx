"""Answers: every one is either matched to an outstanding request or counted under the reason why not.

It is assumed that the answers' clock and ours are the same machine's; only `latency` means anything otherwise.
"""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from loadtest._numbers cimport open_nonce, record
from loadtest._state cimport *
from loadtest._system cimport *

cdef enum:
    NTP_UNIX_OFFSET = 2208988800
    ORDER_SLACK = 4296          # 1 µs in NTP64 units: timestamps carry random bits below the precision
    TX_AFTER_RX_NS = 1000000    # an interleaved TX stamp may lie so much after our own RX stamp
    SAMPLE_EVERY = 256          # answers
    LAPS_MAX = 64               # rounds of the bank looked back for the request of an answer


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


cdef slot *sent_from_bank(generator *g, uint64_t index) noexcept nogil:
    """Which of the requests with this index of the bank an answer belongs to; NULL when none was sent.

    They are all alike. The newest that waits is the likeliest; where a server was behind by a whole round of the bank,
    the older ones' answers come, too, and each finds one that waits: only the latencies are exchanged between them.
    When none waits it is one that was given up, and else a second answer to the newest.
    """
    cdef uint64_t sequence
    cdef int lap
    cdef slot *s
    cdef slot *newest = NULL
    cdef slot *given_up = NULL
    if index >= g.head:
        return NULL
    sequence = g.head - 1 - ((g.head - 1 - index) & g.bank_mask)
    for lap in range(LAPS_MAX):
        if g.head - sequence > g.ring_mask + 1:
            break
        s = &g.ring[sequence & g.ring_mask]
        if newest == NULL:
            newest = s
        if s.state == SLOT_WAITING:
            return s
        if s.state == SLOT_EXPIRED and given_up == NULL:
            given_up = s
        if sequence <= g.bank_mask:
            break
        sequence -= g.bank_mask + 1
    return newest if given_up == NULL else given_up


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
    if g.bank != NULL:
        s = NULL if opened & 1 or sequence > g.bank_mask else sent_from_bank(g, sequence)
        if s == NULL:
            bump(g, UNKNOWN)
            return
        sequence = s.sequence
    else:
        s = &g.ring[sequence & g.ring_mask]
        if sequence < g.head and g.head - sequence > g.ring_mask + 1:
            bump(g, LATE)       # so late that its place is another's
            return
        if s.sequence != sequence or (opened & 1 and s.origin == 0):
            bump(g, UNKNOWN)
            return
    if s.state != SLOT_WAITING:
        if s.state == SLOT_ANSWERED:
            bump(g, DUPLICATE)
        elif s.state == SLOT_EXPIRED:
            bump(g, LATE)
            s.state = SLOT_ANSWERED
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
