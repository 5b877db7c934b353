"""What changed between two configurations, and what it takes for a running daemon to follow.

Only effects count: a line that moved or was written differently is no change. Sources are compared by kind,
name and all options; of equal ones, as many are kept as both sides have.
"""

from __future__ import annotations

from collections import Counter

from ntpd_fast._record import dataclass, fields
from ntpd_fast.config.directives import DIRECTIVES, Directive, Reload
from ntpd_fast.config.model import Config, SourceConfig


@dataclass(frozen=True, slots=True)
class SourceChanges:
    """Sources to remove first, then to add, in order; `kept` ones keep what they have learned."""

    removed: tuple[SourceConfig, ...]
    added: tuple[SourceConfig, ...]
    kept: tuple[SourceConfig, ...]


@dataclass(frozen=True, slots=True)
class ConfigChanges:
    """`fields` of Config that differ; `directives` that set them; `sources` of the main files."""

    fields: frozenset[str]
    directives: tuple[Directive, ...]
    sources: SourceChanges

    @property
    def reload(self) -> Reload:
        """The heaviest of the ways the changed directives need; IN_PLACE when nothing changed."""
        return max((row.reload for row in self.directives), key=lambda way: way.value, default=Reload.IN_PLACE)

    def needing(self, way: Reload) -> tuple[str, ...]:
        """Names of the changed directives that need exactly this way."""
        return tuple(row.name for row in self.directives if row.reload is way)


def compare_sources(old: tuple[SourceConfig, ...], new: tuple[SourceConfig, ...]) -> SourceChanges:
    """Differences of two lists of sources (of a configuration, or of its `sourcedir` files)."""
    in_new = Counter(new)
    removed, kept = [], []
    for source in old:
        if in_new[source] > 0:
            in_new[source] -= 1
            kept.append(source)
        else:
            removed.append(source)
    in_old = Counter(old)
    added = []
    for source in new:
        if in_old[source] > 0:
            in_old[source] -= 1
        else:
            added.append(source)
    return SourceChanges(tuple(removed), tuple(added), tuple(kept))


def compare(old: Config, new: Config) -> ConfigChanges:
    """What must change in a daemon that runs with `old` to make it one that was started with `new`."""
    changed = frozenset(
        field.name
        for field in fields(Config)
        if field.compare and getattr(old, field.name) != getattr(new, field.name)
    )
    rows = tuple(
        row
        for row in DIRECTIVES.values()
        if row.alias_of is None
        and not changed.isdisjoint(row.fields)
        and (old.uses(row.name) or new.uses(row.name))
    )
    return ConfigChanges(changed, rows, compare_sources(old.sources, new.sources))
