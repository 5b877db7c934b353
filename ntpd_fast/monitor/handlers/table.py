"""All handlers by command number."""

from __future__ import annotations

from ..codec.commands import Number
from . import access, clock, lifecycle, reports, sources
from .row import Row

ROWS: dict[Number, Row] = {
    row.number: row for rows in (reports, sources, clock, access, lifecycle) for row in rows.ROWS
}
