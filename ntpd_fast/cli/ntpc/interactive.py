"""The prompt: line editing, history and completion by readline."""

import contextlib
import os
import readline
from collections.abc import Iterator

from .commands import COMMANDS
from .session import LINE_LENGTH_MAX, Session

_HISTORY_LENGTH_MAX = 1000
# First words that are followed by one of few.
_SECOND_WORDS = {
    "add": ("peer", "pool", "server"),
    "authdata": ("-a", "-v"),
    "manual": ("off", "on", "delete", "list", "reset"),
    "reload": ("config", "sources"),
    "reset": ("sources",),
    "selectdata": ("-a", "-v"),
    "sources": ("-a", "-v"),
    "sourcestats": ("-a", "-v"),
}


def completions(line: str, text: str, begin: int) -> list[str]:
    """What the word `text`, which starts at `begin` of the line, can become."""
    words = line[:begin].split()
    if not words:
        candidates = list(COMMANDS)
    elif len(words) == 1:
        candidates = list(_SECOND_WORDS.get(words[0], ()))
    else:
        candidates = []
    return sorted(word for word in candidates if word.startswith(text))


def _complete(text: str, state: int) -> str | None:
    found = completions(readline.get_line_buffer(), text, readline.get_begidx())
    return found[state] + " " if state < len(found) else None


def _history_path() -> str | None:
    """In the user's state directory; none for users without a home."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(state, "ntpc-fast", "history") if os.path.isabs(state) else None


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Of this and earlier sessions; a file that cannot be read or written only costs the memory of it."""
    path = _history_path()
    readline.set_history_length(_HISTORY_LENGTH_MAX)
    if path is not None:
        with contextlib.suppress(OSError):
            readline.read_history_file(path)
    try:
        yield
    finally:
        if path is not None:
            with contextlib.suppress(OSError):
                os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
                readline.write_history_file(path)


def run_prompt(session: Session, prompt: str) -> bool:
    """Lines from the terminal until its end, or `exit`; whether the last command succeeded."""
    readline.set_completer(_complete)
    readline.set_completer_delims(" ")
    readline.parse_and_bind("tab: complete")
    succeeded = True
    with _history():
        while not session.quit:
            try:
                line = input(prompt)
            except EOFError:
                session.output.text("\n")
                session.output.flush()
                break
            for piece in pieces(line):
                succeeded = session.run_line(piece)
    return succeeded


def pieces(line: str) -> list[str]:
    """A line as chronyc takes it in: what is too long is taken for several lines."""
    return [line[i : i + LINE_LENGTH_MAX] for i in range(0, max(len(line), 1), LINE_LENGTH_MAX)]
