"""How slowly a correction of the clock is slewed at least.

chrony's slew rate grows with the square of the offset: the rare large correction is made within seconds, which costs
more frequency error than the offset is worth. Here haste has to have a reason:

- a correction within half of the root distance of its estimate is noise as likely as truth: it is spread over a share
  of the span of the samples behind it, as noise of samples goes on for about as long, but over no more than three
  intervals between updates (in chrony too that is what a correction of one standard deviation is meant to take);
- one that is most of the root distance is a good part of all that the clock may be off: it takes half an interval, or
  a minute where that is longer;
- one beyond, but within what the clock told of itself (an outage lets that grow), is foreseen: it takes a minute;
- what is beyond both, and the first correction of all, is slewed as chrony does it. So is a large second one: the clock
  tells of more than a minute then, because its frequency is not known yet, which foresees nothing.

All durations go with `corrtimeratio`; those told here are for its default, 3.
"""

from __future__ import annotations

from ntpd_fast.clock.estimate import ClockEstimate

__all__ = ["CLAIM_MAX_S", "FORESEEN_S", "LARGE_INTERVALS", "LARGE_SHARE", "SPAN_SHARE", "Pace"]

SPAN_SHARE = 0.05
"""Share of the span of an estimate, times `corrtimeratio`, over which a small correction is spread."""

LARGE_SHARE = 0.5
"""Share of the root distance beyond which a correction is a large one."""

LARGE_INTERVALS = 1.0 / 6.0
"""Duration of a large correction in intervals between updates, times `corrtimeratio`, at most."""

FORESEEN_S = 20.0
"""Duration of a foreseen correction, s, times `corrtimeratio`."""

CLAIM_MAX_S = 3.0
"""A clock that tells to be off by more, s, does not know: sources may be so far away (the default of `maxdistance`)."""


class Pace:
    """Chooses the least duration of slews, one after the other."""

    def __init__(self) -> None:
        self._calm_s = 0.0
        """How much of what is pending had no reason for haste, at most (a leap second that is slewed has)."""

    def min_duration_s(
        self,
        estimate: ClockEstimate,
        corrtimeratio: float,
        *,
        total_s: float,
        pending_s: float,
        claimed_s: float,
        interval_s: float,
    ) -> float:
        """Least duration of the slew that begins now; 0 for any.

        `total_s` is what will be slewed, `pending_s` the part of it that was already before, `claimed_s` what the
        clock was told to be off at most (0: nothing was told), `interval_s` the time since the last update (0: none).
        """
        magnitude_s = abs(total_s)
        distance_s = 0.5 * estimate.root_delay_s + estimate.root_dispersion_s
        foreseen_s = (claimed_s if claimed_s <= CLAIM_MAX_S else 0.0) + min(abs(pending_s), self._calm_s)
        self._calm_s = 0.0
        if interval_s <= 0.0 or magnitude_s > max(distance_s, foreseen_s):
            return 0.0
        self._calm_s = magnitude_s
        duration_s = corrtimeratio * min(SPAN_SHARE * estimate.span_s, interval_s)
        if magnitude_s > distance_s:
            duration_s = min(duration_s, FORESEEN_S * corrtimeratio)
        elif magnitude_s > LARGE_SHARE * distance_s:
            duration_s = min(duration_s, max(LARGE_INTERVALS * interval_s, FORESEEN_S) * corrtimeratio)
        return duration_s
