"""The data plane's system calls: batches of datagrams in, batches of answers out, one socket at a time."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from ntpd_fast._packet cimport NTP_PACKET_MAX, serve_answer, serve_context
from ntpd_fast._random cimport rng_buf
from ntpd_fast._region cimport ControlRegion, WorkerRegion, control_region, worker_region

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    struct sockaddr:
        pass
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len

cdef extern from "<netinet/in.h>" nogil:
    struct sockaddr_in6:
        pass

cdef enum:
    BATCH = 64                  # datagrams a receive call may return
    BATCHES_A_TURN = 4          # receive calls before other work gets its turn
    DATA_ROOM = 1152            # NTP_PACKET_MAX, rounded up, so that a longer datagram is seen as such
    CONTROL_IN = 512
    CONTROL_OUT = 64
    RANDOM_A_PACKET = 512       # most random bytes one answer can need

# What a worker does for all of its sockets together: context of the core, tables, random bytes.
ctypedef struct worker_state:
    serve_context serve
    rng_buf random
    const control_region *control
    worker_region *worker
    uint64_t page_sequence
    uint64_t access_version
    uint32_t step_count         # of the page in use
    int64_t stale_ns            # oldest request that is still answered
    bint bad_access             # the current access table failed its check: nobody is answered

# One socket's buffers. Requests and answers have slots of their own; nothing is allocated after the start.
ctypedef struct socket_state:
    worker_state *common
    int fd
    int family                  # AF_INET, AF_INET6
    bint packet_info            # bound to a wildcard: answer from the address that was asked
    bint distrust_rx            # stamps in the queue may be from before a clock step
    # learned cost of sending, ns: from the read of the clock to a message's way out
    double cost_finish          # of writing one answer
    double cost_single          # of a send call with one message
    double cost_each            # of each message in a longer one
    mmsghdr rx[64]
    mmsghdr tx[64]
    iovec rx_data[64]
    iovec tx_data[64]
    uint8_t names[64][28]
    serve_answer answers[64]
    uint8_t data_in[64][1152]
    uint8_t data_out[64][1152]
    uint8_t control_in[64][512]
    uint8_t control_out[64][64]

cdef int run_batch(socket_state *state) noexcept nogil
cdef int run_turn(socket_state *state) noexcept nogil


cdef class WorkerCore:
    """What the sockets of one worker share."""
    cdef worker_state *state
    cdef ControlRegion control
    cdef WorkerRegion worker


cdef class ServerSocket:
    """One NTP socket served by this process."""
    cdef socket_state *state
    cdef WorkerCore core
    cdef readonly object socket


cdef class Poller:
    """An epoll set of server sockets and of descriptors that concern Python."""
    cdef int epoll
    cdef list sockets
    cdef dict others
