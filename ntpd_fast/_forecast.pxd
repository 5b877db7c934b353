"""When a message will leave, forecast from what sending was seen to cost; see `_forecast.pyx`."""

from libc.stdint cimport uint32_t

# Places a stamp can teach about: of a message in its call, or for a lone one
cdef enum:
    PLACE_LONE = 0x8000
    PLACE_STAGE = 8             # the bits from here on: the stage of the call
    PLACE_IN_CALL = 0xFF
    STAGES = 5                  # of send calls after a wake-up, while the caches get warm
    WARM = 3                    # the last one of them, for good
    FULL = 4                    # large calls

# What was learned about sending at each stage, ns: from the end of writing until a message leaves.
ctypedef struct send_model:
    double write                # of writing one answer: all of a call are written before the first is sent
    double lone[5]              # until a lone message leaves
    double first[5]             # until the first of a call with several leaves
    double unit[5]              # of such a call, a message: as the last calls were
    double tilt[5]              # each later one leaves `unit * tilt` after the one before
    double plain[5]             # of a call with a lone message
    double ask[5]               # how much longer a call takes when one more message asks for its stamp
    uint32_t lessons[5]         # stamps of the kernel that were learned from

cdef void forecast_start(send_model *model) noexcept nogil
cdef void forecast_call(const send_model *model, int stage, int count, double *first, double *each) noexcept nogil
cdef bint forecast_is_new(const send_model *model, int stage) noexcept nogil
cdef void learn_call(send_model *model, int stage, int count, double wrote, double took, bint sampled,
                     bint blind) noexcept nogil
cdef void learn_departure(send_model *model, uint32_t place, double measured) noexcept nogil
