"""Titles of measurements.log, statistics.log and selection.log; who writes their lines is loaded later."""

from __future__ import annotations

MEASUREMENTS_TITLE = (
    "   Date (UTC) Time     IP Address   L St 123 567 ABCD  LP RP Score    Offset  Peer del. Peer disp."
    "  Root del. Root disp. Refid     MTxRx"
)
STATISTICS_TITLE = (
    "   Date (UTC) Time     IP Address    Std dev'n Est offset  Offset sd  Diff freq   Est skew  Stress"
    "  Ns  Bs  Nr  Asym"
)
SELECTION_TITLE = "   Date (UTC) Time     IP Address   S EOpts Reach Score Last sample  Low end   High end"
