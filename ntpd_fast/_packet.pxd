"""The server side of one NTP packet, sans I/O: bytes, address and time come in, an answer and an outcome go out.

Order of the gates as in RFC 5905/chrony practice (ntp-wire §7): parse, access, mode, client log, rate limit,
authentication, build, size. No system call, no allocation, no Python object; whoever drives this counts outcomes.
An answer is built in two steps so that its transmit stamp is read as late as possible: `serve_prepare` does
everything else, `serve_finish` writes the stamp and seals.
"""

from libc.stdint cimport int8_t, uint8_t, uint16_t, uint32_t, uint64_t, int32_t, int64_t

from ntpd_fast._addr cimport ntp_addr
from ntpd_fast._clientlog cimport clientlog
from ntpd_fast._nts cimport nts_keys, nts_request
from ntpd_fast._random cimport rng_buf
from ntpd_fast._region cimport ref_page
from ntpd_fast._tsmap cimport tsmap

cdef enum:
    NTP_HEADER = 48
    NTP_PACKET_MAX = 1140       # 48 + 1024 of extension fields + 68 of MAC
    NTP_PORT = 123

# What became of a datagram. Values are slots of `worker_region.counters`; names in OUTCOMES.
cdef enum:
    OUT_ANSWERED = 0            # an ordinary answer was built
    OUT_DROP_LENGTH = 1         # under 48 bytes, over NTP_PACKET_MAX, or no multiple of 4
    OUT_DROP_VERSION = 2        # version 0 or above 4
    OUT_DROP_FORMAT = 3         # an extension field that does not fit
    OUT_DROP_ACCESS = 4         # source not allowed
    OUT_DROP_MODE = 5           # a mode that is not answered
    OUT_DROP_LIMIT = 6          # rate limit
    OUT_DROP_AUTH = 7           # unknown key, bad MAC, or NTS fields that do not fit
    OUT_DROP_SIZE = 8           # the answer would have been longer than the request
    OUT_DROP_STALE = 9          # waited too long in the receive queue
    OUT_DROP_STEPPING = 10      # the clock was being stepped
    OUT_DROP_ENTROPY = 11       # no random bytes left
    OUT_KOD_RATE = 12           # answered with KoD RATE
    OUT_NTS_NAK = 13            # answered with an NTS NAK
    OUT_CONTROL = 14            # belongs to an association of ours: handed to control
    OUT_SIGND = 15              # MS-SNTP: handed to the signing daemon
    OUTCOMES_USED = 16

# Extra facts about an outcome, for the counters.
cdef enum:
    RES_HIT = 1                 # passed parse, access and mode gates: a received NTP request
    RES_AUTH = 2                # request authenticated, answer is no KoD
    RES_INTERLEAVED = 4         # answer carries the previous transmit stamp
    RES_CANDIDATE = 8           # receive stamp was used (counted by source)
    RES_SAVE = 16               # transmit stamp of this answer is to be saved under `rx_ntp`

# Where a stamp comes from.
cdef enum:
    STAMP_DAEMON = 0
    STAMP_KERNEL = 1
    STAMP_HARDWARE = 2

# Kind of authentication found by the parser.
cdef enum:
    AUTH_NONE = 0
    AUTH_SYMMETRIC = 1
    AUTH_MSSNTP = 2
    AUTH_MSSNTP_EXT = 3
    AUTH_NTS = 4

# Well-formed optional extension fields found by the parser.
cdef enum:
    FIELD_MONO = 1              # 0xF323 with its magic
    FIELD_NET_CORRECTION = 2    # 0x010A

# One configured association whose packets arrive on the server sockets; rows sorted by address and port.
cdef enum:
    PEERS_MAGIC = 0x53524550    # "PERS"
    PEER_SYMMETRIC = 1          # `peer`: mode 1 is its own; of a `server` it is a stranger's

ctypedef struct peer_row:
    ntp_addr addr
    uint16_t port               # host order
    uint16_t flags              # PEER_*

ctypedef struct peer_table:
    uint32_t magic
    uint32_t count
    peer_row rows[1]            # `count` of them

ctypedef struct parsed_packet:
    uint8_t version
    uint8_t mode
    uint8_t auth                # AUTH_*
    uint8_t fields              # FIELD_*
    uint32_t key_id
    uint32_t fields_end         # end of the extension fields = start of the MAC
    uint32_t mac_length         # bytes from fields_end, key id included

# What is served, computed from the reference page once a batch.
ctypedef struct served_state:
    bint hold                   # a clock step is in progress
    uint8_t leap
    uint8_t stratum             # as sent: 0 when unsynchronised
    int8_t precision
    bint smoothing              # stamps of mode 4 answers carry the smoothing offset
    bint smooth_visible         # ... and it is larger than the precision
    uint32_t refid
    uint32_t root_delay         # NTP short format
    uint32_t root_dispersion
    uint32_t root_delay_28      # 4.28 format
    uint32_t root_dispersion_28
    int64_t ref_time_ns
    uint64_t fuzz_mask

ctypedef struct serve_context:
    # One per worker, in its own memory.
    ref_page page
    served_state served
    const uint8_t *access       # attached access table, NULL: nobody may ask
    const peer_table *peers     # checked table, NULL: none
    const uint8_t *keys         # attached table of symmetric keys, NULL: none
    clientlog log
    tsmap map
    nts_keys nts
    rng_buf *rng
    int8_t min_poll             # least poll sent: the rate limit's interval, or -19
    bint net_correction         # `ptpport` is set: answer extension field 0x010A
    bint signd                  # `ntpsigndsocket` is set: MS-SNTP requests are handed on
    uint64_t last_rx            # stamps of the previous answer: no two answers may carry the same
    uint64_t last_tx

ctypedef struct serve_request:
    const uint8_t *data
    uint32_t length
    uint16_t port               # source port, host order
    uint8_t rx_source           # STAMP_*
    ntp_addr addr
    uint64_t hash               # of addr; from serve_prefetch
    int64_t rx_ns               # cooked receive time

ctypedef struct serve_answer:
    uint8_t *data               # room for NTP_PACKET_MAX bytes
    uint32_t length
    uint8_t outcome             # OUT_*
    uint8_t flags               # RES_*
    uint8_t auth                # AUTH_* of the answer to be sealed in serve_finish
    uint8_t tx_source           # STAMP_* of the transmit stamp that is sent
    bint smooth                 # smoothing applies to this answer
    uint32_t key_id             # OUT_SIGND: as in the request
    int32_t key                 # AUTH_SYMMETRIC: position in the table of keys
    uint64_t rx_ntp             # receive stamp as sent
    uint64_t origin             # origin stamp as sent
    uint64_t saved_tx           # interleaved: the stamp to send instead of the present time, 0: basic
    uint64_t tx_ntp             # RES_SAVE: this answer's own transmit time, to be saved under rx_ntp
    uint64_t client             # RES_SAVE: hash of the client it is saved for
    nts_request *nts            # scratch of this answer, kept from serve_prepare to serve_finish

cdef uint64_t ns_to_ntp(int64_t ns) noexcept nogil
cdef int64_t map_cook(const ref_page *page, int64_t raw_ns) noexcept nogil
cdef double smooth_offset(const ref_page *page, int64_t cooked_ns) noexcept nogil
cdef uint32_t to_short(double value) noexcept nogil
cdef uint32_t to_28(double value) noexcept nogil
cdef int parse_packet(const uint8_t *data, uint32_t length, parsed_packet *out) noexcept nogil
cdef bint peers_check(const uint8_t *table, uint64_t size) noexcept nogil
cdef void serve_saved(serve_context *ctx, const serve_answer *ans) noexcept nogil
cdef bint serve_update(serve_context *ctx, uint64_t rx_ntp, int64_t tx_ns, bint smooth, int source) noexcept nogil
cdef void serve_batch(serve_context *ctx, int64_t cooked_ns) noexcept nogil
# The two stages that bring a request's client record and saved stamp into the cache: of a whole batch the first, then
# of all the second, then serve_prepare.
cdef void serve_prefetch(const serve_context *ctx, serve_request *req) noexcept nogil
cdef void serve_prefetch_records(const serve_context *ctx, const serve_request *req) noexcept nogil
cdef void serve_prepare(serve_context *ctx, const serve_request *req, serve_answer *ans) noexcept nogil
cdef void serve_finish(serve_context *ctx, serve_answer *ans, int64_t tx_ns) noexcept nogil

cdef inline bint answered(uint8_t outcome) noexcept nogil:
    """Whether there is something to send back from this socket."""
    return outcome == OUT_ANSWERED or outcome == OUT_KOD_RATE or outcome == OUT_NTS_NAK
