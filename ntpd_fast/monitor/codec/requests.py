"""Payloads of the requests. The codec takes any value; the ranges are the handlers' business."""

from typing import NamedTuple

from .address import UNSPECIFIED, Address
from .layout import I32, U32, Float, Name, TimeNs, WireAddress


class Nothing(NamedTuple):
    """No payload: plain commands and reports without argument; also the NULL reply."""


class AddressMask(NamedTuple):
    """ONLINE, OFFLINE: sources whose address is `address` under `mask`; family 0 means every source."""

    mask: WireAddress
    address: WireAddress


class Burst(NamedTuple):
    """BURST: stop after so many good, or so many measurements altogether."""

    mask: WireAddress
    address: WireAddress
    n_good_samples: I32
    n_total_samples: I32


class SourceInteger(NamedTuple):
    """One source and an integer: min/maxpoll (log2 s), minstratum, polltarget (samples)."""

    address: WireAddress
    value: I32


class SourceReal(NamedTuple):
    """One source and a number: maxdelay (s), maxdelayratio, maxdelaydevratio."""

    address: WireAddress
    value: Float


class Real(NamedTuple):
    """One number: maxupdateskew (ppm), dfreq (ppm), doffset (s), reselectdist (s)."""

    value: Float


class Option(NamedTuple):
    """One choice: manual (0 off, 1 on, 2 reset), smoothtime (0 reset, 1 activate)."""

    option: I32


class Index(NamedTuple):
    """Position of a source, or of a manual sample. SOURCESTATS and SELECT_DATA send it unsigned: what matters
    (below the number of sources or not) is the same read either way."""

    position: I32


class SetTime(NamedTuple):
    """SETTIME: the true time now, ns since the Unix epoch."""

    time_ns: TimeNs


class AccessSubnet(NamedTuple):
    """ALLOW … CMDDENYALL: family 0 with 0 bits is everything, IPv4 and IPv6."""

    ip: WireAddress
    subnet_bits: I32


class OneAddress(NamedTuple):
    """One source or host."""

    address: WireAddress


class ModifyMakeStep(NamedTuple):
    """MODIFY_MAKESTEP: step when the offset exceeds `threshold` s, for `limit` further updates."""

    limit: I32
    threshold: Float


class Local2(NamedTuple):
    """LOCAL2: the local reference as chronyc up to 4.5 sends it; `distance` in s."""

    on_off: I32
    stratum: I32
    distance: Float
    orphan: I32


class Local3(NamedTuple):
    """LOCAL3: from 4.6; `distance`, `activate` and both waits in s."""

    on_off: I32
    stratum: I32
    distance: Float
    orphan: I32
    activate: Float = 0.0
    wait_synced: Float = 0.0
    wait_unsynced: Float = 0.0


class ClientAccesses(NamedTuple):
    """CLIENT_ACCESSES_BY_INDEX3: a page of the client list; `reset` not 0 zeroes what was examined."""

    first_index: U32
    n_clients: U32
    min_hits: U32
    reset: U32


class ModifySelectOpts(NamedTuple):
    """MODIFY_SELECTOPTS: new options = (old & ~mask) | options. `mask` has the bits of SelectOption,
    `options` those of AddFlag: they really differ. A reference clock is named by `ref_id` with family 0."""

    address: WireAddress
    ref_id: U32
    mask: U32
    options: U32


class ModifyOffset(NamedTuple):
    """MODIFY_OFFSET: the source's offset correction in s; a reference clock by `ref_id` with family 0."""

    address: WireAddress
    ref_id: U32
    new_offset: Float


class AddSource(NamedTuple):
    """ADD_SOURCE: type 1 server, 2 peer, 3 pool. Defaults are what `add server NAME` sends."""

    type: U32
    name: Name
    port: U32 = 123
    minpoll: I32 = 6
    maxpoll: I32 = 10
    presend_minpoll: I32 = 100
    min_stratum: U32 = 0
    poll_target: U32 = 8
    version: U32 = 0
    max_sources: U32 = 4
    min_samples: I32 = -1
    max_samples: I32 = -1
    authkey: U32 = 0
    nts_port: U32 = 4460
    max_delay: Float = 3.0
    max_delay_ratio: Float = 0.0
    max_delay_dev_ratio: Float = 10.0
    min_delay: Float = 0.0
    asymmetry: Float = 1.0
    offset: Float = 0.0
    flags: U32 = 1
    filter_length: I32 = 0
    cert_set: U32 = 0
    max_delay_quant: Float = 0.0
    max_unreach: I32 = 100000


EVERY_SOURCE: Address = UNSPECIFIED


class AddFlag:
    """Bits of `AddSource.flags` and of `ModifySelectOpts.options`."""

    ONLINE = 0x1
    AUTO_OFFLINE = 0x2
    IBURST = 0x4
    PREFER = 0x8
    NOSELECT = 0x10
    TRUST = 0x20
    REQUIRE = 0x40
    XLEAVE = 0x80
    BURST = 0x100
    NTS = 0x200
    COPY = 0x400
    EXTFIELD_F323 = 0x800
    EXTFIELD_F324 = 0x1000
    IPV4 = 0x2000
    IPV6 = 0x4000


class SelectOption:
    """Bits of `ModifySelectOpts.mask` and of the options in SELECT_DATA."""

    NOSELECT = 0x1
    PREFER = 0x2
    TRUST = 0x4
    REQUIRE = 0x8
