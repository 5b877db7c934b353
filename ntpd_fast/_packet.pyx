"""Bodies of `_packet.pxd`, and `PacketServer`, a Python face of the same code for tests and the simulator."""

from libc.math cimport ceil, fabs, isnan
from libc.stdint cimport int8_t, uint8_t, uint16_t, uint32_t, uint64_t, int32_t, int64_t, UINT64_MAX
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from ntpd_fast._access cimport access_attach, access_check
from ntpd_fast._addr cimport addr_from_packed, ntp_addr
from ntpd_fast._auth cimport auth_attach, auth_check, auth_mac_length, auth_sign
from ntpd_fast._clientlog cimport (
    LIMIT_DROP, LIMIT_KOD, LIMIT_PASS, SERVICE_NTP, clientlog_attach, clientlog_hit, clientlog_limit,
    clientlog_prefetch, clientlog_prefetch_record, clientlog_set_limit, clientlog_ticks,
)
from ntpd_fast._nts cimport (
    NTS_DROP_MISSING, NTS_OK, KeyRing, nts_build_nak, nts_build_response, nts_check_request, nts_keys_refresh,
    nts_request, nts_seal_response,
)
from ntpd_fast._random cimport RNG_SIZE, rng_buf, rng_fill, rng_take
from ntpd_fast._region cimport (
    REF_LEAP_LOCK, REF_LOCAL, REF_LOCAL_ACTIVATED, REF_SMOOTHING, REF_STEPPING, REF_SYNCHRONISED, SMOOTH_STAGES,
    ControlRegion, ref_page,
)
from ntpd_fast._tsmap cimport (
    ts_found, tsmap_attach, tsmap_disable, tsmap_get, tsmap_prefetch, tsmap_prefetch_pair, tsmap_save, tsmap_update,
)

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline uint32_t nf_get32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return __builtin_bswap32(v); }
    static inline uint16_t nf_get16(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return __builtin_bswap16(v); }
    static inline uint64_t nf_get64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return __builtin_bswap64(v); }
    static inline void nf_put16(uint8_t *p, uint16_t v) { v = __builtin_bswap16(v); memcpy(p, &v, 2); }
    static inline void nf_put32(uint8_t *p, uint32_t v) { v = __builtin_bswap32(v); memcpy(p, &v, 4); }
    static inline void nf_put64(uint8_t *p, uint64_t v) { v = __builtin_bswap64(v); memcpy(p, &v, 8); }
    """
    uint16_t get16 "nf_get16"(const uint8_t *p) noexcept nogil
    uint32_t get32 "nf_get32"(const uint8_t *p) noexcept nogil
    uint64_t get64 "nf_get64"(const uint8_t *p) noexcept nogil
    void put16 "nf_put16"(uint8_t *p, uint16_t v) noexcept nogil
    void put32 "nf_put32"(uint8_t *p, uint32_t v) noexcept nogil
    void put64 "nf_put64"(uint8_t *p, uint64_t v) noexcept nogil

cdef enum:
    MODE_ACTIVE = 1
    MODE_PASSIVE = 2
    MODE_CLIENT = 3
    MODE_SERVER = 4
    EF_HEADER = 4
    EF_MIN = 16
    EF_MONO = 0xF323
    EF_NET_CORRECTION = 0x010A
    EF_MONO_LENGTH = 28
    EF_NET_CORRECTION_LENGTH = 28
    EF_NTS_FIRST = 0x0104
    EF_NTS_LAST = 0x0404
    MAC_MIN = 20
    MAC_MAX_V4 = 24
    ANSWER_ROOM = NTP_PACKET_MAX
    REDRAWS_MAX = 16            # draws for a unique stamp before it is nudged by one unit

cdef uint32_t MONO_MAGIC = 0xF5BEDD9A
cdef uint32_t KOD_RATE = 0x52415445      # "RATE"
cdef uint32_t KOD_NTSN = 0x4E54534E      # "NTSN"
cdef uint32_t REFID_LOCAL = 0x7F7F0101
cdef uint32_t REFID_SMOOTH = 0x7F7F01FF
cdef uint64_t UNIX_TO_NTP_S = 2208988800ULL
cdef int64_t NS_PER_S = 1000000000LL

OUTCOMES = (
    "answered", "drop_length", "drop_version", "drop_format", "drop_access", "drop_mode", "drop_limit", "drop_auth",
    "drop_size", "drop_stale", "drop_stepping", "drop_entropy", "kod_rate", "nts_nak", "control", "signd",
)


cdef uint64_t ns_to_ntp(int64_t ns) noexcept nogil:
    """NTP64 of a time in ns since the Unix epoch, any era (RFC 5905 §6); the epoch itself maps to 0, "unknown"."""
    cdef int64_t sec = ns // NS_PER_S
    cdef int64_t rest = ns - sec * NS_PER_S
    if rest < 0:                # cdivision truncates: times before 1970
        rest += NS_PER_S
        sec -= 1
    if ns == 0:
        return 0
    return (((<uint64_t>sec + UNIX_TO_NTP_S) & 0xFFFFFFFFULL) << 32) | ((<uint64_t>rest << 32) // <uint64_t>NS_PER_S)


cdef int64_t map_cook(const ref_page *page, int64_t raw_ns) noexcept nogil:
    """Cooked time of a raw one (sync-engine §8.2)."""
    return raw_ns + <int64_t>(page.map_freq * <double>(raw_ns - page.map_raw_ns) - page.map_offset_s * 1e9)


cdef double smooth_offset(const ref_page *page, int64_t cooked_ns) noexcept nogil:
    """The smoothing offset S(t) in seconds (server-datapath §6)."""
    cdef double left = <double>(cooked_ns - page.smooth_origin_ns) * 1e-9
    cdef double offset = page.smooth_offset_s
    cdef double freq = page.smooth_freq
    cdef double length
    cdef int i
    for i in range(SMOOTH_STAGES):
        if left <= 0:
            break
        length = page.smooth_length_s[i]
        if length > left:
            length = left
        offset -= length * (2.0 * freq + page.smooth_wander[i] * length) / 2.0
        freq += page.smooth_wander[i] * length
        left -= length
    return offset - left * freq


cdef uint32_t to_short(double value) noexcept nogil:
    """NTP short format (16.16), rounded up, saturating; NaN counts as the largest."""
    if isnan(value) or value >= 65535.99998:
        return 0xFFFFFFFF
    if value <= 0:
        return 0
    return <uint32_t>ceil(value * 65536.0)


cdef uint32_t to_28(double value) noexcept nogil:
    """4.28 format of field F323, rounded up, saturating; NaN counts as the largest."""
    cdef double scaled
    if isnan(value):
        return 0xFFFFFFFF
    if value <= 0:
        return 0
    scaled = ceil(value * 268435456.0)
    if scaled >= 4294967295.0:
        return 0xFFFFFFFF
    return <uint32_t>scaled


cdef bint all_zero(const uint8_t *data, uint32_t length) noexcept nogil:
    cdef uint32_t i
    cdef uint8_t seen = 0
    for i in range(length):
        seen |= data[i]
    return seen == 0


cdef int parse_packet(const uint8_t *data, uint32_t length, parsed_packet *out) noexcept nogil:
    """Find version, mode, extension fields and MAC (ntp-wire §3); OUT_ANSWERED, or why the packet is dropped."""
    cdef uint32_t offset = NTP_HEADER
    cdef uint32_t rest, field_type, field_length
    if length < NTP_HEADER or length > NTP_PACKET_MAX or length & 3:
        return OUT_DROP_LENGTH
    out.version = (data[0] >> 3) & 7
    out.mode = data[0] & 7
    out.auth = AUTH_NONE
    out.fields = 0
    out.key_id = 0
    out.mac_length = 0
    out.fields_end = length
    if out.version < 1 or out.version > 4:
        return OUT_DROP_VERSION
    rest = length - NTP_HEADER
    if rest == 0:
        return OUT_ANSWERED
    if out.version <= 3:
        out.auth = AUTH_SYMMETRIC
        out.fields_end = NTP_HEADER
        out.mac_length = rest
        out.key_id = get32(data + NTP_HEADER)
        if out.version == 3 and out.key_id != 0:
            if rest == 20 and all_zero(data + NTP_HEADER + 4, 16):
                out.auth = AUTH_MSSNTP
            elif rest == 72 and all_zero(data + NTP_HEADER + 8, 64):
                out.auth = AUTH_MSSNTP_EXT
        return OUT_ANSWERED
    if rest == 4 and get32(data + NTP_HEADER) == 0:     # a crypto-NAK: a MAC that never validates
        out.auth = AUTH_SYMMETRIC
        out.fields_end = NTP_HEADER
        out.mac_length = 4
        return OUT_ANSWERED
    while rest > 0:
        if MAC_MIN <= rest <= MAC_MAX_V4:
            out.auth = AUTH_SYMMETRIC
            out.fields_end = offset
            out.mac_length = rest
            out.key_id = get32(data + offset)
            return OUT_ANSWERED
        if rest <= MAC_MAX_V4:
            return OUT_DROP_FORMAT
        field_type = get16(data + offset)
        field_length = get16(data + offset + 2)
        if field_length < EF_MIN or field_length > rest or field_length & 3:
            return OUT_DROP_FORMAT
        if (field_type & 0xFF) == 0x04 and EF_NTS_FIRST <= field_type <= EF_NTS_LAST:
            out.auth = AUTH_NTS
        elif field_type == EF_MONO:
            if field_length == EF_MONO_LENGTH and get32(data + offset + EF_HEADER) == MONO_MAGIC:
                out.fields |= FIELD_MONO
        elif field_type == EF_NET_CORRECTION:
            if field_length == EF_NET_CORRECTION_LENGTH:
                out.fields |= FIELD_NET_CORRECTION
        offset += field_length
        rest -= field_length
    return OUT_ANSWERED


cdef bint peers_check(const uint8_t *table, uint64_t size) noexcept nogil:
    """Whether `size` bytes at `table` are a peer table whose rows all lie inside."""
    cdef const peer_table *peers = <const peer_table *>table
    if size < 8 or peers.magic != PEERS_MAGIC:
        return False
    return peers.count <= (size - 8) // sizeof(peer_row)


cdef const peer_row *find_peer(const peer_table *peers, const ntp_addr *addr, uint16_t port) noexcept nogil:
    """The row of an association, NULL when it is a stranger's packet."""
    cdef uint32_t low = 0, high, middle
    cdef const peer_row *row
    cdef int order
    if peers == NULL:
        return NULL
    high = peers.count
    while low < high:
        middle = (low + high) // 2
        row = &peers.rows[middle]
        order = memcmp(row.addr.bytes, addr.bytes, 16)
        if order == 0:
            order = <int>row.addr.family - <int>addr.family
        if order == 0:
            order = <int>row.port - <int>port
        if order == 0:
            return row
        if order < 0:
            low = middle + 1
        else:
            high = middle
    return NULL


cdef bint local_active(const ref_page *page, int64_t cooked_ns, double distance) noexcept nogil:
    """Whether the local reference is served now (server-datapath §5)."""
    cdef double waited
    if not page.flags & REF_LOCAL or not page.flags & REF_LOCAL_ACTIVATED:
        return False
    if page.flags & REF_SYNCHRONISED:
        waited = <double>(cooked_ns - page.ref_time_ns) * 1e-9
        return waited >= page.local_wait_sync_s and distance > page.local_distance_s
    waited = <double>(cooked_ns - page.unsync_since_ns) * 1e-9
    return waited >= page.local_wait_unsync_s


cdef void serve_batch(serve_context *ctx, int64_t cooked_ns) noexcept nogil:
    """Compute what is served at `cooked_ns` from the reference page; call before each batch."""
    cdef const ref_page *page = &ctx.page
    cdef served_state *out = &ctx.served
    cdef double dispersion, distance
    cdef int shift = page.precision + 32
    out.hold = (page.flags & REF_STEPPING) != 0
    out.precision = page.precision
    out.fuzz_mask = 0 if shift <= 0 else (UINT64_MAX if shift >= 64 else (1ULL << shift) - 1)
    out.smoothing = (page.flags & REF_SMOOTHING) != 0
    out.smooth_visible = False
    if out.smoothing:
        out.smooth_visible = fabs(smooth_offset(page, cooked_ns)) > 1.0 / <double>(1ULL << (
            0 if page.precision >= 0 else (-page.precision if page.precision > -63 else 63)))
    dispersion = page.root_dispersion_s + fabs(<double>(cooked_ns - page.ref_time_ns) * 1e-9) * page.dispersion_rate
    distance = page.root_delay_s / 2.0 + dispersion
    if local_active(page, cooked_ns, distance):
        out.leap = 0
        out.stratum = page.local_stratum
        out.refid = REFID_LOCAL
        out.ref_time_ns = page.local_ref_time_ns
        out.root_delay = out.root_delay_28 = 0
        out.root_dispersion = out.root_dispersion_28 = 0
    elif page.flags & REF_SYNCHRONISED:
        out.leap = page.leap
        out.stratum = page.stratum
        out.refid = page.refid
        out.ref_time_ns = page.ref_time_ns
        out.root_delay = to_short(page.root_delay_s)
        out.root_delay_28 = to_28(page.root_delay_s)
        out.root_dispersion = to_short(dispersion)
        out.root_dispersion_28 = to_28(dispersion)
    else:
        out.leap = 3
        out.stratum = 16
        out.refid = 0
        out.ref_time_ns = 0
        out.root_delay = out.root_dispersion = to_short(1.0)
        out.root_delay_28 = out.root_dispersion_28 = to_28(1.0)
    if page.flags & REF_LEAP_LOCK:
        out.leap = 3
    if out.stratum >= 16:
        out.stratum = 0


cdef inline uint64_t draw_bits(serve_context *ctx, bint *ok) noexcept nogil:
    """32 random bits (fuzz never needs more: a precision is never coarser than a second)."""
    cdef uint32_t bits = 0
    if not rng_take(ctx.rng, &bits, 4):
        ok[0] = False
    return bits


cdef uint64_t unique_stamp(serve_context *ctx, uint64_t exact, uint64_t low_bit, const uint64_t *avoid, int count,
                           bint *ok) noexcept nogil:
    """`exact` with its bits below the precision drawn at random, its lowest bit set to `low_bit`, and equal to none
    of the `count` stamps to avoid."""
    cdef uint64_t stamp
    cdef int tries = 0, i
    cdef bint again
    while True:
        stamp = exact ^ (draw_bits(ctx, ok) & ctx.served.fuzz_mask)
        stamp = (stamp & ~1ULL) | low_bit
        if tries >= REDRAWS_MAX:
            stamp += 2 * <uint64_t>(tries - REDRAWS_MAX + 1)
        again = False
        for i in range(count):
            again |= stamp == avoid[i]
        if not again or not ok[0]:
            return stamp
        tries += 1


cdef inline void write_kod(uint8_t *out, uint32_t code) noexcept nogil:
    """Turn a header into a kiss-o'-death: unsynchronised, stratum 0, the code as reference id."""
    out[0] |= 3 << 6
    out[1] = 0
    put32(out + 12, code)


cdef uint32_t append_fields(serve_context *ctx, uint8_t fields, int64_t rx_ns, uint8_t *out,
                            uint32_t length) noexcept nogil:
    """Answer the optional extension fields of a request; the new length of the answer."""
    cdef const served_state *served = &ctx.served
    if fields & FIELD_NET_CORRECTION and ctx.net_correction:
        # Without a hardware receive duration there is no correction to report: all zero.
        memset(out + length, 0, EF_NET_CORRECTION_LENGTH)
        put16(out + length, EF_NET_CORRECTION)
        put16(out + length + 2, EF_NET_CORRECTION_LENGTH)
        length += EF_NET_CORRECTION_LENGTH
    if fields & FIELD_MONO:
        put16(out + length, EF_MONO)
        put16(out + length + 2, EF_MONO_LENGTH)
        put32(out + length + 4, MONO_MAGIC)
        put32(out + length + 8, served.root_delay_28)
        put32(out + length + 12, served.root_dispersion_28)
        put64(out + length + 16,
              0 if served.smoothing else ns_to_ntp(rx_ns + <int64_t>(ctx.page.mono_offset_s * 1e9)))
        put32(out + length + 24, ctx.page.mono_epoch)
        length += EF_MONO_LENGTH
    return length


cdef void serve_prefetch(const serve_context *ctx, serve_request *req) noexcept nogil:
    req.hash = clientlog_prefetch(&ctx.log, &req.addr)
    if req.length >= NTP_HEADER:
        tsmap_prefetch(&ctx.map, get64(req.data + 24))


cdef void serve_prefetch_records(const serve_context *ctx, const serve_request *req) noexcept nogil:
    clientlog_prefetch_record(&ctx.log, req.hash)
    if req.length >= NTP_HEADER and req.data[31] & 1:
        tsmap_prefetch_pair(&ctx.map, get64(req.data + 24))


cdef void serve_prepare(serve_context *ctx, const serve_request *req, serve_answer *ans) noexcept nogil:
    """All of an answer but its transmit stamp; `ans.outcome` says whether there is one."""
    cdef parsed_packet packet
    cdef const served_state *served = &ctx.served
    cdef const peer_row *peer
    cdef uint8_t *out = ans.data
    cdef uint8_t mode
    cdef int8_t poll
    cdef int limit = LIMIT_PASS, nts = NTS_OK
    cdef int32_t record
    cdef uint32_t mac_length = 0
    cdef int64_t rx_ns, ref_ns
    cdef uint64_t rx_ntp, request_origin, request_rx
    cdef uint64_t avoid[2]
    cdef ts_found found
    cdef bint ok = True
    ans.flags = 0
    ans.length = 0
    ans.auth = AUTH_NONE
    ans.saved_tx = 0
    ans.tx_source = STAMP_DAEMON
    if served.hold:
        ans.outcome = OUT_DROP_STEPPING
        return
    ans.outcome = parse_packet(req.data, req.length, &packet)
    if ans.outcome != OUT_ANSWERED:
        return
    if packet.mode != MODE_CLIENT and ctx.peers != NULL:
        peer = find_peer(ctx.peers, &req.addr, req.port)
        if peer != NULL and (packet.mode != MODE_ACTIVE or peer.flags & PEER_SYMMETRIC):
            ans.outcome = OUT_CONTROL
            return
    if ctx.access == NULL or not access_check(ctx.access, &req.addr):
        ans.outcome = OUT_DROP_ACCESS
        return
    if packet.mode == MODE_CLIENT:
        mode = MODE_SERVER
    elif packet.mode == MODE_ACTIVE:
        mode = MODE_PASSIVE
    elif packet.mode == 0 and packet.version == 1 and req.port != NTP_PORT:
        mode = MODE_SERVER      # NTPv1 has no mode field
    else:
        ans.outcome = OUT_DROP_MODE
        return
    ans.flags = RES_HIT
    rx_ns = req.rx_ns
    rx_ntp = ns_to_ntp(rx_ns)
    record = clientlog_hit(&ctx.log, &req.addr, req.hash, SERVICE_NTP, clientlog_ticks(&ctx.log, rx_ntp))
    if record >= 0:
        limit = clientlog_limit(&ctx.log, record, SERVICE_NTP, ctx.rng)
        if limit == LIMIT_DROP:
            ans.outcome = OUT_DROP_LIMIT
            return
    if packet.auth != AUTH_NONE:
        if packet.auth == AUTH_NTS:
            if packet.mode != MODE_CLIENT or ans.nts == NULL:
                ans.outcome = OUT_DROP_AUTH
                return
            nts = nts_check_request(ans.nts, &ctx.nts, req.data, req.length)
            if nts >= NTS_DROP_MISSING or (nts != NTS_OK and limit == LIMIT_KOD):
                ans.outcome = OUT_DROP_AUTH
                return
        elif packet.auth == AUTH_SYMMETRIC:
            ans.key = auth_check(ctx.keys, req.data, req.length, packet.fields_end)
            if ans.key < 0:
                ans.outcome = OUT_DROP_AUTH
                return
        elif packet.auth == AUTH_MSSNTP and ctx.signd:
            ans.outcome = OUT_SIGND
            ans.key_id = packet.key_id
        else:
            ans.outcome = OUT_DROP_AUTH
            return
        ans.auth = packet.auth
    ans.flags |= RES_CANDIDATE

    ans.smooth = served.smoothing and mode == MODE_SERVER
    ref_ns = served.ref_time_ns
    if ans.smooth:
        rx_ns += <int64_t>(smooth_offset(&ctx.page, rx_ns) * 1e9)
        rx_ntp = ns_to_ntp(rx_ns)
        if ref_ns != 0:
            ref_ns += <int64_t>(smooth_offset(&ctx.page, ref_ns) * 1e9)
    poll = <int8_t>req.data[2]
    if poll < ctx.min_poll:
        poll = ctx.min_poll
    out[0] = <uint8_t>((served.leap << 6) | (packet.version << 3) | mode)
    out[1] = served.stratum
    out[2] = <uint8_t>poll
    out[3] = <uint8_t>served.precision
    put32(out + 4, served.root_delay)
    put32(out + 8, served.root_dispersion)
    put32(out + 12, REFID_SMOOTH if ans.smooth and served.smooth_visible else served.refid)
    put64(out + 16, ns_to_ntp(ref_ns))
    ans.origin = get64(req.data + 40)
    request_origin = get64(req.data + 24)
    request_rx = get64(req.data + 32)
    if limit == LIMIT_KOD:
        write_kod(out, KOD_RATE)
        if ans.outcome != OUT_SIGND:        # a client that wants a signature believes nothing without one
            ans.outcome = OUT_KOD_RATE
    elif nts != NTS_OK:
        write_kod(out, KOD_NTSN)
        ans.outcome = OUT_NTS_NAK
    elif packet.version == 4 and record >= 0 and request_origin & 1 and request_rx != ans.origin:
        # A client that quotes one of our receive stamps keeps to interleaved mode (RFC 9769).
        ans.flags |= RES_SAVE
        ans.client = req.hash
        if tsmap_get(&ctx.map, request_origin, req.hash, &found):
            tsmap_disable(&ctx.map, &found)
            ans.origin = request_rx
            ans.saved_tx = found.tx
            ans.tx_source = <uint8_t>found.source
            ans.flags |= RES_INTERLEAVED
    put64(out + 24, ans.origin)
    avoid[0] = ans.origin
    avoid[1] = ctx.last_rx
    ans.rx_ntp = unique_stamp(ctx, rx_ntp, 1, avoid, 2, &ok)
    put64(out + 32, ans.rx_ntp)
    if ans.flags & RES_SAVE:
        tsmap_prefetch(&ctx.map, ans.rx_ntp)
    ans.length = NTP_HEADER
    if packet.version == 4 and packet.fields and nts == NTS_OK:
        ans.length = append_fields(ctx, packet.fields, rx_ns, out, ans.length)
    if packet.auth == AUTH_NTS:
        if nts == NTS_OK:
            if ans.length > req.length:
                ans.outcome = OUT_DROP_SIZE
                return
            ans.length = nts_build_response(ans.nts, &ctx.nts, ctx.rng, req.data, out, ans.length)
            if ans.length == 0:
                ans.outcome = OUT_DROP_SIZE if ok else OUT_DROP_ENTROPY
                return
        else:
            ans.length = nts_build_nak(ans.nts, req.data, out, ans.length)
    elif packet.auth == AUTH_SYMMETRIC:
        mac_length = auth_mac_length(ctx.keys, ans.key, packet.version)
    if packet.auth != AUTH_NONE and ans.outcome == OUT_ANSWERED:
        ans.flags |= RES_AUTH
    if not ok:
        ans.outcome = OUT_DROP_ENTROPY
        return
    if ans.length + mac_length > req.length:
        ans.outcome = OUT_DROP_SIZE
        return
    ctx.last_rx = ans.rx_ntp


cdef void serve_finish(serve_context *ctx, serve_answer *ans, int64_t tx_ns) noexcept nogil:
    """Write the transmit stamp (cooked time `tx_ns`, or the saved one) and seal; on failure `ans.outcome` is a drop."""
    cdef uint64_t avoid[3]
    cdef uint64_t stamp
    cdef bint ok = True
    if ans.smooth:
        tx_ns += <int64_t>(smooth_offset(&ctx.page, tx_ns) * 1e9)
    stamp = ans.saved_tx
    if stamp == 0 or ans.flags & RES_SAVE:
        ans.tx_ntp = ns_to_ntp(tx_ns)
        if stamp == 0:
            stamp = ans.tx_ntp
    avoid[0] = ans.rx_ntp
    avoid[1] = ans.origin
    avoid[2] = ctx.last_tx
    stamp = unique_stamp(ctx, stamp, 0, avoid, 3, &ok)
    if not ok:
        ans.outcome = OUT_DROP_ENTROPY
        return
    put64(ans.data + 40, stamp)
    ctx.last_tx = stamp
    if ans.auth == AUTH_NTS:
        if ans.outcome != OUT_NTS_NAK:
            nts_seal_response(ans.nts, ans.data)
    elif ans.auth == AUTH_SYMMETRIC:
        ans.length = auth_sign(ctx.keys, ans.key, ans.data, ans.length, ANSWER_ROOM)
        if ans.length == 0:
            ans.outcome = OUT_DROP_SIZE


cdef void serve_saved(serve_context *ctx, const serve_answer *ans) noexcept nogil:
    """Remember when an answer with RES_SAVE was sent; call once it is."""
    tsmap_save(&ctx.map, ans.rx_ntp, ans.tx_ntp, STAMP_DAEMON, ans.client, ctx.page.slew_epoch)


cdef bint serve_update(serve_context *ctx, uint64_t rx_ntp, int64_t tx_ns, bint smooth, int source) noexcept nogil:
    """A kernel or hardware transmit stamp (cooked) for the answer saved under `rx_ntp`; false when it is not used."""
    if smooth:
        tx_ns += <int64_t>(smooth_offset(&ctx.page, tx_ns) * 1e9)
    return tsmap_update(&ctx.map, rx_ntp, ns_to_ntp(tx_ns), source, ctx.page.slew_epoch,
                        <int64_t>(ctx.page.slew_last_s * 1e9))


cdef class PacketServer:
    """The data plane's core without sockets: one context, fed from Python. For tests and the simulator.

    `log` and `stamps`: writable buffers laid out as a client log shard and a timestamp map, or None for `noclientlog`.
    """
    cdef serve_context ctx
    cdef rng_buf *rng
    cdef nts_request *nts
    cdef bytes access
    cdef bytes peers
    cdef bytes keys
    cdef object log
    cdef object stamps
    cdef ControlRegion control
    cdef KeyRing ring

    def __cinit__(self, ControlRegion control, bytes access, int min_poll=-19, uint8_t[::1] log=None,
                  uint8_t[::1] stamps=None, KeyRing ring=None, bytes peers=None, bytes keys=None):
        memset(&self.ctx, 0, sizeof(serve_context))
        self.rng = <rng_buf *>calloc(1, sizeof(rng_buf))
        self.nts = <nts_request *>calloc(1, sizeof(nts_request))
        if self.rng == NULL or self.nts == NULL:
            raise MemoryError
        self.ctx.rng = self.rng
        self.access = access
        self.control = control
        self.log = log
        self.stamps = stamps
        self.ring = ring
        self.peers = peers
        if not access_attach(<const uint8_t *><const char *>access, len(access)):
            raise ValueError("not an access table")
        self.ctx.access = <const uint8_t *><const char *>self.access
        if peers is not None:
            if not peers_check(<const uint8_t *><const char *>peers, len(peers)):
                raise ValueError("not a peer table")
            self.ctx.peers = <const peer_table *><const char *>self.peers
        if keys is not None:
            self.keys = keys
            if not auth_attach(<const uint8_t *><const char *>keys, len(keys)):
                raise ValueError("not a table of keys")
            self.ctx.keys = <const uint8_t *><const char *>self.keys
        self.ctx.min_poll = min_poll
        if not clientlog_attach(&self.ctx.log, NULL if log is None else &log[0], 0 if log is None else log.shape[0]):
            raise ValueError("not a client log shard")
        if not tsmap_attach(&self.ctx.map, NULL if stamps is None else &stamps[0],
                            0 if stamps is None else stamps.shape[0]):
            raise ValueError("not a timestamp map")

    def __dealloc__(self):
        free(self.rng)
        free(self.nts)

    def seed(self, bytes data):
        """Use these bytes (at most RNG_SIZE) as the random ones, instead of the kernel's."""
        cdef const char *source = data
        cdef size_t size = len(data)
        if size > RNG_SIZE:
            raise ValueError("too many bytes")
        memcpy(self.rng.data + RNG_SIZE - size, source, size)
        self.rng.left = <uint32_t>size

    def set_net_correction(self, bint enabled):
        """Answer extension field 0x010A."""
        self.ctx.net_correction = enabled

    def set_limit(self, int interval, int burst, int leak, int kod=0):
        """Limit the rate of NTP requests (`ratelimit`)."""
        clientlog_set_limit(&self.ctx.log, SERVICE_NTP, True, interval, burst, leak, kod)

    def set_signd(self, bint enabled):
        """Hand MS-SNTP requests on instead of dropping them."""
        self.ctx.signd = enabled

    def answer(self, bytes request, bytes address, int port, int64_t rx_ns, int64_t tx_ns, bint refill=True):
        """(outcome name, flags, answer or None) for one request; `address` has 4 or 16 bytes."""
        cdef serve_request req
        cdef serve_answer ans
        cdef uint8_t buffer[1152]
        cdef const char *source = request
        memset(&req, 0, sizeof(req))
        memset(&ans, 0, sizeof(ans))
        req.data = <const uint8_t *>source
        req.length = len(request)
        req.port = port
        req.rx_ns = rx_ns
        addr_from_packed(&req.addr, address)
        ans.data = buffer
        ans.nts = self.nts
        if refill and not rng_fill(self.rng, 4096):
            raise OSError("no random bytes")
        self.ctx.page = self.control.page
        with nogil:
            serve_batch(&self.ctx, rx_ns)
            if self.ring is not None:
                nts_keys_refresh(&self.ctx.nts, self.ring.ring)
            req.hash = clientlog_prefetch(&self.ctx.log, &req.addr)
            serve_prepare(&self.ctx, &req, &ans)
            if answered(ans.outcome):
                serve_finish(&self.ctx, &ans, tx_ns)
                if answered(ans.outcome) and ans.flags & RES_SAVE:
                    serve_saved(&self.ctx, &ans)
        name = OUTCOMES[ans.outcome]
        if not answered(ans.outcome):
            return name, ans.flags, None
        return name, ans.flags, (<const char *>buffer)[:ans.length]

    def late_stamp(self, uint64_t rx_ntp, int64_t tx_ns, int source=STAMP_KERNEL):
        """A later transmit stamp for the answer that carried `rx_ntp`; whether it was used."""
        self.ctx.page = self.control.page
        return serve_update(&self.ctx, rx_ntp, tx_ns, False, source)


def ntp64(int64_t ns):
    """NTP64 of a time in ns since the Unix epoch."""
    return ns_to_ntp(ns)


def short_format(double value):
    """NTP short format (16.16) of a duration in seconds, rounded up."""
    return to_short(value)


def format_28(double value):
    """4.28 format of a duration in seconds, rounded up."""
    return to_28(value)


def parse(bytes data):
    """(outcome name, fields) of a packet: version, mode, auth, optional fields, key id, start and length of the MAC."""
    cdef parsed_packet out
    cdef const char *source = data
    memset(&out, 0, sizeof(out))
    code = parse_packet(<const uint8_t *>source, len(data), &out)
    return OUTCOMES[code], (out.version, out.mode, out.auth, out.fields, out.key_id, out.fields_end, out.mac_length)
