"""NTP over PTP (ntp-wire §7): the 56 bytes in front of an NTP message that make it a PTP event message.

Network hardware that timestamps only PTP then stamps NTP too. The message is a unicast Delay_Req with one TLV that holds
the NTP message. All fields big-endian.

| offset | size | field |
|---|---|---|
| 0 | 1 | sdoId high nibble, message type: 0 or 1 accepted, 1 sent |
| 1 | 1 | version: 2, or 0x12 (2.1) with sdoId 0; 2 sent |
| 2 | 2 | length of all |
| 4 | 1 | domain |
| 5 | 1 | sdoId low byte |
| 6 | 2 | flags: unicast 0x0400 |
| 8 | 8 | correction, 2^-16 ns |
| 30 | 2 | sequence |
| 44 | 2 | TLV type: 3, or 0x8000 |
| 46 | 2 | TLV length: 8 + NTP message |
| 48 | 6 | organisation and subtype 00 00 5E 00 00 01 |
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memset

cdef enum:
    PTP_PREFIX = 56

cdef inline bint ptp_unwrap(const uint8_t *data, uint32_t length, uint8_t domain) noexcept nogil:
    """Whether an NTP message follows the first PTP_PREFIX bytes of this datagram."""
    cdef uint32_t tlv
    if length < PTP_PREFIX:
        return False
    if data[0] & 15 > 1 or data[4] != domain or data[6] != 4 or data[7] != 0:
        return False
    if data[1] != 2 and not (data[1] == 0x12 and data[0] >> 4 == 0 and data[5] == 0):
        return False
    if (<uint32_t>data[2] << 8 | data[3]) != length:
        return False
    tlv = <uint32_t>data[44] << 8 | data[45]
    if tlv != 3 and tlv != 0x8000:
        return False
    if (<uint32_t>data[46] << 8 | data[47]) != length - PTP_PREFIX + 8:
        return False
    return (data[48] == 0 and data[49] == 0 and data[50] == 0x5E and data[51] == 0 and data[52] == 0
            and data[53] == 1)

cdef inline void ptp_wrap(uint8_t *prefix, uint32_t ntp_length, uint8_t domain, uint16_t sequence) noexcept nogil:
    """Write the prefix of an NTP message of `ntp_length` bytes."""
    cdef uint32_t total = ntp_length + PTP_PREFIX, tlv = ntp_length + 8
    memset(prefix, 0, PTP_PREFIX)
    prefix[0] = 1
    prefix[1] = 2
    prefix[2] = <uint8_t>(total >> 8)
    prefix[3] = <uint8_t>total
    prefix[4] = domain
    prefix[6] = 4
    prefix[30] = <uint8_t>(sequence >> 8)
    prefix[31] = <uint8_t>sequence
    prefix[45] = 3
    prefix[46] = <uint8_t>(tlv >> 8)
    prefix[47] = <uint8_t>tlv
    prefix[50] = 0x5E
    prefix[53] = 1
