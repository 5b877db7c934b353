"""server, pool and peer lines, and the directories of files that hold nothing else.

A `*.sources` file is written by scripts: any line that is not a good source line is passed over, and the rest
of the file still counts. What was passed over is told once, in a bounded number of notes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ntpd_fast._record import dataclass
from ntpd_fast.config.errors import ConfigError
from ntpd_fast.config.kinds import Draft, invalid
from ntpd_fast.config.lexer import LINE_SIZE_MAX, Budget, Line, physical_lines, read_file, split_line
from ntpd_fast.config.model import SourceConfig, SourceKind, Where
from ntpd_fast.config.options import SOURCE_OPTIONS, BadValue, OptionTable, UnknownOption, read_source_options
from ntpd_fast.config.paths import DIRECTORIES_MAX, files_in
from ntpd_fast.config.words import Scanner

SOURCES_MAX = 20_000
NOTES_MAX = 10


@dataclass(frozen=True, slots=True)
class Source:
    """`NAME [OPTION]...`; every line counts."""

    kind: SourceKind
    syntax: ClassVar[str] = "NAME [OPTION]..."
    options: ClassVar[OptionTable] = SOURCE_OPTIONS

    def read(self, line: Line, draft: Draft) -> SourceConfig:
        if len(line.words) < 2:
            raise ConfigError(f"Invalid syntax for {line.words[0]} directive", line.where)
        options = line.words[2:]
        if self.kind is SourceKind.SERVER and not draft.strict and options[:1] == ["local"]:
            # Documentation of RHEL 10 prints "server ntp.example.com local ..." for the host ntp.local.
            draft.warn(f"Ignored word local in {line.words[0]} directive {line.where}: it is no option there")
            options = options[1:]
        try:
            parsed = read_source_options(Scanner(options), draft.unusable(line))
        except UnknownOption as error:
            raise invalid("option", line) from error
        except BadValue as error:
            raise invalid("value", line) from error
        return SourceConfig(self.kind, line.words[1], parsed, line.where)

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        draft.add(fields[0], self.read(line, draft))


_KINDS = {kind.value: Source(kind) for kind in SourceKind}


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """What the directories of `sourcedir` hold at one time."""

    sources: tuple[SourceConfig, ...]
    notes: tuple[str, ...]
    """Warnings: files that could not be read, lines that were passed over, bounds that were reached."""


def _no_resolver(name: str) -> None:
    return None


def _no_include(path: str) -> None:
    raise AssertionError(path)


def read_sourcedirs(sourcedirs: Sequence[Sequence[str]]) -> SourceFiles:
    """Sources of all `sourcedir` directives, in order: by directive, then by file name, then by line.

    Never raises: a list of more than ten directories holds nothing, a file that cannot be read neither.
    """
    sources: list[SourceConfig] = []
    notes: list[str] = []
    budget = Budget(files_max=SOURCES_MAX)
    for directories in sourcedirs:
        if not 1 <= len(directories) <= DIRECTORIES_MAX:
            continue
        for path in files_in(directories, ".sources"):
            try:
                _read_sources_file(path, budget, sources, notes)
            except ConfigError as error:
                _note(notes, str(error))
    return SourceFiles(tuple(sources), tuple(notes))


def _note(notes: list[str], text: str) -> None:
    if len(notes) < NOTES_MAX:
        notes.append(text)
    elif len(notes) == NOTES_MAX:
        notes.append("More lines of files with sources were ignored")


def _read_sources_file(path: str, budget: Budget, sources: list[SourceConfig], notes: list[str]) -> None:
    draft = Draft(_no_resolver, _no_include)
    for number, raw, terminated in physical_lines(read_file(path, budget, regular=True)):
        where = Where(path, number)
        if not terminated or len(raw) + 1 > LINE_SIZE_MAX:
            # A script may still be writing it; chrony ends the file here too.
            if raw.strip():
                _note(notes, f"Ignored unfinished line {where}")
            return
        try:
            line = split_line(raw, path, number)
            if line is None:
                continue
            kind = _KINDS.get(line.words[0].lower())
            if kind is None:
                raise ConfigError(f"{line.words[0]} is no source", where)
            source = kind.read(line, draft)
        except ConfigError as error:
            _note(notes, f"Ignored line: {error}")
            continue
        if len(sources) >= SOURCES_MAX:
            raise ConfigError(f"Ignored sources beyond {SOURCES_MAX}", where)
        sources.append(source)
    for warning in draft.warnings:
        _note(notes, warning)
