"""Requests: fresh ones, prebuilt ones, and templates that are completed and sealed as they are sent.

Rules: nothing is allocated; a request that the kernel does not take was never sent.
"""

from libc.errno cimport EAGAIN, EINTR, ENOBUFS, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from loadtest._numbers cimport make_nonce, next_random
from loadtest._state cimport *
from loadtest._system cimport *
from ntpd_fast._aead cimport aead_seal


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
        g.send_iov[i].iov_base = g.out + <size_t>i * g.segments * g.request_size
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
        if g.bank == NULL and g.templates == NULL:
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


cdef inline void seal(generator *g, uint8_t *p) noexcept nogil:
    """Give a request made from a template a new nonce, and the tag over what it says now."""
    cdef uint32_t body = g.request_size - AUTHENTICATOR_SIZE
    cdef uint8_t *nonce = p + body + 8
    cdef uint64_t value = next_random(&g.random)
    memcpy(nonce, &value, 8)
    value = next_random(&g.random)
    memcpy(nonce + 8, &value, 8)
    aead_seal(&g.key, nonce, 16, p, body, NULL, 0, nonce + 16)


cdef void write_request(
    generator *g, uint32_t i, uint32_t segment, uint32_t number, int64_t now_ns
) noexcept nogil:
    """Fill one request, or take it whole from the bank, and note it as outstanding under the next number."""
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
    p = g.out + (<size_t>i * g.segments + segment) * g.request_size
    if g.templates != NULL:
        memcpy(p, g.templates + (sequence & g.template_mask) * g.request_size, g.request_size)
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
    if g.templates != NULL:
        seal(g, p)


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
