"""Layouts of the load generator: one flat state, allocated once, bounded by what it was given."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from loadtest._numbers cimport histogram
from loadtest._system cimport iovec, mmsghdr
from ntpd_fast._aead cimport aead_key

cdef enum:
    BATCH = 64                  # messages a system call
    SEGMENTS_MAX = 64           # requests a message (UDP_SEGMENT)
    REQUEST_MAX = 1140          # bytes; no NTP server stores more
    ANSWER_ROOM = 1280          # a longer answer is seen as truncated and counted
    CONTROL_ROOM = 128
    AUTHENTICATOR_SIZE = 40     # extension field at a template's end: two headers, nonce, tag
    SOCKETS_MAX = 1024
    CLIENTS_MAX = 16777216      # what 127.0.0.0/8 holds
    SAMPLES = 64
    OUTSTANDING_MAX = 262144    # requests without an answer, and answered or given up ones remembered behind them

cdef enum:
    SENT
    ANSWERED
    LOST                        # no answer within the timeout, or too many outstanding to wait for it
    LATE                        # answered after it was given up
    DUPLICATE
    UNKNOWN                     # origin is not a nonce of ours
    FOREIGN                     # not from the server's address and port
    WRONG_LENGTH
    WRONG_MODE                  # mode or version
    KOD
    UNSYNCHRONISED
    DISORDERED                  # basic answer with tx before rx
    INTERLEAVED
    ELIGIBLE                    # requests whose predecessor let the server keep a TX timestamp
    ELIGIBLE_ANSWERED
    ELIGIBLE_INTERLEAVED
    REPEATED                    # interleaved answer with the TX timestamp that the basic one before it had
    BAD_INTERLEAVED             # interleaved answer whose TX timestamp cannot be the previous answer's
    UNVERIFIED                  # interleaved answer that could not be checked: the client moved on meanwhile
    SKIPPED                     # due while the generator was behind its schedule by more than the lag allowed
    BLOCKED                     # sends refused for lack of buffer space, tried again
    UNSTAMPED                   # answers without the kernel's RX timestamp
    COUNTERS

cdef enum:
    SLOT_FREE = 0
    SLOT_WAITING = 1
    SLOT_ANSWERED = 2
    SLOT_EXPIRED = 3

ctypedef struct slot:
    uint64_t sequence
    uint64_t origin             # what the request carried as origin timestamp
    int64_t sent_ns             # CLOCK_REALTIME
    uint32_t client
    uint8_t state               # SLOT_*
    uint8_t eligible

ctypedef struct client:
    uint64_t last_rx            # server's receive timestamp of the last answer, as on the wire; 0: none
    uint64_t basic_tx           # transmit timestamp of the last answer when that was basic, else 0
    int64_t received_ns         # when the last answer came in
    uint8_t saved               # the answered request let the server keep its TX timestamp
    uint8_t used                # last_rx was sent as an origin already

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
    const uint8_t *templates    # sealed requests of request_size, made fresh as they are sent
    uint64_t template_mask
    aead_key key                # client to server, of the templates
    uint64_t random             # state of their nonces' generator
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
    uint8_t *out                # BATCH × segments × request_size, fresh requests
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
