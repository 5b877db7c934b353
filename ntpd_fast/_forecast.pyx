"""Bodies of `_forecast.pxd`: how long after the clock was read a message leaves, and how that is learned.

A stamp has to be in the packet before it is sent, so it is a forecast. What it rests on: how long calls take, known of
every call with several messages, and stamps of the kernel for single messages, asked for now and then. Times are ns.
Without a system call and without the GIL; the caller measures.
"""

from libc.stdint cimport uint32_t

cdef double LEARN_STEP = 400.0          # largest error a measurement may teach: one preemption teaches little
cdef double LEARN_WEIGHT = 0.05         # of a new measurement
cdef double LEARN_WEIGHT_FIRST = 0.3    # of the first ones
cdef uint32_t LESSONS_FIRST = 100
cdef double ASKING_BEFORE = 0.75        # share of what asking for a stamp costs that comes before the stamp is taken
cdef double PLACE_SCALE = 0.5           # how much a later message teaches about the time between messages
cdef double LEAVES_AFTER = 0.5          # without kernel stamps: share of a message's send cost until it leaves
cdef double UNIT_WEIGHT = 0.25          # of the last call in the running cost of a message
cdef double UNIT_STEP = 0.15            # the most one call may change that cost by, as share of it

WARM_STAGE = WARM
FULL_STAGE = FULL


cdef void forecast_start(send_model *model) noexcept nogil:
    """What is assumed before anything was learned."""
    cdef int stage
    model.write = 50.0
    for stage in range(STAGES):
        model.lone[stage] = 2000.0
        model.first[stage] = 1500.0
        model.unit[stage] = 1500.0
        model.tilt[stage] = 1.0
        model.plain[stage] = 3000.0
        model.ask[stage] = 800.0
        model.lessons[stage] = 0


cdef void forecast_call(const send_model *model, int stage, int count, double *first, double *each) noexcept nogil:
    """From the reading of the clock before `count` answers are written and sent with one call: until the first leaves,
    and from one to the next."""
    if count == 1:
        first[0] = model.lone[stage] + model.write
        each[0] = 0.0
    else:
        first[0] = model.first[stage] + model.write * count
        each[0] = model.unit[stage] * model.tilt[stage]


cdef double clipped(double error) noexcept nogil:
    """An error as far as it may teach: what is learned comes close to a median, so that outliers hardly count."""
    return min(max(error, -LEARN_STEP), LEARN_STEP)


cdef void learn(double *cost, double measured, double weight) noexcept nogil:
    """Move a running estimate of a time towards a measurement."""
    cost[0] = max(cost[0] + clipped(measured - cost[0]) * weight, 0.0)


cdef bint forecast_is_new(const send_model *model, int stage) noexcept nogil:
    """Whether what was assumed about a stage still counts."""
    return model.lessons[stage] < LESSONS_FIRST


cdef double lesson_weight(const send_model *model, int stage) noexcept nogil:
    """Weight of the next measurement at a stage: the first ones replace what was assumed."""
    return LEARN_WEIGHT_FIRST if forecast_is_new(model, stage) else LEARN_WEIGHT


cdef void lesson_given(send_model *model, int stage) noexcept nogil:
    if forecast_is_new(model, stage):
        model.lessons[stage] += 1


cdef void learn_call(send_model *model, int stage, int count, double wrote, double took, bint sampled,
                     bint blind) noexcept nogil:
    """Learn from a call with `count` answers: writing them and the call took so long.

    `sampled`: one of them asked for its stamp only to learn. `blind`: the kernel gives no stamps to learn from.
    """
    cdef double weight = lesson_weight(model, stage), error, limit
    learn(&model.write, wrote / count, weight)
    if blind:
        lesson_given(model, stage)
    if sampled:
        learn(&model.ask[stage], took - (model.plain[stage] if count == 1 else model.unit[stage] * count), weight)
    elif count == 1:
        learn(&model.plain[stage], took, weight)
        if blind:
            learn(&model.lone[stage], took * LEAVES_AFTER, weight)
    else:
        error = took / count - model.unit[stage]
        limit = model.unit[stage] * UNIT_STEP
        model.unit[stage] += min(max(error, -limit), limit) * UNIT_WEIGHT
        if blind:
            model.first[stage] = model.unit[stage] * LEAVES_AFTER


cdef void learn_departure(send_model *model, uint32_t place, double measured) noexcept nogil:
    """Learn when a message left, in ns after its call was written; `place`: PLACE_*, stage and number in the call.

    The request for the stamp itself delays the message; what it adds to a call is known, and most of that comes before
    the stamp is taken.
    """
    cdef double error, scaled, gain
    cdef int stage = (place & ~<uint32_t>PLACE_LONE) >> PLACE_STAGE
    cdef double weight = lesson_weight(model, stage)
    lesson_given(model, stage)
    measured -= model.ask[stage] * ASKING_BEFORE
    if place & PLACE_LONE:
        learn(&model.lone[stage], measured, weight)
        return
    place &= PLACE_IN_CALL
    error = clipped(measured - model.first[stage] - model.unit[stage] * model.tilt[stage] * place)
    # a step down the gradient of the squared error, of a length that makes good the same share of it at every place
    scaled = place * PLACE_SCALE
    gain = error * weight / (1.0 + scaled * scaled)
    model.first[stage] = max(model.first[stage] + gain, 0.0)
    model.tilt[stage] = max(model.tilt[stage] + gain * scaled * PLACE_SCALE / (model.unit[stage] + 1.0), 0.0)


cdef class Forecast:
    """A forecast by itself, fed with measurements (ns); for tests."""
    cdef send_model model

    def __cinit__(self):
        forecast_start(&self.model)

    def call(self, int stage, int count):
        """Time until the first of `count` messages leaves, and from one to the next."""
        cdef double first, each
        if not (0 <= stage < STAGES and count > 0):
            raise ValueError("no such call")
        forecast_call(&self.model, stage, count, &first, &each)
        return first, each

    def learn_call(self, int stage, int count, double wrote_ns, double took_ns, *, bint sampled=False, bint blind=False):
        if not (0 <= stage < STAGES and count > 0):
            raise ValueError("no such call")
        learn_call(&self.model, stage, count, wrote_ns, took_ns, sampled, blind)

    def learn_departure(self, int stage, int place, double measured_ns, *, bint lone=False):
        if not (0 <= stage < STAGES and 0 <= place <= PLACE_IN_CALL):
            raise ValueError("no such place")
        learn_departure(&self.model, place | stage << PLACE_STAGE | (PLACE_LONE if lone else 0), measured_ns)
