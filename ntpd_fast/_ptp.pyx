"""The Python face of NTP over PTP, for the associations; the data plane uses `_ptp.pxd` itself."""

from libc.stdint cimport uint8_t

PREFIX_LENGTH = PTP_PREFIX


def unwrap(bytes datagram, int domain):
    """The NTP message in a datagram of this domain, None when there is none."""
    cdef const char *data = datagram
    if not ptp_unwrap(<const uint8_t *>data, len(datagram), domain):
        return None
    return datagram[PTP_PREFIX:]


def wrap(bytes message, int domain, int sequence):
    """An NTP message as a PTP event message; `sequence` counts messages, modulo 2^16."""
    cdef uint8_t prefix[56]
    ptp_wrap(prefix, len(message), domain, sequence & 0xFFFF)
    return (<const char *>prefix)[:PTP_PREFIX] + message
