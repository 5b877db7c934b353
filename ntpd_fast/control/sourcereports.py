"""Reports on sources for the command protocol, and what of the commands concerns single sources."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from ntpd_fast.client.names import InvalidAddressError, InvalidNameError
from ntpd_fast.client.ntpsource import NtpSource
from ntpd_fast.client.packet import IPAddress, ntp64_to_ns
from ntpd_fast.client.source import SelectOption
from ntpd_fast.client.sourcerows import SourceMode
from ntpd_fast.client.sources import AlreadyInUseError, Sources, TooManySourcesError
from ntpd_fast.client.stamps import StampSource
from ntpd_fast.config.model import SourceConfig
from ntpd_fast.monitor.backend import CommandFailed, SourceMatch
from ntpd_fast.monitor.codec.address import UNSPECIFIED, Address
from ntpd_fast.monitor.codec.commands import Status
from ntpd_fast.monitor.codec.replies import (
    NEVER,
    Activity,
    AuthData,
    NtpData,
    NtpDataFlag,
    SelectData,
    SourceData,
    SourceStats,
)
from ntpd_fast.system.messages import Log, Severity

_STATE_NUMBERS = {"*": 0, "?": 1, "x": 2, "~": 3, "+": 4, "-": 5}
_NO_STATS_SD_S = 4.0
_POLL_MIN, _POLL_MAX = -7, 24


class Names(Protocol):
    """The part of the daemon that turns names into sources: it owns adding and removing."""

    def add(self, config: SourceConfig) -> None:
        """Raises `client.sources.AddSourceError`."""

    def remove(self, source: NtpSource) -> None: ...
    def refresh(self) -> None: ...
    def reload(self) -> None: ...
    def resolve_now(self) -> None:
        """Try the names again that have no address yet."""


def wire_address(source: NtpSource) -> Address:
    """The address of a source as the protocol has it: an IP address, or ID#number."""
    return Address.source_id(source.number) if source.address is None else Address.from_ip(source.address)


def _ip_or_unspec(address: IPAddress | None) -> Address:
    return UNSPECIFIED if address is None else Address.from_ip(address)


def _whole_seconds(age_s: float) -> int:
    return min(max(int(age_s), 0), NEVER - 1)


class SourceBackend:
    """`SourceReports` and `SourceControl` of the command protocol over the set of sources."""

    def __init__(self, sources: Sources, names: Names, era_start_s: int, log: Log) -> None:
        self._sources = sources
        self._names = names
        self._era_start_s = era_start_s
        self._log = log

    def source_count(self) -> int:
        return len(self._sources.source_rows())

    def source_data(self, index: int) -> SourceData:
        row = self._sources.source_rows()[index]
        if row.mode is SourceMode.REFCLOCK:
            address = Address.from_refid(row.refid)
        elif row.address is None:
            address = Address.source_id(row.number)
        else:
            address = Address.from_ip(row.address)
        sample = row.sample
        return SourceData(
            ip_addr=address,
            poll=row.poll,
            stratum=row.stratum,
            state=_STATE_NUMBERS[row.state.column],
            mode=row.mode,
            reachability=row.reach,
            since_sample=NEVER if sample is None else _whole_seconds(sample.last_sample_ago_s),
            orig_latest_meas=0.0 if sample is None else sample.original_offset_s,
            latest_meas=0.0 if sample is None else sample.offset_s,
            latest_meas_err=0.0 if sample is None else sample.offset_error_s,
        )

    def source_stats(self, index: int) -> SourceStats:
        row = self._sources.stats_rows()[index]
        stats = row.stats
        return SourceStats(
            ref_id=row.refid,
            ip_addr=UNSPECIFIED if row.mode is SourceMode.REFCLOCK else self._listed_address(index, row.address),
            n_samples=stats.n_samples,
            n_runs=stats.n_runs,
            span_seconds=_whole_seconds(stats.span_s),
            sd=stats.std_dev_s,
            resid_freq_ppm=stats.residual_frequency * 1e6,
            skew_ppm=stats.skew * 1e6,
            est_offset=stats.offset_s,
            est_offset_err=stats.offset_error_s,
        )

    def select_data(self, index: int) -> SelectData:
        row = self._sources.select_rows()[index]
        report = row.report
        return SelectData(
            ref_id=row.refid,
            ip_addr=UNSPECIFIED if row.mode is SourceMode.REFCLOCK else self._listed_address(index, row.address),
            state_char=report.state.value,
            authentication=report.authenticated,
            leap=report.leap,
            conf_options=report.configured_options,
            eff_options=report.options,
            last_sample_ago=_whole_seconds(report.last_sample_ago_s),
            score=report.score,
            lo_limit=report.offset_lo_s,
            hi_limit=report.offset_hi_s,
        )

    def ntp_data(self, address: Address) -> NtpData:
        source = self._find(address)
        report = self._sources.ntp_report(source)
        last, counts = report.last, report.counts
        fields = {
            "remote_addr": wire_address(source),
            "local_addr": _ip_or_unspec(report.local_address),
            "remote_port": source.port,
            "total_tx_count": counts.tx,
            "total_rx_count": counts.rx,
            "total_valid_count": counts.valid,
            "total_good_count": counts.good,
            "total_kernel_tx_ts": counts.kernel_tx,
            "total_kernel_rx_ts": counts.kernel_rx,
            "total_hw_tx_ts": counts.hardware_tx,
            "total_hw_rx_ts": counts.hardware_rx,
        }
        nothing: dict[str, object] = dict.fromkeys(NtpData._fields, 0)
        nothing |= {"tx_tss_char": "", "rx_tss_char": ""}
        if last is None:
            return NtpData(**(nothing | fields))  # type: ignore[arg-type]
        header, sample = last.header, last.sample
        flags = int(last.tests)
        if last.interleaved:
            flags |= NtpDataFlag.INTERLEAVED
        if last.authenticated:
            flags |= NtpDataFlag.AUTHENTICATED
        fields |= {
            "leap": header.leap,
            "version": header.version,
            "mode": header.mode,
            "stratum": header.stratum,
            "poll": header.poll,
            "precision": header.precision,
            "root_delay": last.root_delay_s,
            "root_dispersion": last.root_dispersion_s,
            "ref_id": header.refid,
            "ref_time_ns": ntp64_to_ns(header.reference_ts, self._era_start_s),
            "offset": 0.0 if sample is None else sample.offset_s,
            "peer_delay": 0.0 if sample is None else sample.peer_delay_s,
            "peer_dispersion": 0.0 if sample is None else sample.peer_dispersion_s,
            "response_time": last.response_time_s,
            "jitter_asymmetry": source.selectable.stats.asymmetry,
            "flags": flags,
            "tx_tss_char": _letter(last.tx_source),
            "rx_tss_char": _letter(last.rx_source),
        }
        return NtpData(**(nothing | fields))  # type: ignore[arg-type]

    def auth_data(self, address: Address) -> AuthData:
        report = self._sources.auth_report(self._find(address))
        ago_s = report.last_ke_ago_s
        return AuthData(
            mode=report.mode,
            key_type=report.key_type,
            key_id=report.key_id,
            key_length=report.key_length_bits,
            ke_attempts=report.ke_attempts,
            last_ke_ago=NEVER if ago_s is None else _whole_seconds(ago_s),
            cookies=report.cookies,
            cookie_length=report.cookie_length,
            nak=int(report.nak),
        )

    def source_name(self, address: Address) -> str:
        return self._find(address).config.name

    def activity(self) -> Activity:
        report = self._sources.activity()
        return Activity(
            report.online, report.offline, report.burst_online, report.burst_offline, report.unresolved
        )

    def set_online(self, match: SourceMatch) -> bool:
        self._names.resolve_now()
        return self._sources.switch_online(_matcher(match))

    def set_offline(self, match: SourceMatch) -> bool:
        return self._sources.switch_offline(_matcher(match))

    def burst(self, match: SourceMatch, n_good: int, n_total: int) -> bool:
        return self._sources.burst(_matcher(match), n_good, n_total)

    def online_by_route(self) -> None:
        self._sources.follow_routes()

    def set_minpoll(self, address: Address, minpoll: int | None) -> None:
        source = self._find(address)
        if minpoll is not None and _POLL_MIN <= minpoll <= _POLL_MAX:
            poll = source.association.poll
            maxpoll = poll.maxpoll
            poll.set_minpoll(minpoll)
            self._say(source, f"new minpoll {minpoll}")
            if poll.maxpoll != maxpoll:
                self._say(source, f"new maxpoll {poll.maxpoll}")

    def set_maxpoll(self, address: Address, maxpoll: int | None) -> None:
        source = self._find(address)
        if maxpoll is not None and _POLL_MIN <= maxpoll <= _POLL_MAX:
            poll = source.association.poll
            minpoll = poll.minpoll
            poll.set_maxpoll(maxpoll)
            self._say(source, f"new maxpoll {maxpoll}")
            if poll.minpoll != minpoll:
                self._say(source, f"new minpoll {poll.minpoll}")

    def set_maxdelay_s(self, address: Address, maxdelay_s: float) -> None:
        source = self._find(address)
        source.association.limits = replace(source.association.limits, max_delay_s=min(max(maxdelay_s, 0.0), 1e3))
        self._say(source, f"new maxdelay {source.association.limits.max_delay_s:f}")

    def set_maxdelayratio(self, address: Address, ratio: float) -> None:
        source = self._find(address)
        source.association.limits = replace(source.association.limits, max_delay_ratio=min(max(ratio, 0.0), 1e6))
        self._say(source, f"new maxdelayratio {source.association.limits.max_delay_ratio:f}")

    def set_maxdelaydevratio(self, address: Address, ratio: float) -> None:
        source = self._find(address)
        source.association.limits = replace(source.association.limits, max_delay_dev_ratio=min(max(ratio, 0.0), 1e6))
        self._say(source, f"new maxdelaydevratio {source.association.limits.max_delay_dev_ratio:f}")

    def set_minstratum(self, address: Address, stratum: int) -> None:
        source = self._find(address)
        source.association.min_stratum = stratum
        self._say(source, f"new minstratum {stratum}")

    def set_polltarget(self, address: Address, samples: int) -> None:
        source = self._find(address)
        source.association.poll_target = samples
        self._say(source, f"new polltarget {samples}")

    def set_offset_s(self, address: Address, offset_s: float) -> None:
        source = self._find(address)
        source.association.offset_s = offset_s
        self._say(source, f"new offset {offset_s:f}")

    def set_refclock_offset_s(self, ref_id: int, offset_s: float) -> None:
        raise CommandFailed(Status.NO_SUCH_SOURCE)

    def modify_select_options(self, address: Address, mask: int, options: int) -> None:
        selectable = self._find(address).selectable
        new = SelectOption((selectable.configured_options & ~mask) | options)
        self._sources.set_select_options(selectable, new)

    def modify_refclock_select_options(self, ref_id: int, mask: int, options: int) -> None:
        raise CommandFailed(Status.NO_SUCH_SOURCE)

    def add_source(self, source: SourceConfig) -> None:
        try:
            self._names.add(source)
        except AlreadyInUseError:
            raise CommandFailed(Status.SOURCE_ALREADY_KNOWN) from None
        except TooManySourcesError:
            raise CommandFailed(Status.TOO_MANY_SOURCES) from None
        except InvalidNameError:
            raise CommandFailed(Status.INVALID_NAME) from None
        except InvalidAddressError:
            raise CommandFailed(Status.INVALID_ADDRESS_FAMILY) from None

    def delete_source(self, address: Address) -> None:
        self._names.remove(self._find(address))

    def refresh(self) -> None:
        self._names.refresh()

    def reload_sources(self) -> None:
        self._names.reload()

    def reset_sources(self) -> None:
        self._sources.reset_all()

    def reselect(self) -> None:
        self._sources.reselect()

    def set_reselect_distance_s(self, distance_s: float) -> None:
        self._sources.selector.set_reselect_distance(distance_s)
        self._log(Severity.INFO, f"New reselect distance {distance_s:f}")

    def _find(self, address: Address) -> NtpSource:
        for source in self._sources.ntp_sources:
            if wire_address(source) == address:
                return source
        raise CommandFailed(Status.NO_SUCH_SOURCE)

    def _listed_address(self, index: int, address: IPAddress | None) -> Address:
        if address is not None:
            return Address.from_ip(address)
        return Address.source_id(self._sources.source_rows()[index].number)

    def _say(self, source: NtpSource, change: str) -> None:
        self._log(Severity.INFO, f"Source {source.text} {change}")


def _letter(source: StampSource) -> str:
    return source.value


def _matcher(match: SourceMatch) -> Callable[[NtpSource], bool]:
    return lambda source: match.covers(wire_address(source))


def parse_literal(name: str) -> IPAddress | None:
    """The address a source is named by, None for a host name."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
