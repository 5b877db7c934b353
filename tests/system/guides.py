"""A guide as a test: what it says to write and to type is written and typed, and its output compared.

What a fenced block of a guide is, its first line says (rendered pages show none of it):

    ```conf                    a configuration: the daemon's -p must take it
    ```conf /etc/FILE          the same, and it is FILE on the machine from here on
    ```file /etc/FILE          any other file
    ```console                 `# command` as root, `$ command` as somebody else, and what they print
    ```console HOST            the same on another machine of the guide
    ```text                    nothing to run: excerpts, and what has no machine to run on (the line after says why)

`<!-- test: COMMAND -->` before a block prepares for it: root runs the command in a shell, on the machine of the block.
Three are no commands: `install PACKAGE`, `world` (time servers to ask), `copy HOST FILE` (from another machine).

Output is compared by its form: numbers, their units, dates and signs may differ, a line that ends in an ellipsis has
any end, and a line that is an ellipsis stands for any lines. A command must succeed unless the block says `fails`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_FENCE = re.compile(r"^(\s*)```(.*)$")
_TEST = re.compile(r"^\s*<!-- test: (.*) -->$")
_PROMPT = re.compile(r"^([#$]) (\S.*)$")
LANGUAGES = {"conf", "file", "console", "text", "json"}
ELLIPSIS = "…"

_FORMS = (
    (re.compile(r"\b\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"\b\d\d[A-Z][a-z]{2}\d{4}\b"), "DATE"),
    (re.compile(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b"), "DAY"),
    (re.compile(r"\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b"), "MONTH"),
    (re.compile(r"\b[0-9A-F]{8}\b"), "HEX"),
    (re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?(ns|us|ms|[smhdy])?\b"), "N"),
    (re.compile(r"\b(fast|slow)\b"), "fast"),
    (re.compile(r"^\^[*+-]"), "^*"),
    (re.compile(r"={3,}"), "==="),
    (re.compile(r"\s+"), " "),
    (re.compile(r"\[ "), "["),
)


@dataclass
class Command:
    """One command of a console block and what is to come out: nothing is said where `expected` is empty."""

    line: int
    as_root: bool
    text: str
    expected: list[str] = field(default_factory=list)


@dataclass
class Block:
    """One fenced block; `words` are those after its language."""

    line: int
    language: str
    words: tuple[str, ...]
    lines: list[str]
    preparations: list[str]

    @property
    def commands(self) -> list[Command]:
        """Of a console block. A command goes on in the next line after a backslash."""
        found: list[Command] = []
        continued = False
        for number, line in enumerate(self.lines, self.line + 1):
            prompt = _PROMPT.match(line)
            if continued:
                found[-1].text = found[-1].text[:-1] + line.strip()
            elif prompt:
                found.append(Command(number, prompt[1] == "#", prompt[2]))
            else:
                assert found, f"line {number}: output before any command"
                found[-1].expected.append(line)
                continue
            continued = found[-1].text.endswith("\\")
        for command in found:
            while command.expected and not command.expected[-1].strip():
                command.expected.pop()
        return found


def blocks(path: Path) -> Iterator[Block]:
    """The fenced blocks of a guide. A block without a language, or with an unknown one, is a mistake."""
    preparations: list[str] = []
    block: Block | None = None
    indent = ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fence = _FENCE.match(line)
        if block is not None:
            if fence and not fence[2]:
                yield block
                block = None
            else:
                block.lines.append(line.removeprefix(indent))
        elif fence:
            language, *words = fence[2].split() or [""]
            assert language in LANGUAGES, f"{path.name}:{number}: a block of no known language"
            indent = fence[1]
            block = Block(number, language, tuple(words), [], preparations)
            preparations = []
        elif prepared := _TEST.match(line):
            preparations.append(prepared[1])
    assert block is None, f"{path.name}: a block does not end"
    assert not preparations, f"{path.name}: a preparation without a block"


def form(line: str) -> str:
    """A line of output without what may differ from one run to the next."""
    for pattern, replacement in _FORMS:
        line = pattern.sub(replacement, line.strip())
    return line


def mismatch(expected: list[str], actual: str) -> str:
    """Why the output is not what the guide shows; empty when it is."""
    wanted = [line.strip() for line in expected if line.strip()]
    lines = [line for line in actual.splitlines() if line.strip()]
    # positions in the output that the lines of the guide so far can have led to
    reached = {0}
    for want in wanted:
        before = reached
        if want == ELLIPSIS:
            reached = set(range(min(before), len(lines) + 1))
        else:
            reached = {place + 1 for place in before if place < len(lines) and _is_like(want, lines[place])}
        if not reached:
            got = [lines[place] if place < len(lines) else "(nothing more)" for place in sorted(before)][:3]
            return f"expected: {want}\n     got: {' or '.join(got)}\n      in:\n{actual}"
    if len(lines) not in reached:
        return f"not expected: {lines[max(reached)]}\nin:\n{actual}"
    return ""


def _is_like(want: str, line: str) -> bool:
    if want.endswith(ELLIPSIS):
        return form(line).startswith(form(want[:-1]))
    return form(want) == form(line)
