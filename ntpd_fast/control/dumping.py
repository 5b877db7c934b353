"""Measurements that outlive the daemon (`dumpdir`), tied to sources and names."""

from __future__ import annotations

from ntpd_fast.client.dumps import DumpDirectory, DumpReload, Dumps
from ntpd_fast.client.names import Names
from ntpd_fast.client.sources import Sources
from ntpd_fast.system.messages import Log


class Dumping:
    """Writes the samples of all sources when told to, and at the end; loads them once, at the start."""

    def __init__(self, directory: str | None, sources: Sources, log: Log) -> None:
        """`directory`: `dumpdir`."""
        self._sources = sources
        self._log = log
        self.reconfigure(directory)

    def reconfigure(self, directory: str | None) -> None:
        """Write to another directory from now on; None: to none."""
        self._dumps = None if directory is None else Dumps(DumpDirectory(directory), self._log)

    def load(self, names: Names, *, wanted: bool) -> None:
        """At the start: load what there is (`wanted`: `-r`) as sources get their addresses, and remove it."""
        if self._dumps is None:
            return
        reload = DumpReload(self._dumps, self._sources, wanted=wanted)
        names.on_first_address = lambda source: reload.load(source.selectable)
        names.on_first_round = reload.finish

    def save(self) -> None:
        """Write the samples there are."""
        if self._dumps is not None:
            self._dumps.save(self._sources.selector.sources)
