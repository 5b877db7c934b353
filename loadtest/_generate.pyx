"""The loop of the load generator: sends what is due and checks what came back, on one core without the GIL.

Rules: nothing is allocated while it runs; time is read from the clocks only here, in `_sending` and in `_receiving`;
everything that can be computed from arguments is in `_numbers`.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from loadtest._numbers cimport BUCKETS, clear, histogram, pacer, pacer_catch_up, pacer_due
from loadtest._receiving cimport receive_all
from loadtest._sending cimport expire, lay_out, send_batch
from loadtest._state cimport *
from loadtest._system cimport *
from ntpd_fast._aead cimport AEAD_AES_SIV_CMAC_256, aead_set_key

from secrets import token_bytes

cdef enum:
    SLICE_NS = 20000000         # how long the loop may go without looking at signals
    NAP_NS = 200000             # longest sleep while answers are outstanding
    IDLE_NAP_NS = 5000000
    LOOK_NS = 20000             # how often a loop that does not sleep looks for answers

COUNTER_NAMES = (
    "sent", "answered", "lost", "late", "duplicate", "unknown", "foreign", "wrong_length", "wrong_mode",
    "kod", "unsynchronised", "disordered", "interleaved", "eligible", "eligible_answered",
    "eligible_interleaved", "repeated", "bad_interleaved", "unverified", "skipped", "blocked", "unstamped",
)
globals().update(BATCH=BATCH, REQUEST_MAX=REQUEST_MAX, SEGMENTS_MAX=SEGMENTS_MAX, CLIENTS_MAX=CLIENTS_MAX)
_HISTOGRAMS = {"latency": 0, "tx_error": 1, "request_delay": 2}


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
        bytes seal_key=None,
        uint64_t outstanding_max=OUTSTANDING_MAX,
    ):
        cdef generator *g = self.g
        cdef uint64_t bank_size, in_bank
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
        if not segments <= outstanding_max <= OUTSTANDING_MAX or outstanding_max & (outstanding_max - 1):
            raise ValueError(f"outstanding_max: a power of two from the segments to {OUTSTANDING_MAX}")
        if interleaved and segments > 1:
            raise ValueError("interleaved requests of one client cannot share a message")
        if not 48 <= answer_size <= ANSWER_ROOM:
            raise ValueError("answer_size out of range")
        if bank is None:
            if request_size != 48 or seal_key is not None:
                raise ValueError("fresh requests are 48 bytes and not sealed")
        else:
            if not 48 <= request_size <= REQUEST_MAX:
                raise ValueError(f"prebuilt requests are 48 to {REQUEST_MAX} bytes")
            bank_size = <uint64_t>len(bank)
            in_bank = bank_size // request_size
            if in_bank * request_size != bank_size or in_bank < segments or in_bank & (in_bank - 1):
                raise ValueError("the bank must hold a power of two of requests")
            self.bank_bytes = bank
            if seal_key is None:
                if interleaved:
                    raise ValueError("requests sent as they are cannot be interleaved")
                if in_bank > outstanding_max:
                    raise ValueError("the bank holds more requests than may be outstanding")
                g.bank_mask = in_bank - 1
                g.bank = <const uint8_t *><const char *>bank
            else:
                if request_size < 48 + AUTHENTICATOR_SIZE or len(seal_key) != 32 or not aead_set_key(
                    &g.key, AEAD_AES_SIV_CMAC_256, <const uint8_t *><const char *>seal_key
                ):
                    raise ValueError("sealed requests end in an authenticator; their key has 32 bytes")
                g.template_mask = in_bank - 1
                g.templates = <const uint8_t *><const char *>bank
                g.random = int.from_bytes(token_bytes(8), "big")
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
        g.ring_mask = outstanding_max - 1
        g.ring = <slot *>calloc(outstanding_max, sizeof(slot))
        g.clients = <client *>calloc(clients if interleaved else 1, sizeof(client))
        g.out = <uint8_t *>calloc(<size_t>BATCH * segments, request_size)
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
