"""Print the bash completion of the daemon and of its command line, made from the tables that the programs read.

One file serves both names of each program. Run from the top of the tree (or with it on PYTHONPATH).
"""

import re
import sys

from ntpd_fast.cli.ntpc.commands import COMMANDS
from ntpd_fast.cli.ntpc.help import HELP, OWN_HELP
from ntpd_fast.cli.options import ROWS
from ntpd_fast.config.directives import DIRECTIVES

# Words of a command's syntax that are typed as they stand, not stand-ins like <address>.
_LITERAL = re.compile(r"[a-z]+(\|[a-z]+)*|\[[a-z]+\]")

_TEMPLATE = """\
# bash completion of ntpc-fast, chronyc, ntpd-fast and chronyd; made by packaging/build_completion.py

_ntpd_fast_words() {{
    COMPREPLY=($(compgen -W "$1" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}

_ntpc_fast() {{
    local word first= position
    for ((position = 1; position < COMP_CWORD; position++)); do
        word=${{COMP_WORDS[position]}}
        case $word in
            -h | -p | -u) ((position++)) ;;
            -*) ;;
            *)
                first=$word
                break
                ;;
        esac
    done
    if [[ -z $first ]]; then
        _ntpd_fast_words "{options} {commands}"
        return
    fi
    ((COMP_CWORD == position + 1)) || return
    case $first in
{second_words}
    esac
}}

_ntpd_fast() {{
    case ${{COMP_WORDS[COMP_CWORD - 1]}} in
        -f | -l) COMPREPLY=($(compgen -f -- "${{COMP_WORDS[COMP_CWORD]}}")) ;;
        -u) COMPREPLY=($(compgen -u -- "${{COMP_WORDS[COMP_CWORD]}}")) ;;
        *) _ntpd_fast_words "{daemon_options} {directives}" ;;
    esac
}}

complete -F _ntpc_fast ntpc-fast chronyc
complete -o filenames -F _ntpd_fast ntpd-fast chronyd
"""


def second_words() -> dict[str, list[str]]:
    """For each command with a word that can only be one of a few: those, sorted."""
    found: dict[str, set[str]] = {}
    for _, rows in HELP + OWN_HELP:
        for syntax, _ in rows:
            first, *rest = syntax.split()
            if rest and _LITERAL.fullmatch(rest[0]):
                found.setdefault(first, set()).update(rest[0].strip("[]").split("|"))
    return {command: sorted(words - {"options"}) for command, words in sorted(found.items()) if words - {"options"}}


def completion() -> str:
    cases = [f'        {command}) _ntpd_fast_words "{" ".join(words)}" ;;' for command, words in second_words().items()]
    own = {syntax.split()[0] for _, rows in OWN_HELP for syntax, _ in rows}
    return _TEMPLATE.format(
        options="-4 -6 -n -N -c -e -m -h -p -u -v --json --color=auto --color=always --color=never --help --version",
        commands=" ".join(sorted(set(COMMANDS) | own)),
        second_words="\n".join(cases),
        daemon_options=" ".join(f"-{letter}" for letter, *_ in ROWS),
        directives=" ".join(sorted(DIRECTIVES)),
    )


if __name__ == "__main__":
    sys.stdout.write(completion())
