"""What the data plane of one process keeps in memory: the state of a worker and of each of its sockets.

Declarations only. `_polling`, `_udp` and `_sending` drive it, `_stamps` fills in what the kernel says about transmit times.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from ntpd_fast._forecast cimport send_model
from ntpd_fast._nts cimport nts_request, nts_ring
from ntpd_fast._packet cimport serve_answer, serve_context, serve_request
from ntpd_fast._random cimport rng_buf
from ntpd_fast._region cimport control_region, worker_region
from ntpd_fast._socket cimport cmsghdr, iovec, mmsghdr, msghdr, sockaddr, socklen_t

cdef enum:
    BATCH = 64                  # datagrams a receive call may return
    CHUNK_BUSY = 16             # answers stamped with one reading and sent with one call, where batches are full all the time
    CHUNK = 4                   # ... and otherwise, once the caches are warm
    CHUNK_FROM = 4              # answers in such a batch from which on chunks are used; below, each goes alone
    ALL_ASK_FROM = 8            # interleaved answers in a call from which on the socket is told to ask for their stamps
    SATURATED = 8               # full batches from which on they are: more than a pause of some ms leaves behind
    SATURATED_MAX = 16          # of them that are remembered; each batch that is not full halves the number
    BATCHES_A_TURN = 4          # receive calls before other work gets its turn
    DATA_ROOM = 1216            # a PTP prefix and NTP_PACKET_MAX, rounded up, so that a longer datagram is seen as such
    CONTROL_IN = 192            # a receive stamp and packet info of either family
    CONTROL_ERR = 320           # and what the error queue says of an error
    CONTROL_OUT = 96
    RANDOM_A_PACKET = 256       # most random bytes one answer can need
    PENDING = 4096              # answers of one socket that wait for their transmit stamp
    CHANNEL_MAGIC = 0x4C4E4843  # "CHNL"
    CHANNEL_MAX = 1280          # bytes of a message to control

# How transmit stamps are asked for.
cdef enum:
    TX_NONE = 0                 # the kernel gives none: the daemon's own time is saved
    TX_IDS = 1                  # SCM_TS_OPT_ID: each message brings its id
    TX_COUNTER = 2              # the socket counts the messages that ask
    TX_PAYLOAD = 3              # the data come back and are matched

# A packet that is control's: a datagram on the worker's channel, host byte order, `length` bytes of packet behind it.
ctypedef struct channel_message:
    uint32_t magic
    uint32_t outcome            # OUT_CONTROL: a packet as received; OUT_SIGND: an answer to be signed
    uint32_t family             # FAMILY_* of both addresses
    uint32_t key_id             # OUT_SIGND
    uint32_t interface          # index of the interface it came in by, 0: unknown
    uint16_t port               # of the remote side
    uint16_t length
    uint8_t rx_source           # STAMP_*
    uint8_t pad[7]
    uint8_t remote[16]
    uint8_t local[16]           # zero: unknown
    int64_t rx_raw_ns           # raw receive time

# What a worker does for all of its sockets together: context of the core, tables, random bytes.
ctypedef struct worker_state:
    serve_context serve
    rng_buf random
    const control_region *control
    worker_region *worker
    const nts_ring *ring
    uint64_t page_sequence
    uint64_t versions[4]        # of the tables in use
    uint32_t step_count         # of the page in use
    uint32_t log_base           # number of this shard's first record among those of all workers
    int channel                 # to control, -1: none
    int64_t stale_ns            # oldest request that is still answered
    bint kernel_rx              # the last batch had receive stamps of the kernel
    int64_t last_turn_ns        # monotonic time of the last turn that received something
    double gap_ns               # running mean of the time between two requests
    bint interrupted            # a signal came while a receive call waited
    bint bad_table              # a current table failed its check: the one before it, or none, is in use
    nts_request nts[64]

# An answer that was sent and waits for its transmit stamp.
ctypedef struct pending_stamp:
    uint64_t rx_ntp
    uint32_t id
    uint8_t state               # PENDING_*
    uint8_t smooth
    uint16_t position           # PENDING_SAMPLE: place in its batch
    int64_t predicted_ns        # PENDING_SAMPLE: raw time read before sending

cdef enum:
    PENDING_FREE = 0
    PENDING_SAVE = 1            # its stamp belongs into the timestamp map
    PENDING_SAMPLE = 2          # its stamp only teaches what sending costs

# One socket's buffers. Requests and answers have slots of their own; nothing is allocated after the start.
ctypedef struct socket_state:
    worker_state *common
    int fd
    int family                  # AF_INET, AF_INET6
    bint packet_info            # bound to a wildcard: answer from the address that was asked
    uint8_t bound[16]           # otherwise: the address it is bound to
    bint ptp                    # NTP over PTP: every datagram has a prefix
    uint8_t ptp_domain
    uint16_t ptp_sequence
    bint may_wait               # a receive call may wait for this socket
    bint woken                  # this batch was waited for: the caches are cold
    bint filled                 # the last batch was full: the next follows at once
    uint32_t full_batches       # of late (SATURATED_MAX)
    uint64_t waited             # receive calls that did
    bint distrust_rx            # stamps in the queue may be from before a clock step
    int tx_mode                 # TX_*
    bint all_ask                # TX_COUNTER: the socket asks by itself, for every message
    uint32_t next_id            # of the next message that asks for its transmit stamp
    uint32_t kernel_drops       # as last asked for
    send_model model            # of sending
    uint32_t calls              # since the kernel was last asked for a stamp to learn from
    pending_stamp pending[4096]
    mmsghdr rx[64]
    mmsghdr tx[64]
    iovec rx_data[64]
    iovec tx_data[64]
    uint8_t names[64][28]
    serve_answer answers[64]
    serve_request requests[64]
    uint32_t slots[64]          # of each answer: the slot of its request
    uint32_t sending[64]        # of each message being sent: its answer
    uint32_t stamps_due         # messages that asked for their stamp since stamps were last read
    uint8_t data_in[64][1216]
    uint8_t data_out[64][1216]
    uint8_t control_in[64][192]
    uint8_t control_out[64][96]
    uint8_t info_length[64]     # bytes of packet info in control_out, without padding: the kernel takes up to 36 without
                                # an allocation, and those of IPv6 are 36
    # error queue
    mmsghdr err[64]
    iovec err_data[64]
    uint8_t err_in[64][192]
    uint8_t err_control[64][320]       # CONTROL_ERR
