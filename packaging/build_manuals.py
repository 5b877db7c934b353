"""Write the manual pages, made from the tables that the programs read: build_manuals.py DIRECTORY.

The pages are docs/manual/*.in, where a line `.\\"@ NAME [ARGUMENT]` stands for what a function of `PARTS` makes of a
table. What there is to say beyond a table's row is in docs/manual/*.mdoc (the format is explained there). Syntax,
ranges and defaults come from the parser and its model alone: a text cannot contradict them. Run from the top of the
tree, with the modules of the build on PYTHONPATH.
"""

import argparse
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from loadtest.cli import parser as loadtest_parser
from ntpd_fast import __version__
from ntpd_fast.cli.ntpc.help import HELP, OWN_HELP, usage
from ntpd_fast.cli.ntpc.reports.sources import AUTHDATA, SELECTDATA, SOURCES, SOURCESTATS
from ntpd_fast.cli.options import ROWS, STRICT
from ntpd_fast.config.directives import GROUPS, Directive, Reload, options_of
from ntpd_fast.config.kinds import Flag, Obsolete
from ntpd_fast.config.model import (
    Config,
    DriftFile,
    HwTimestampOptions,
    KernelClockOptions,
    LocalOptions,
    RatelimitOptions,
    RefclockConfig,
    SourceOptions,
)
from ntpd_fast.config.optioned import DriftFileKind, HwTimestamp, KernelClockKind, Local, Ratelimit, Refclock
from ntpd_fast.config.options import Flag as FlagOption
from ntpd_fast.config.options import Option, OptionTable
from ntpd_fast.config.sources import Source
from ntpd_fast.config.support import SUPPORT, Support
from ntpd_fast.config.words import INT_MAX, INT_MIN

ROOT = Path(__file__).parents[1]
TEXTS = ROOT / "docs" / "manual"
UNITS = {"_s": " seconds", "_ppm": " ppm", "_bytes": " bytes", "_hz": " Hz"}
DAY_S = 86400
REPORTS = {"sources": SOURCES, "sourcestats": SOURCESTATS, "selectdata": SELECTDATA, "authdata": AUTHDATA}

_TOKEN = re.compile(r"\s+|<[^<>]*>|\.\.\.|\[|\]|\||[^\s<>\[\]|.]+(?:\.(?!\.\.)[^\s<>\[\]|.]*)*")


def escape(text: str) -> str:
    """A word or a sentence as it stands, for roff."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def prose(text: str) -> str:
    """A sentence of a table, a line of its own."""
    text = text.replace("\\", "\\e").replace(" -", " \\-").replace("(-", "(\\-").replace("'", "\\(aq")
    return f"\\&{text}" if text.startswith(".") else text


def syntax(text: str) -> str:
    """`NAME [OPTION]... <word>|literal` as macros for the head of an item. Upper case and <words> are stand-ins."""
    macros: list[str] = []
    glued = False
    for token in _TOKEN.findall(text):
        if token.isspace():
            glued = False
            continue
        if token == "|":
            macros.append("|")
            glued = False
            continue
        if token == "]":
            macros.append("Oc")
            glued = True
            continue
        if glued:
            macros.append("Ns")
        if token == "[":
            macros.append("Oo")
        elif token == "...":
            macros.append("No ...")
        elif token.startswith("<"):
            macros.append(f"Ar {escape(token[1:-1])}")
        elif token in ("/", ":"):
            macros.append(f"No \\&{token}")
        elif token.startswith(":") and token.isupper():
            macros.append(f"No \\&: Ns Ar {token[1:]}")
        elif token.isupper():
            macros.append(f"Ar {token}")
        else:
            macros.append(f"Cm {escape(token)}")
        glued = token != "["
    return " ".join(macros)


class Texts:
    """The texts of one .mdoc file by name. A text that no row asks for is a mistake, as is a row without one."""

    def __init__(self, path: Path) -> None:
        self._texts: dict[str, str] = {}
        self._defaults: dict[str, str] = {}
        self._used: set[str] = set()
        self.path = path
        name = ""
        for line in path.read_text().splitlines():
            if line.startswith('.\\"') and not name:
                continue
            if line.startswith("@default "):
                self._defaults[name] = line.removeprefix("@default ")
            elif line.startswith("@"):
                name = line[1:]
                if name in self._texts:
                    raise ValueError(f"{path}: {name} is there twice")
                self._texts[name] = ""
            else:
                self._texts[name] += line + "\n"

    def has(self, name: str) -> bool:
        return name in self._texts

    def of(self, name: str, *, required: bool = True) -> str:
        """The text; empty where there is none and none is required."""
        self._used.add(name)
        if name not in self._texts and required:
            raise ValueError(f"{self.path}: nothing about {name}")
        return self._texts.get(name, "")

    def default(self, name: str) -> str | None:
        self._used.add(name)
        return self._defaults.get(name)

    def unused(self) -> set[str]:
        return set(self._texts) - self._used


def value(content: Any, field: str) -> str:
    """A value of the model, with its unit."""
    if isinstance(content, Enum):
        return str(content.value)
    if isinstance(content, frozenset):
        return " ".join(sorted(str(member.value) for member in content))
    if isinstance(content, tuple):
        return " ".join(map(str, content))
    if is_dataclass(content):
        return " ".join(value(getattr(content, part.name), part.name) for part in fields(content))
    unit = next((unit for suffix, unit in UNITS.items() if field.endswith(suffix)), "")
    number = f"{content:g}" if isinstance(content, float) else str(content)
    if unit == UNITS["_s"] and content >= DAY_S and content % DAY_S == 0:
        unit += f" ({content // DAY_S} days)"
    return escape(number) + unit


def is_nothing(content: Any) -> bool:
    """Whether the model says only that the directive was not given."""
    return content is None or content in ((), frozenset())


def default_of(content: Any, field: str, texts: Texts, name: str) -> str:
    """What holds when a row is not given: from the model, or from the text where the model has no value."""
    told = texts.default(name)
    if is_nothing(content):
        if told is None:
            raise ValueError(f"{texts.path}: @default of {name} is missing")
        return told
    if told is not None:
        raise ValueError(f"{texts.path}: @default of {name} contradicts the model")
    return value(content, field)


def limits(kind: Any) -> str:
    """`A to B` of an integer's kind, as far as they are limits; empty for others."""
    low, high = getattr(kind, "low", None), getattr(kind, "high", None)
    if not isinstance(low, int) or not isinstance(high, int):
        return ""
    if low <= INT_MIN:
        return "" if high >= INT_MAX else f"at most {high}"
    return f"at least {escape(str(low))}" if high >= INT_MAX else f"{escape(str(low))} to {escape(str(high))}"


def option_defaults(row: Directive) -> Any:
    """The object of the model that holds the defaults of a line's options."""
    kind = row.kind
    if isinstance(kind, Ratelimit):
        return RatelimitOptions(kind.interval)
    made: dict[type, Callable[[], Any]] = {
        Source: SourceOptions,
        Refclock: lambda: RefclockConfig("", ""),
        Local: LocalOptions,
        KernelClockKind: KernelClockOptions,
        HwTimestamp: lambda: HwTimestampOptions(""),
        DriftFileKind: lambda: DriftFile(""),
    }
    return made[type(kind)]()


def option_item(option: Option, defaults: Any, texts: Texts, name: str) -> Iterator[str]:
    yield f".It Cm {escape(option.name)}" + (f" {syntax(option.value.syntax)}" if option.value.syntax else "")
    yield prose(option.description)
    yield from texts.of(name, required=False).splitlines()
    if isinstance(option.value, FlagOption) and texts.default(name) is None:
        return
    facts = [limits(option.value), f"default: {default_of(getattr(defaults, option.field), option.field, texts, name)}"]
    yield f"({', '.join(filter(None, facts))})"


def options(row: Directive, shown: dict[frozenset[str], Directive], texts: Texts) -> Iterator[str]:
    """The options of a line, or where the same ones are explained."""
    table: OptionTable = options_of(row)
    if not table:
        return
    defaults = option_defaults(row)
    # ntsratelimit and cmdratelimit have all options of ratelimit but one
    first = shown.setdefault(frozenset(table) - {"kod"}, row)
    yield ".Pp"
    if first is not row:
        others = option_defaults(first)
        yield "Options are those of"
        yield f".Ic {first.name} ."
        for option in table.values():
            if getattr(defaults, option.field) != getattr(others, option.field):
                yield "The default of"
                yield f".Cm {option.name}"
                yield f"is {value(getattr(defaults, option.field), option.field)}."
        return
    yield "Options:"
    yield ".Bl -tag -width Ds -compact"
    for option in table.values():
        yield from option_item(option, defaults, texts, f"{row.name} {option.name}")
    yield ".El"


def directive_facts(row: Directive, texts: Texts) -> Iterator[str]:
    facts = []
    if not isinstance(row.kind, Flag):
        content = getattr(Config(), row.fields[0])
        if row.fields[0] == "maxslewrate_ppm":
            content = round(content, 3)
        facts.append(f"Default: {default_of(content, row.fields[0], texts, row.name)}.")
        if bounds := limits(row.kind):
            facts.append(f"Range: {bounds}.")
    if row.reload is Reload.RESTART:
        facts.append("A change needs a restart.")
    if row.ours:
        facts.append("Not one of chrony's.")
    else:
        since = {"1.x": "version 1", "dev": "the version after 4.8"}.get(row.since, row.since)
        facts.append(f"In chrony since {since}.")
    yield ".Pp"
    yield from facts


def directive(row: Directive, shown: dict[frozenset[str], Directive], texts: Texts) -> Iterator[str]:
    arguments = syntax(row.kind.syntax) if row.kind.syntax and not isinstance(row.kind, Obsolete) else ""
    yield f".It Ic {escape(row.name)} {arguments}".rstrip()
    yield prose(row.description)
    yield from texts.of(row.name).splitlines()
    if SUPPORT[row.name] is Support.INERT:
        yield "This version reads the line and warns that it has no effect yet."
    if not row.fields or row.alias_of:
        return
    yield from directive_facts(row, texts)
    yield from options(row, shown, texts)


def directives() -> Iterator[str]:
    texts = Texts(TEXTS / "directives.mdoc")
    shown: dict[frozenset[str], Directive] = {}
    for title, rows in GROUPS:
        yield f".Ss {title}"
        yield ".Bl -tag -width Ds"
        for row in rows:
            yield from directive(row, shown, texts)
        yield ".El"
    complain(texts)


def complain(texts: Texts) -> None:
    if texts.unused():
        raise ValueError(f"{texts.path}: no row of a table asks for {', '.join(sorted(texts.unused()))}")


def daemon_options() -> Iterator[str]:
    texts = Texts(TEXTS / "daemon-options.mdoc")
    yield ".Bl -tag -width Ds"
    for letter, argument, description, _ in ROWS:
        long = {"v": " , Fl Fl version", "h": " , Fl Fl help"}.get(letter, "")
        yield f".It Fl {letter}{long}" + (f" Ar {argument}" if argument else "")
        yield prose(description) + "."
        yield from texts.of(f"-{letter}", required=False).splitlines()
    name, description = STRICT
    yield f".It Fl Fl {name[2:]}"
    yield prose(description) + "."
    yield from texts.of(name).splitlines()
    yield ".El"
    complain(texts)


def commands() -> Iterator[str]:
    texts = Texts(TEXTS / "commands.mdoc")
    for title, rows in HELP + OWN_HELP:
        yield f".Ss {title.rstrip(':')}"
        yield ".Bl -tag -width Ds"
        for place, (command, description) in enumerate(rows):
            word, _, arguments = command.partition(" ")
            head = f".It Ic {word.replace('|', ' | ')} {syntax(arguments)}".rstrip()
            yield head
            yield prose(description.replace("\n", " ")) + "."
            # a text of the whole command, else one that follows all commands of that word
            if texts.has(command):
                yield from texts.of(command).splitlines()
            elif place + 1 == len(rows) or rows[place + 1][0].split()[0] != word:
                yield from texts.of(word, required=False).splitlines()
        yield ".El"
    complain(texts)


def columns(report: str) -> Iterator[str]:
    """The title of a report's table under the explanation that -v prints."""
    yield ".Bd -literal"
    for line in ("".join(REPORTS[report].captions) + REPORTS[report].header).strip("\n").splitlines():
        yield "\\&" + line.rstrip().replace("\\", "\\e")
    yield ".Ed"


def control_options() -> Iterator[str]:
    """From the text of --help: lines `  -x ARG<tab>text`."""
    yield ".Bl -tag -width Ds"
    hosts = "the sockets of the daemon, then 127.0.0.1 and ::1"
    for line in usage("ntpc-fast", hosts, 323, extended=True).splitlines():
        head, tab, text = line.strip().partition("\t")
        if not tab or not head.startswith("-"):
            continue
        items = []
        for name in head.split(", "):
            letters, separator, argument = re.fullmatch(r"-([-\w]+)([ =]?)(\w*)", name).groups()
            flag = f"Fl Fl {letters[1:]}" if letters.startswith("-") else f"Fl {letters}"
            items.append(flag + {"": "", " ": " Ar ", "=": " Ns = Ns Ar "}[separator] + argument)
        yield f".It {' , '.join(items)}"
        yield prose(text.strip()) + "."
    yield ".El"


def loadtest_options(command: str) -> Iterator[str]:
    subparsers = next(a for a in loadtest_parser()._actions if isinstance(a, argparse._SubParsersAction))
    yield ".Bl -tag -width Ds -compact"
    for action in subparsers.choices[command]._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        if action.option_strings:
            head = f"Fl Fl {escape(action.option_strings[-1][2:])}"
            stand_in = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
            head += f" Ar {escape(str(stand_in))}" if stand_in else ""
        else:
            head = f"Ar {action.metavar or action.dest}"
        yield f".It {head}"
        choices = [str(choice) for choice in action.choices] if isinstance(action.choices, tuple) else []
        text = [action.help or "", f"One of {', '.join(choices)}" if choices else ""]
        if action.default not in (None, False, []):
            text.append(f"Default: {action.default:g}" if isinstance(action.default, float) else "")
        said = [part[0].upper() + part[1:] for part in text if part]
        yield from (f"{prose(part)}." for part in said or ["As in the guide"])
    yield ".El"


PARTS: dict[str, Callable[..., Iterable[str]]] = {
    "directives": directives,
    "daemon-options": daemon_options,
    "control-options": control_options,
    "commands": commands,
    "columns": columns,
    "loadtest-options": loadtest_options,
}


def page(template: str) -> str:
    """The whole page that a template stands for."""
    lines: list[str] = []
    for line in template.replace("@VERSION@", __version__).splitlines():
        if line.startswith('.\\"@ '):
            name, *arguments = line[5:].split()
            lines.extend(PARTS[name](*arguments))
        else:
            lines.append(line)
    return "\n".join(wrapped(lines)) + "\n"


def wrapped(lines: Iterable[str]) -> Iterator[str]:
    """Lines of text no longer than roff's style wants; macros and literal blocks as they are."""
    literal = False
    for line in lines:
        literal = line.startswith(".Bd") or (literal and not line.startswith(".Ed"))
        if literal or line.startswith("."):
            yield line
        else:
            yield from textwrap.wrap(line, 78, break_long_words=False, break_on_hyphens=False)


# Names of the package that takes chrony's place: they are the same pages.
CHRONY_NAMES = {"chronyd.8": "ntpd-fast.8", "chronyc.1": "ntpc-fast.1", "chrony.conf.5": "ntpd-fast.conf.5"}


def build(directory: Path) -> None:
    """Every page, and chrony's names of them."""
    directory.mkdir(parents=True, exist_ok=True)
    for template in sorted(TEXTS.glob("*.in")):
        (directory / template.stem).write_text(page(template.read_text()))
    for name, ours in CHRONY_NAMES.items():
        (directory / name).write_text(f".so man{ours[-1]}/{ours}\n")


if __name__ == "__main__":
    build(Path(sys.argv[1]))
