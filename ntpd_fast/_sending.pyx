"""Bodies of `_sending.pxd`: the prepared answers of a batch are stamped and sent.

The stamp of an answer is a forecast: the clock read just before, plus the learned time until the kernel hands that
message over (`_forecast`). Few answers go one by one, each with a reading of its own. Where there are more, several
share a reading and a system call, which saves much and forecasts a little worse; a short chunk bounds what an
interruption in the middle can spoil. After a wake-up the caches are cold and the first messages take the longest, so
chunks begin small (1, 2, CHUNK), and each stage of that warming has costs of its own. Where batches are full all the
time, and where answers carry an earlier stamp and need no forecast, chunks are large. Everything runs without the GIL.
"""

from libc.errno cimport EAGAIN, EINTR, EINVAL, errno
from libc.stdint cimport UINT64_MAX, int64_t, uint16_t, uint32_t, uint64_t

from ntpd_fast._datapath cimport (
    ALL_ASK_FROM, CHUNK, CHUNK_BUSY, CHUNK_FROM, PENDING, PENDING_SAMPLE, PENDING_SAVE, SATURATED, TX_COUNTER, TX_IDS, TX_NONE,
    mmsghdr, msghdr, pending_stamp, sockaddr, socket_state, socklen_t, worker_state,
)
from ntpd_fast._forecast cimport FULL, PLACE_LONE, PLACE_STAGE, WARM, forecast_call, forecast_is_new, learn_call
from ntpd_fast._packet cimport RES_INTERLEAVED, RES_SAVE, answered, map_cook, serve_answer, serve_context, serve_finish, serve_saved
from ntpd_fast._ptp cimport PTP_PREFIX, ptp_wrap
from ntpd_fast._region cimport COUNT_SEND_ERRORS, COUNT_TX_DAEMON, REF_STEPPING, nf_load_acquire, ref_page, ref_read
from ntpd_fast._socket cimport sendmmsg, timespec
from ntpd_fast._stamps cimport ask_for_all, ask_for_stamp, restart_ids, without_ids


cdef extern from "<time.h>" nogil:
    int clock_gettime(int clock, timespec *ts)
    int CLOCK_REALTIME

cdef extern from "<sys/socket.h>" nogil:
    ssize_t sendmsg(int fd, const msghdr *message, int flags)
    ssize_t sendto(int fd, const void *data, size_t size, int flags, const sockaddr *to, socklen_t to_size)
    int MSG_DONTWAIT, AF_INET

cdef enum:
    SAMPLE_EVERY = 32           # calls between two stamps asked for only to learn
    SAMPLE_EVERY_FIRST = 4      # ... while there is little to go by
    MEASURE_LONE = 2            # calls after such a one at which a lone message's call is timed
    NAME4_SIZE = 16
    NAME6_SIZE = 28

cdef int64_t NS_PER_S = 1000000000LL


cdef int64_t clock_ns(int clock) noexcept nogil:
    """A clock's reading in ns."""
    cdef timespec ts
    clock_gettime(clock, &ts)
    return <int64_t>ts.tv_sec * NS_PER_S + ts.tv_nsec


cdef bint refresh_page(worker_state *common) noexcept nogil:
    """Read the reference page if it changed; false while the clock is being stepped."""
    ref_read(&common.control.reference, &common.serve.page, &common.page_sequence)
    return not common.serve.page.flags & REF_STEPPING


cdef int finish_call(socket_state *state, int first, int count, int stage, int64_t now, int64_t now_raw) noexcept nogil:
    """Stamp, seal and lay out `count` answers from `first` on for one send call; the number that is left."""
    cdef serve_context *serve = &state.common.serve
    cdef uint64_t *counters = state.common.worker.counters
    cdef serve_answer *answer
    cdef mmsghdr *message
    cdef pending_stamp *pending
    cdef uint32_t used, number
    cdef uint32_t name_size = NAME4_SIZE if state.family == AF_INET else NAME6_SIZE
    cdef int index, slot, sent = 0, sample = -1
    cdef double ahead, leaves, each
    forecast_call(&state.model, stage, count, &leaves, &each)
    state.calls += 1
    if state.tx_mode != TX_NONE and state.calls >= (
            <uint32_t>SAMPLE_EVERY_FIRST if forecast_is_new(&state.model, stage) else <uint32_t>SAMPLE_EVERY):
        # Which place teaches this time follows from the clock: nobody outside can choose it.
        state.calls = 0
        sample = first + <int>(<uint64_t>now_raw % <uint64_t>count)
    for index in range(first, first + count):
        answer = &state.answers[index]
        slot = state.slots[index]
        ahead = leaves + each * sent
        serve_finish(serve, answer, now + <int64_t>ahead)
        counters[answer.outcome] += 1
        if not answered(answer.outcome):
            continue
        counters[COUNT_TX_DAEMON + answer.tx_source] += 1
        state.tx_data[sent].iov_base = answer.data
        state.tx_data[sent].iov_len = answer.length
        if state.ptp:
            ptp_wrap(answer.data - PTP_PREFIX, answer.length, state.ptp_domain, state.ptp_sequence)
            state.ptp_sequence += 1
            state.tx_data[sent].iov_base = answer.data - PTP_PREFIX
            state.tx_data[sent].iov_len = answer.length + PTP_PREFIX
        state.sending[sent] = index
        message = &state.tx[sent]
        message.msg_hdr.msg_name = state.names[slot]
        message.msg_hdr.msg_namelen = name_size
        used = state.info_length[slot]
        message.msg_hdr.msg_control = state.control_out[slot] if used else NULL
        message.msg_hdr.msg_controllen = used
        if state.tx_mode != TX_NONE and (answer.flags & RES_SAVE or index == sample):
            # The first message after a wake-up finds the caches cold. One that is to teach goes as the others do.
            number = ask_for_stamp(state, message, state.control_out[slot], used,
                                   index == 0 and state.woken and index != sample)
            pending = &state.pending[number % PENDING]
            pending.id = number
            pending.rx_ntp = answer.rx_ntp
            pending.smooth = answer.smooth
            pending.state = PENDING_SAVE if answer.flags & RES_SAVE else PENDING_SAMPLE
            pending.position = <uint16_t>(sent | stage << PLACE_STAGE | (PLACE_LONE if count == 1 else 0))
            pending.predicted_ns = now_raw + <int64_t>(state.model.write * count) if index == sample else 0
        sent += 1
    return sent


cdef int send_out(socket_state *state, int count) noexcept nogil:
    """Send the laid-out answers and save the stamps of those that went; the number sent."""
    cdef serve_context *serve = &state.common.serve
    cdef uint64_t *counters = state.common.worker.counters
    cdef serve_answer *answer
    cdef msghdr *message
    cdef int done = 0, went = 0, result, index
    cdef bint failed = False
    while done < count:
        if count - done == 1:
            # One message is cheaper to hand over without an array, and cheaper still without control data.
            message = &state.tx[done].msg_hdr
            if message.msg_controllen == 0:
                result = 1 if sendto(state.fd, message.msg_iov.iov_base, message.msg_iov.iov_len, MSG_DONTWAIT,
                                     <const sockaddr *>message.msg_name, message.msg_namelen) >= 0 else -1
            else:
                result = 1 if sendmsg(state.fd, message, MSG_DONTWAIT) >= 0 else -1
        else:
            result = sendmmsg(state.fd, state.tx + done, count - done, MSG_DONTWAIT)
        if result > 0:
            for index in range(done, done + result):
                answer = &state.answers[state.sending[index]]
                if answer.flags & RES_SAVE:
                    serve_saved(serve, answer)
                    state.stamps_due += 1
            done += result
            went += result
        elif errno == EINVAL and state.tx_mode == TX_IDS and (
                state.tx[done].msg_hdr.msg_controllen > state.info_length[state.slots[state.sending[done]]]):
            without_ids(state, done, count)
        elif errno != EINTR:
            failed = True
            if errno == EAGAIN:
                counters[COUNT_SEND_ERRORS] += count - done     # no room: what is left would only get old
                break
            counters[COUNT_SEND_ERRORS] += 1
            done += 1
    if failed and state.tx_mode == TX_COUNTER:
        restart_ids(state)      # whether the kernel counted the message that failed depends on its version
    return went


cdef bint stepped(const worker_state *common) noexcept nogil:
    """Whether the clock is being stepped, or was since this batch began.

    A batch keeps its page to the end: an adjustment moves cooked time at once, and the receive stamps were cooked before.
    """
    cdef ref_page page
    cdef uint64_t sequence = UINT64_MAX
    ref_read(&common.control.reference, &page, &sequence)
    return page.flags & REF_STEPPING != 0 or page.step_count != common.step_count


cdef bint answer_call(socket_state *state, int first, int count, int stage) noexcept nogil:
    """Stamp and send some answers of a batch; false when the clock was stepped under them."""
    cdef worker_state *common = state.common
    cdef serve_context *serve = &common.serve
    cdef int64_t before = clock_ns(CLOCK_REALTIME), written
    cdef int ready
    cdef bint measure
    if nf_load_acquire(&common.control.reference.sequence) != common.page_sequence and stepped(common):
        # The receive stamps and this reading are of two times: nobody is answered rather than answered wrong.
        return False
    ready = finish_call(state, first, count, stage, map_cook(&serve.page, before), before)
    if ready == 0:
        return True
    # Calls with several messages are timed always, lone ones when they ask for a stamp and soon after.
    measure = count > 1 or state.tx_mode == TX_NONE or state.calls == 0 or state.calls == MEASURE_LONE
    if measure:
        written = clock_ns(CLOCK_REALTIME)
    if send_out(state, ready) == count and measure:
        learn_call(&state.model, stage, count, <double>(written - before), <double>(clock_ns(CLOCK_REALTIME) - written),
                   state.calls == 0, state.tx_mode == TX_NONE)
    if state.calls == 0:
        state.stamps_due += 1
    return True


cdef int without_forecast(const socket_state *state, int first, int count) noexcept nogil:
    """How many answers from `first` on carry a stamp from before; at most CHUNK_BUSY of `count`."""
    cdef int index = first
    if state.tx_mode == TX_NONE:
        return 0        # their own times are saved as forecast
    if count > first + CHUNK_BUSY:
        count = first + CHUNK_BUSY
    while index < count and state.answers[index].flags & RES_INTERLEAVED:
        index += 1
    return index - first


cdef int send_in_calls(socket_state *state, int count) noexcept nogil:
    """Send the first `count` prepared answers; the number that was given up because the clock was stepped."""
    cdef int index = 0, size, known, stage = WARM
    cdef bint large
    if state.full_batches > SATURATED:
        stage = FULL
    elif state.woken:
        stage = 0
    while index < count:
        if stage == FULL:
            size = CHUNK_BUSY
        elif count < CHUNK_FROM:
            size = 1
        else:
            size = CHUNK if stage >= 2 else 1 << stage
        size = min(size, count - index)
        known = without_forecast(state, index, count)
        large = known > size
        size = max(size, known)
        if known < size:
            if state.all_ask:
                ask_for_all(state, False)
        elif known >= ALL_ASK_FROM and state.tx_mode == TX_COUNTER and not state.all_ask:
            ask_for_all(state, True)
        if not answer_call(state, index, size, FULL if large else stage):
            return count - index
        index += size
        if large:
            stage = max(stage, WARM)
        elif stage < WARM:
            stage += 1
    return 0


cdef int send_answers(socket_state *state, int count) noexcept nogil:
    """As `send_in_calls`. Others may send from this socket between batches, and their messages must not be counted."""
    cdef int given_up = send_in_calls(state, count)
    if state.all_ask:
        ask_for_all(state, False)
    return given_up
