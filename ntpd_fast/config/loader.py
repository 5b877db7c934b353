"""From files or arguments to the model.

Everything is checked while it is read: either a whole `Config` comes out or a `ConfigError` that names the
line. Nothing is printed and, apart from reading files and resolving names, nothing is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ntpd_fast.config.directives import DIRECTIVES, canonical
from ntpd_fast.config.errors import ConfigError
from ntpd_fast.config.kinds import Draft
from ntpd_fast.config.lexer import Budget, Line, read_lines, split_line
from ntpd_fast.config.model import Config, ConfigLine, Where
from ntpd_fast.config.resolve import Resolver, system_resolver

LEVEL_MAX = 10


class _Loader:
    def __init__(
        self, resolver: Resolver | None, strict: bool, on_line: Callable[[str], None] | None
    ) -> None:
        self._draft = Draft(resolver or system_resolver(), self.read, strict)
        self._on_line = on_line
        self._budget = Budget()
        self._level = 0
        self._lines: list[ConfigLine] = []
        self._first_uses: dict[str, Where] = {}

    def read(self, path: str) -> None:
        if self._level >= LEVEL_MAX:
            raise ConfigError("Maximum include level reached")
        self._level += 1
        for line in read_lines(path, self._budget):
            self.apply(line)
        self._level -= 1

    def apply(self, line: Line) -> None:
        self._budget.take_line(line.where)
        name = line.words[0]
        row = DIRECTIVES.get(name.lower())
        printed = row is None or row.printed
        if printed and self._on_line is not None:
            self._on_line(line.text)
        if row is None or (row.ours and self._draft.strict):
            raise ConfigError(f"Invalid directive {name}", line.where)
        row.kind.apply(line, self._draft, row.fields)
        used = canonical(row)
        self._first_uses.setdefault(used, line.where)
        if printed:
            self._lines.append(ConfigLine(used, line.text, line.where))

    def finish(self) -> Config:
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in self._draft.values.items()
        }
        return Config(
            **values,
            lines=tuple(self._lines),
            warnings=tuple(self._draft.warnings),
            first_uses=self._first_uses,
        )


def load(
    path: str,
    *,
    resolver: Resolver | None = None,
    strict: bool = False,
    on_line: Callable[[str], None] | None = None,
) -> Config:
    """Read a configuration file with everything it includes.

    `resolver` finds the addresses of host names in access rules and initstepslew (default: ask the system,
    which blocks). `strict` refuses what chrony would refuse: our own directives and the mistakes we forgive.
    `on_line` is called with the normalised text of each line that counts, before it is understood.

    Raises ConfigError.
    """
    loader = _Loader(resolver, strict, on_line)
    loader.read(path)
    return loader.finish()


def parse_lines(
    lines: Sequence[str],
    *,
    resolver: Resolver | None = None,
    strict: bool = False,
    on_line: Callable[[str], None] | None = None,
) -> Config:
    """Read directives given as arguments; a line is known by its ordinal. Otherwise as `load`."""
    loader = _Loader(resolver, strict, on_line)
    for number, text in enumerate(lines, 1):
        raw = text.encode("utf-8", "surrogateescape")
        line = split_line(raw, None, number)
        if line is not None:
            loader.apply(line)
    return loader.finish()
