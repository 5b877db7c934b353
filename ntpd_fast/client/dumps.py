"""Dump files: what was measured of each source, kept over a restart (`dumpdir`, `dump`, `-r`).

A file is a register of samples behind a header that says whose they are and how the source stood; the format is
that of chrony. It is believed only as a whole, only for the source it was written for, and not when that source
is authenticated now and was not then: anything else in the directory may have been put there by somebody.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Protocol

from ntpd_fast.client.source import REACH_BITS, SelectableSource, SourceKind, refid_text
from ntpd_fast.client.sources import Sources
from ntpd_fast.client.sourcestats import MAX_SAMPLES
from ntpd_fast.clock.driver import Leap
from ntpd_fast.config.resolve import parse_address
from ntpd_fast.system.errors import why
from ntpd_fast.system.files import read_bounded, write_atomically
from ntpd_fast.system.messages import Log, Severity

MAGIC = "SRC0"
REFCLOCK_NAME = "."
HEADER_LINES = 3
MAX_STRATUM = 15
MAX_SIZE = 1024 + 256 * MAX_SAMPLES
"""Bytes; no file of ours is longer."""

FILE_MODE = 0o644
MAX_ENTRIES = 200_000
"""Names of a directory that are looked at when dump files are removed: more than there can be sources."""

_STATUS = re.compile(r"([01]) ([0-7]{1,3}) (\d) (\d{1,2}) ([0-2])")
_REFID_FILE = re.compile(r"refid:[0-9a-fA-F]{1,8}")
_SUFFIX = ".dat"


class DumpStore(Protocol):
    """Where dump files are; names have no directory. OSError as it comes."""

    def write(self, name: str, data: bytes) -> None:
        """Replace a file."""

    def read(self, name: str) -> bytes | None:
        """The bytes of a file, None if there is none; ValueError for what can't be a dump file."""

    def remove_all(self) -> None:
        """Remove every file that has the name of a dump file."""


class DumpDirectory:
    """`DumpStore` in a directory (`dumpdir`)."""

    def __init__(self, path: str) -> None:
        self.path = path

    def write(self, name: str, data: bytes) -> None:
        """See `DumpStore`."""
        write_atomically(os.path.join(self.path, name), data, FILE_MODE, durable=False)

    def read(self, name: str) -> bytes | None:
        """See `DumpStore`."""
        try:
            return read_bounded(os.path.join(self.path, name), MAX_SIZE)[0]
        except FileNotFoundError:
            return None

    def remove_all(self) -> None:
        """See `DumpStore`."""
        with os.scandir(self.path) as entries:
            names = [entry.name for _, entry in zip(range(MAX_ENTRIES), entries, strict=False)]
        for name in names:
            if is_dump_name(name):
                os.unlink(os.path.join(self.path, name))


def is_dump_name(name: str) -> bool:
    """Whether a file is called as if it were a dump file: `ADDRESS.dat` or `refid:HEX.dat`."""
    stem = name.removesuffix(_SUFFIX)
    return stem != name and (parse_address(stem) is not None or _REFID_FILE.fullmatch(stem) is not None)


def dump_name(source: SelectableSource) -> str | None:
    """The name of a source's dump file; None as long as it has no address."""
    if source.kind is SourceKind.REFCLOCK:
        return f"refid:{source.refid:08x}{_SUFFIX}"
    return f"{source.address}{_SUFFIX}" if source.address is not None else None


def dump_text(source: SelectableSource) -> str:
    """The content of a source's dump file."""
    status = f"{source.authenticated:d} {source.reach:o} {source.reach_size} {source.stratum} {source.leap:d}"
    name = REFCLOCK_NAME if source.kind is SourceKind.REFCLOCK else source.name
    return "\n".join((MAGIC, name, status, *source.stats.dump_lines(), ""))


def load_text(source: SelectableSource, text: str, now_ns: int) -> bool:
    """Take over what was dumped of a source; False (and nothing is known of it) where that can't be believed.

    `now_ns`: cooked time; samples of the future are not believed.
    """
    lines = text.split("\n")
    name = REFCLOCK_NAME if source.kind is SourceKind.REFCLOCK else source.name
    if len(lines) < HEADER_LINES + 2 or lines.pop() != "" or lines[:2] != [MAGIC, name]:
        return False
    status = _STATUS.fullmatch(lines[2])
    if status is None:
        return False
    authenticated, reach, reach_size, stratum, leap = status.groups()
    if (
        (source.authenticated and authenticated == "0")
        or int(reach, 8) >> REACH_BITS
        or int(reach_size) > REACH_BITS
        or int(stratum) > MAX_STRATUM
        or not source.stats.load_lines(lines[HEADER_LINES:], now_ns)
    ):
        return False
    source.reach = int(reach, 8)
    source.reach_size = int(reach_size)
    source.set_status(int(stratum), Leap(int(leap)))
    return True


class Dumps:
    """Saves and loads what the sources of a daemon have measured."""

    def __init__(self, store: DumpStore, log: Log) -> None:
        self._store = store
        self._log = log

    def save(self, sources: Iterable[SelectableSource]) -> None:
        """Write a file for each source that has measured something; what fails is told in one line."""
        failures = 0
        reason = ""
        for source in sources:
            name = dump_name(source)
            if name is None or not source.stats.n_samples:
                continue
            try:
                self._store.write(name, dump_text(source).encode())
            except OSError as error:
                failures += 1
                reason = f"{name} : {why(error)}"
        if failures:
            more = f" (and {failures - 1} more)" if failures > 1 else ""
            self._log(Severity.ERROR, f"Could not write dump file {reason}{more}")

    def load(self, source: SelectableSource, now_ns: int) -> bool:
        """Take over a source's file, if there is one, at a cooked time."""
        name = dump_name(source)
        if name is None:
            return False
        shown = refid_text(source.refid) if source.kind is SourceKind.REFCLOCK else str(source.address)
        try:
            data = self._store.read(name)
            if data is None:
                return False
            loaded = load_text(source, data.decode("ascii"), now_ns)
        except (OSError, ValueError):
            loaded = False
        if loaded:
            self._log(Severity.INFO, f"Loaded dump file for {shown}")
        else:
            self._log(Severity.WARNING, f"Could not load dump file for {shown}")
        return loaded

    def remove_all(self) -> None:
        """Remove all files: they are old once the daemon measures by itself."""
        try:
            self._store.remove_all()
        except OSError as error:
            self._log(Severity.WARNING, f"Could not remove dump files : {why(error)}")


class DumpReload:
    """The start of a daemon with `dumpdir`: load the files of sources that get their first address (with `-r`),
    believe all that was loaded together, and remove the files (always).

    `load` is made for `Names.on_first_address` and is to be called for reference clocks, `finish` for
    `Names.on_first_round`.
    """

    def __init__(self, dumps: Dumps, sources: Sources, *, wanted: bool) -> None:
        """`wanted`: the option `-r`."""
        self._dumps = dumps
        self._sources = sources
        self._open = wanted
        self._loaded: list[SelectableSource] = []

    def load(self, source: SelectableSource) -> None:
        """Load the file of a source unless the start is over."""
        if self._open and self._dumps.load(source, self._sources.now().cooked_ns):
            self._loaded.append(source)

    def finish(self) -> None:
        """The start is over."""
        self._open = False
        loaded, self._loaded = self._loaded, []
        self._sources.adopt_loaded(loaded)
        self._dumps.remove_all()
