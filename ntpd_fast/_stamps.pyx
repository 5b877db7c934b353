"""Transmit stamps of the kernel (timestamping §2, §3), for answers whose time is saved or sampled.

A message asks for its stamp by itself (a control message), so that basic answers cost nothing. Only the stamp comes
back, with an id: the one the message brought where the kernel takes ids (SCM_TS_OPT_ID), else the socket's own count
of messages that asked. Where data come back all the same, the packet itself says which answer it was. Stamps of the
error queue that fit nothing are counted and dropped.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from ntpd_fast._datapath cimport (
    BATCH, BATCHES_A_TURN, CONTROL_ERR, PENDING, PENDING_FREE, PENDING_SAMPLE, TX_COUNTER, TX_IDS, TX_NONE, cmsghdr, mmsghdr,
    msghdr, pending_stamp, socket_state, socklen_t,
)
from ntpd_fast._forecast cimport learn_departure
from ntpd_fast._packet cimport STAMP_KERNEL, map_cook, serve_context, serve_update
from ntpd_fast._ptp cimport PTP_PREFIX
from ntpd_fast._region cimport COUNT_ERRQ_OTHER, COUNT_TXTS_READ, COUNT_TXTS_REJECTED, COUNT_TXTS_UNMATCHED
from ntpd_fast._socket cimport CMSG_ALIGN, CMSG_DATA, CMSG_FIRSTHDR, CMSG_LEN, CMSG_NXTHDR, CMSG_SPACE, recvmmsg, timespec

cdef extern from "<sys/socket.h>" nogil:
    int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
    int MSG_DONTWAIT, MSG_ERRQUEUE, SOL_SOCKET

cdef extern from "<netinet/in.h>" nogil:
    int IPPROTO_IP, IPPROTO_IPV6, IP_RECVERR, IPV6_RECVERR

cdef extern from "<linux/errqueue.h>" nogil:
    struct sock_extended_err:
        uint32_t ee_errno
        uint8_t ee_origin
        uint32_t ee_info
        uint32_t ee_data

# <asm/socket.h> and <linux/net_tstamp.h>; the newest are not in every header
cdef enum:
    SO_TIMESTAMPING = 37
    SCM_TS_OPT_ID = 81
    STAMP_TX_SOFTWARE = 1 << 1
    STAMP_RX_SOFTWARE = 1 << 3
    STAMP_SOFTWARE = 1 << 4
    STAMP_OPT_ID = 1 << 7
    STAMP_TX_SCHED = 1 << 8
    STAMP_OPT_TSONLY = 1 << 11
    STAMPS_PLAIN = STAMP_SOFTWARE | STAMP_RX_SOFTWARE
    STAMPS_COUNTED = STAMPS_PLAIN | STAMP_OPT_TSONLY | STAMP_OPT_ID
    ENOMSG_NUMBER = 42
    ORIGIN_TIMESTAMPING = 4
    INFO_SND = 0
    INFO_SCHED = 1
    FIRST_ID = 0x1000           # ids below it come from a kernel that ignores SCM_TS_OPT_ID
    NTP_RECEIVE = 32            # offset of the receive stamp in a packet

cdef int64_t NS_PER_S = 1000000000LL

cdef uint32_t ask_for_stamp(socket_state *state, mmsghdr *message, uint8_t *control, uint32_t used,
                            bint warm) noexcept nogil:
    """Add the request for a transmit stamp to a message with `used` bytes of control data; the id it will carry.

    `warm`: have the kernel take a stamp earlier on the way as well. Nobody needs it, but what follows the stamp, until
    the message has really left, is the same work on the same memory, and takes less time when it was done just before.
    """
    cdef cmsghdr *item
    cdef uint32_t flags = STAMP_TX_SOFTWARE | STAMP_TX_SCHED if warm else STAMP_TX_SOFTWARE
    cdef uint32_t number = state.next_id
    state.next_id += 1
    if state.all_ask and not warm:
        return number
    used = <uint32_t>CMSG_ALIGN(used)
    item = <cmsghdr *>(control + used)
    item.cmsg_len = CMSG_LEN(4)
    item.cmsg_level = SOL_SOCKET
    item.cmsg_type = SO_TIMESTAMPING
    memcpy(CMSG_DATA(item), &flags, 4)
    if state.tx_mode == TX_IDS:
        if state.next_id < FIRST_ID:
            state.next_id = FIRST_ID
        used += <uint32_t>CMSG_SPACE(4)
        item = <cmsghdr *>(control + used)
        item.cmsg_len = CMSG_LEN(4)
        item.cmsg_level = SOL_SOCKET
        item.cmsg_type = SCM_TS_OPT_ID
        memcpy(CMSG_DATA(item), &number, 4)
    used += <uint32_t>CMSG_LEN(4)
    message.msg_hdr.msg_control = control
    message.msg_hdr.msg_controllen = used
    return number


cdef bint set_stamps(socket_state *state, int flags) noexcept nogil:
    """Say which stamps the socket takes and delivers; false when the kernel refuses."""
    return setsockopt(state.fd, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof(flags)) == 0


cdef void ask_for_all(socket_state *state, bint on) noexcept nogil:
    """Have the socket ask for the stamp of every message, or of those that bring a request.

    Many requests are cheaper without control data in each message. The count of messages that asked goes on.
    """
    if set_stamps(state, STAMPS_COUNTED | STAMP_TX_SOFTWARE if on else STAMPS_COUNTED):
        state.all_ask = on
    elif state.all_ask:
        restart_ids(state)


cdef bint restart_ids(socket_state *state) noexcept nogil:
    """Make socket and process count ids from the same start; stamps under way are given up."""
    memset(state.pending, 0, sizeof(state.pending))
    state.all_ask = False
    state.next_id = FIRST_ID if state.tx_mode == TX_IDS else 0
    # Counting begins anew when it is switched on.
    if not (set_stamps(state, STAMPS_PLAIN) and set_stamps(state, STAMPS_COUNTED)):
        state.tx_mode = TX_NONE
        return False
    return True


cdef int find_payload(const uint8_t *frame, uint32_t length) noexcept nogil:
    """Offset of the UDP payload in a looped frame (Ethernet, VLAN tags, IPv4 or IPv6), -1: not found."""
    cdef uint32_t offset = 12
    cdef uint32_t kind, header, next_header
    while offset + 4 <= length and frame[offset] == 0x81 and frame[offset + 1] == 0x00:
        offset += 4
    if offset + 2 > length:
        return -1
    kind = (<uint32_t>frame[offset] << 8) | frame[offset + 1]
    offset += 2
    if kind == 0x0800:
        if offset + 20 > length or frame[offset] >> 4 != 4 or frame[offset + 9] != 17:
            return -1
        header = (frame[offset] & 15) * 4
        if header < 20:
            return -1
        offset += header
    elif kind == 0x86DD:
        if offset + 40 > length or frame[offset] >> 4 != 6:
            return -1
        next_header = frame[offset + 6]
        offset += 40
        while next_header != 17:
            if offset + 8 > length:
                return -1
            if next_header == 0 or next_header == 43 or next_header == 60 or next_header == 135:
                header = 8 * (frame[offset + 1] + 1)
            elif next_header == 51:
                header = 4 * (frame[offset + 1] + 2)
            elif next_header == 44:
                if frame[offset + 2] != 0 or frame[offset + 3] & 0xF8 != 0:
                    return -1       # not the first fragment
                header = 8
            else:
                return -1
            next_header = frame[offset]
            offset += header
    else:
        return -1
    offset += 8
    return <int>offset if offset + 48 <= length else -1


cdef void use_stamp(socket_state *state, uint32_t number, int64_t raw_ns, const uint8_t *data,
                    uint32_t length) noexcept nogil:
    """One transmit stamp from the error queue: put it where it belongs."""
    cdef serve_context *serve = &state.common.serve
    cdef uint64_t *counters = state.common.worker.counters
    cdef pending_stamp *pending
    cdef uint64_t rx_ntp = 0
    cdef int offset, index
    cdef bint smooth
    if length >= 48:
        # Data came back although only the stamp was asked for: the packet itself says which one it is.
        offset = find_payload(data, length)
        if offset < 0:
            if length > 48:
                counters[COUNT_TXTS_UNMATCHED] += 1
                return
            offset = 0
        elif state.ptp:
            offset += PTP_PREFIX
            if offset + 48 > <int>length:
                counters[COUNT_TXTS_UNMATCHED] += 1
                return
        for index in range(8):
            rx_ntp = (rx_ntp << 8) | data[offset + NTP_RECEIVE + index]
        smooth = serve.served.smoothing and data[offset] & 7 == 4
    else:
        if state.tx_mode == TX_IDS and number < FIRST_ID:
            # A kernel that took the id's control message and counts by itself: follow its counter.
            state.tx_mode = TX_COUNTER
            restart_ids(state)
            counters[COUNT_TXTS_UNMATCHED] += 1
            return
        pending = &state.pending[number % PENDING]
        if pending.state == PENDING_FREE or pending.id != number:
            counters[COUNT_TXTS_UNMATCHED] += 1
            return
        if pending.predicted_ns != 0:
            learn_departure(&state.model, pending.position, <double>(raw_ns - pending.predicted_ns))
        if pending.state == PENDING_SAMPLE:
            pending.state = PENDING_FREE
            return
        pending.state = PENDING_FREE
        rx_ntp = pending.rx_ntp
        smooth = pending.smooth != 0
    if not serve_update(serve, rx_ntp, map_cook(&serve.page, raw_ns), smooth, STAMP_KERNEL):
        counters[COUNT_TXTS_REJECTED] += 1


cdef int read_stamps(socket_state *state) noexcept nogil:
    """Empty the error queue, at most BATCHES_A_TURN receive calls; the number of entries."""
    cdef uint64_t *counters = state.common.worker.counters
    cdef msghdr *message
    cdef cmsghdr *item
    cdef sock_extended_err *error
    cdef timespec stamp
    cdef int received, index, batch, total = 0
    cdef int64_t raw_ns
    cdef bint is_stamp, for_warmth
    cdef uint32_t number, length
    state.stamps_due = 0
    for batch in range(BATCHES_A_TURN):
        received = recvmmsg(state.fd, state.err, BATCH, MSG_ERRQUEUE | MSG_DONTWAIT, NULL)
        if received <= 0:
            break
        total += received
        for index in range(received):
            message = &state.err[index].msg_hdr
            raw_ns = 0
            number = 0
            is_stamp = for_warmth = False
            item = CMSG_FIRSTHDR(message)
            while item != NULL:
                if item.cmsg_level == SOL_SOCKET and item.cmsg_type == SO_TIMESTAMPING:
                    memcpy(&stamp, CMSG_DATA(item), sizeof(timespec))
                    raw_ns = <int64_t>stamp.tv_sec * NS_PER_S + stamp.tv_nsec
                elif ((item.cmsg_level == IPPROTO_IP and item.cmsg_type == IP_RECVERR)
                        or (item.cmsg_level == IPPROTO_IPV6 and item.cmsg_type == IPV6_RECVERR)):
                    error = <sock_extended_err *>CMSG_DATA(item)
                    is_stamp = error.ee_errno == ENOMSG_NUMBER and error.ee_origin == ORIGIN_TIMESTAMPING
                    for_warmth = is_stamp and error.ee_info == INFO_SCHED
                    is_stamp = is_stamp and error.ee_info == INFO_SND
                    number = error.ee_data
                item = CMSG_NXTHDR(message, item)
            length = state.err[index].msg_len
            if is_stamp and raw_ns != 0:
                counters[COUNT_TXTS_READ] += 1
                use_stamp(state, number, raw_ns, state.err_in[index], length)
            elif not for_warmth:
                counters[COUNT_ERRQ_OTHER] += 1
            message.msg_controllen = CONTROL_ERR
            message.msg_flags = 0
        if received < BATCH:
            break
    return total


cdef void without_ids(socket_state *state, int first, int count) noexcept nogil:
    """The kernel does not know SCM_TS_OPT_ID: take it out of what is still to be sent and count instead."""
    cdef int index
    cdef uint32_t used
    state.tx_mode = TX_COUNTER
    restart_ids(state)
    for index in range(first, count):
        used = state.info_length[state.slots[state.sending[index]]]
        state.tx[index].msg_hdr.msg_control = state.control_out[state.slots[state.sending[index]]] if used else NULL
        state.tx[index].msg_hdr.msg_controllen = used


def payload_offset(bytes frame):
    """Offset of the UDP payload in a looped frame, -1 when there is none with room for a packet."""
    cdef const char *data = frame
    return find_payload(<const uint8_t *>data, len(frame))
