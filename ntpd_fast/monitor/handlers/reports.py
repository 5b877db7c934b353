"""Reports: clock, sources, server statistics, clients."""

from __future__ import annotations

from ..backend import ClientReports, CommandFailed, FaultReports, ServerStatistics, SourceReports, TrackingReports
from ..codec import replies as rep
from ..codec import requests as req
from ..codec.commands import Number, Status
from .row import Row


def _tracking(backend: TrackingReports, _: req.Nothing) -> rep.Tracking:
    return backend.tracking()


def _server_stats(backend: ServerStatistics, _: req.Nothing) -> rep.ServerStats:
    return backend.server_stats()


def _n_sources(backend: SourceReports, _: req.Nothing) -> rep.SourceCount:
    return rep.SourceCount(backend.source_count())


def _checked(backend: SourceReports, request: req.Index) -> int:
    if not 0 <= request.position < backend.source_count():
        raise CommandFailed(Status.NO_SUCH_SOURCE)
    return request.position


def _source_data(backend: SourceReports, request: req.Index) -> rep.SourceData:
    return backend.source_data(_checked(backend, request))


def _source_stats(backend: SourceReports, request: req.Index) -> rep.SourceStats:
    return backend.source_stats(_checked(backend, request))


def _select_data(backend: SourceReports, request: req.Index) -> rep.SelectData:
    return backend.select_data(_checked(backend, request))


def _activity(backend: SourceReports, _: req.Nothing) -> rep.Activity:
    return backend.activity()


def _ntp_data(backend: SourceReports, request: req.OneAddress) -> rep.NtpData:
    return backend.ntp_data(request.address)


def _auth_data(backend: SourceReports, request: req.OneAddress) -> rep.AuthData:
    return backend.auth_data(request.address)


def _source_name(backend: SourceReports, request: req.OneAddress) -> rep.SourceName:
    return rep.SourceName(backend.source_name(request.address).encode())


def _clients(backend: ClientReports, request: req.ClientAccesses) -> rep.ClientAccesses:
    return backend.client_accesses(
        request.first_index,
        min(request.n_clients, rep.CLIENTS_PER_REPLY),
        request.min_hits,
        bool(request.reset),
    )


def _faults(backend: FaultReports, _: req.Nothing) -> rep.Faults:
    return backend.faults()


def _no_sources(_: req.Nothing) -> rep.SourceCount:
    return rep.SourceCount(0)


def _no_activity(_: req.Nothing) -> rep.Activity:
    return rep.Activity(0, 0, 0, 0, 0)


def _resets(request: req.ClientAccesses) -> bool:
    return request.reset != 0


ROWS = (
    Row(Number.TRACKING, "tracking", _tracking),
    Row(Number.SERVER_STATS, "statistics", _server_stats),
    Row(Number.N_SOURCES, "sources", _n_sources, _no_sources),
    Row(Number.SOURCE_DATA, "sources", _source_data, Status.NO_SUCH_SOURCE),
    Row(Number.SOURCESTATS, "sources", _source_stats, Status.NO_SUCH_SOURCE),
    Row(Number.SELECT_DATA, "sources", _select_data, Status.NO_SUCH_SOURCE),
    Row(Number.ACTIVITY, "sources", _activity, _no_activity),
    Row(Number.NTP_DATA, "sources", _ntp_data, Status.NO_SUCH_SOURCE),
    Row(Number.AUTH_DATA, "sources", _auth_data, Status.NO_SUCH_SOURCE),
    Row(Number.NTP_SOURCE_NAME, "sources", _source_name, Status.NO_SUCH_SOURCE),
    Row(Number.CLIENT_ACCESSES_BY_INDEX3, "clients", _clients, Status.INACTIVE, _resets),
    Row(Number.FAULTS, "faults", _faults, Status.INVALID),
)
