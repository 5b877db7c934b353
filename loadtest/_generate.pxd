"""Layouts of the load generator: one flat state, allocated once, bounded by what it was given.

A request is named by its sequence number. Its nonces (the transmit timestamp, and in interleaved requests
the receive timestamp) are an invertible scramble of that number, so an answer leads back to its request by
arithmetic and one look into a ring of what is outstanding.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    BATCH = 64                  # messages a system call
    SEGMENTS_MAX = 64           # requests a message (UDP_SEGMENT)
    REQUEST_MAX = 1140          # bytes; no NTP server stores more
    ANSWER_ROOM = 1280          # a longer answer is seen as truncated and counted
    CONTROL_ROOM = 128
    SOCKETS_MAX = 1024
    CLIENTS_MAX = 16777216      # what 127.0.0.0/8 holds
    SAMPLES = 64
    BUCKETS = 1216              # values up to 2^42 ns, 32 buckets for each power of two

cdef enum:
    SENT
    ANSWERED
    LOST                        # no answer within the timeout
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

ctypedef struct histogram:
    uint64_t counts[2][1216]    # [0] values ≥ 0, [1] values < 0 by magnitude
    uint64_t count
    int64_t sum
    int64_t negative_sum        # of the values < 0
    int64_t minimum
    int64_t maximum

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

ctypedef struct pacer:
    double next_ns              # when the next burst is due
    double gap_ns               # mean time between bursts; 0: no schedule
    double lag_ns               # how far behind it may fall before bursts are skipped
    uint64_t random             # state of the arrivals' generator
    bint poisson
