"""The program's own options: chronyc's, and the long ones that only ntpc-fast has.

Options end at the first word that is none. `--help` and `--version` count anywhere, before anything is looked at.
"""

from typing import NamedTuple

PORT_DEFAULT = 323


class OptionError(Exception):
    """What is wrong with the command line, in getopt's words (without the program's name)."""


class Options(NamedTuple):
    family: int = 0
    """4 or 6: only that family; 0: both."""
    numeric: bool = False
    source_names: bool = False
    csv: bool = False
    json: bool = False
    color: str = "auto"
    end_dots: bool = False
    multi: bool = False
    hosts: str | None = None
    port: int = PORT_DEFAULT
    user: str = "root"
    help: bool = False
    version: bool = False
    words: tuple[str, ...] = ()
    """The command's words, or whole commands with `multi`."""


# Letter: option set to True.
_FLAGS = {"n": "numeric", "N": "source_names", "c": "csv", "e": "end_dots", "m": "multi", "v": "version"}
_FAMILIES = {"4": 4, "6": 6}
_IGNORED = "ad"
# Letter: option that takes the argument; `f` was chrony's configuration file once.
_ARGUMENTS = {"h": "hosts", "p": "port", "u": "user", "f": ""}
_COLORS = ("auto", "always", "never")


def parse(arguments: list[str]) -> Options:
    """Raises OptionError."""
    if "--help" in arguments:
        return Options(help=True)
    if "--version" in arguments:
        return Options(version=True)
    values: dict[str, object] = {}
    position = 0
    while position < len(arguments):
        word = arguments[position]
        if not word.startswith("-") or word == "-":
            break
        position += 1
        if word == "--":
            break
        if word == "--json":
            values["json"] = True
        elif word.startswith("--color="):
            values["color"] = _color(word.partition("=")[2])
        else:
            position = _letters(word[1:], arguments, position, values)
    return Options(**values, words=tuple(arguments[position:]))  # type: ignore[arg-type]


def _letters(letters: str, arguments: list[str], position: int, values: dict[str, object]) -> int:
    """One word of short options; gives the position of the next word."""
    while letters:
        letter, letters = letters[0], letters[1:]
        if letter in _FLAGS:
            values[_FLAGS[letter]] = True
        elif letter in _FAMILIES:
            values["family"] = _FAMILIES[letter]
        elif letter in _ARGUMENTS:
            if not letters:
                if position >= len(arguments):
                    raise OptionError(f"option requires an argument -- '{letter}'")
                letters = arguments[position]
                position += 1
            if name := _ARGUMENTS[letter]:
                values[name] = _port(letters) if name == "port" else letters
            letters = ""
        elif letter not in _IGNORED:
            raise OptionError(f"invalid option -- '{letter}'")
    return position


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 0xFFFF:
        raise OptionError(f"invalid port number -- '{text}'")
    return int(text)


def _color(text: str) -> str:
    if text not in _COLORS:
        raise OptionError(f"invalid argument -- '{text}' (auto, always or never)")
    return text
