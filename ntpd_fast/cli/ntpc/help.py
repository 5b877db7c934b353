"""Texts of `help`, `--help` and `--version`."""

from .session import Session

_SECOND_COLUMN = 28

# Section: (command with arguments, what it does; further lines of it after a newline).
HELP: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "System clock:",
        (
            ("tracking", "Show how the system clock follows NTP time"),
            ("makestep", "Step the clock now instead of slewing the rest"),
            ("makestep <threshold> <updates>", "Step automatically in the next updates"),
            ("maxupdateskew <ppm>", "Set the largest skew an update may have"),
            ("waitsync [<tries> [<max-correction> [<max-skew> [<interval>]]]]", "Wait until the clock is synchronised"),
        ),
    ),
    (
        "Time sources:",
        (
            ("sources [-a] [-v]", "List the sources and their last samples"),
            ("sourcestats [-a] [-v]", "List drift and offset estimates of the sources"),
            ("selectdata [-a] [-v]", "Show why which source was selected"),
            ("selectopts <address|refid> <+|-options>", "Change selection options of a source"),
            ("reselect", "Select the best source again"),
            ("reselectdist <seconds>", "Set how much nearer a new source must be"),
            ("offset <address|refid> <seconds>", "Set the offset correction of a source"),
        ),
    ),
    (
        "NTP sources:",
        (
            ("activity", "Count the sources that are online and offline"),
            ("authdata [-a] [-v]", "Show how the sources are authenticated"),
            ("ntpdata [<address>]", "Show the last valid measurement"),
            ("add server|pool|peer <name> [options]", "Add a source"),
            ("delete <address>", "Remove a source"),
            ("burst <good>/<max> [[<mask>/]<address>]", "Measure several times in quick succession"),
            ("maxdelay <address> <seconds>", "Set the largest delay of a sample"),
            ("maxdelayratio <address> <ratio>", "The same as a multiple of the least delay"),
            ("maxdelaydevratio <address> <ratio>", "The same as a multiple of its deviation"),
            ("minpoll <address> <log2 s>", "Set the shortest polling interval"),
            ("maxpoll <address> <log2 s>", "Set the longest polling interval"),
            ("minstratum <address> <stratum>", "Set the least stratum of a source"),
            ("offline [[<mask>/]<address>]", "Stop polling sources"),
            ("online [[<mask>/]<address>]", "Start polling sources"),
            ("onoffline", "Poll the sources there is a route to"),
            ("polltarget <address> <samples>", "Set the samples aimed at by the interval"),
            ("refresh", "Resolve the names of sources again"),
            ("reload sources", "Read *.sources files again"),
            ("sourcename <address>", "Show the name a source was configured by"),
        ),
    ),
    (
        "Manual time input:",
        (
            ("manual off|on|reset", "Switch settime off or on, or forget its input"),
            ("manual list", "List the times entered"),
            ("manual delete <index>", "Forget one of them"),
            ("settime <time>", "Enter the true time, as Sep 25, 2015 16:30:05\nor 16:30:05"),
        ),
    ),
    (
        "NTP access:",
        (
            ("accheck <address>", "Tell whether a host may ask for time"),
            ("clients [-p <packets>] [-k] [-r]", "List the clients of the server"),
            ("serverstats", "Show counters of the server"),
            ("allow [all] [<subnet>]", "Let a subnet ask; all: and all inside it"),
            ("deny [all] [<subnet>]", "Refuse a subnet; all: and all inside it"),
            ("local [options]", "Serve time without being synchronised"),
            ("local off", "Serve time only when synchronised"),
            ("smoothtime reset|activate", "Restart or start the smoothing of served time"),
            ("smoothing", "Show the state of the smoothing"),
        ),
    ),
    (
        "Monitoring access:",
        (
            ("cmdaccheck <address>", "Tell whether a host may ask for reports"),
            ("cmdallow [all] [<subnet>]", "Let a subnet ask; all: and all inside it"),
            ("cmddeny [all] [<subnet>]", "Refuse a subnet; all: and all inside it"),
        ),
    ),
    (
        "Real-time clock:",
        (
            ("rtcdata", "Show how the real-time clock runs"),
            ("trimrtc", "Set the real-time clock to system time"),
            ("writertc", "Save the parameters of the real-time clock"),
        ),
    ),
    (
        "Other daemon commands:",
        (
            ("cyclelogs", "Close and reopen the log files"),
            ("dump", "Save measurements, NTS keys and cookies"),
            ("rekey", "Read the keys again"),
            ("reset sources", "Forget all measurements"),
            ("shutdown", "End the daemon"),
        ),
    ),
    (
        "Client commands:",
        (
            ("dns -n|+n", "Show addresses or names"),
            ("dns -4|-6|-46", "Resolve names to IPv4, IPv6 or both"),
            ("timeout <milliseconds>", "Set how long an answer is waited for"),
            ("retries <number>", "Set how often is asked again"),
            ("keygen [<id> [<type> [<bits>]]]", "Make a key for the key file"),
            ("exit|quit", "Leave"),
            ("help", "Print this"),
        ),
    ),
)
# What only ntpc-fast has.
OWN_HELP: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "More than chronyc:",
        (
            (
                "clients --top <n> [--by rate|drops|hits] [--prefix <subnet>]",
                "The busiest clients, of all or of a subnet",
            ),
            ("faults", "Count what was dropped or failed, by reason"),
            ("reload config", "Read the configuration again"),
            ("top [--by rate|drops|hits] [--interval <s>]", "Watch clients and server in the terminal"),
            ("watch [--interval <s>] [--count <n>] <report>", "Print a report again and again"),
        ),
    ),
)


def print_help(session: Session, rest: str) -> None:
    sections = []
    for title, rows in HELP + (OWN_HELP if session.extended else ()):
        lines = [title]
        for command, description in rows:
            first, *more = description.split("\n")
            if len(command) >= _SECOND_COLUMN:
                lines.append(command)
                command = ""
            lines.append(f"{command:<{_SECOND_COLUMN}}{first}")
            lines.extend(" " * _SECOND_COLUMN + line for line in more)
        sections.append("\n".join(lines))
    session.output.value("help", "\n\n".join(sections))


_OPTIONS = """\
  -4\t\tUse IPv4 addresses only
  -6\t\tUse IPv6 addresses only
  -n\t\tPrint addresses instead of host names
  -N\t\tPrint the names sources were configured by
  -c\t\tPrint CSV
  -e\t\tPrint a line with a dot after each command
  -m\t\tTake every argument for a command
  -h HOST\tAsk these hosts or sockets ({hosts})
  -p PORT\tAsk this UDP port ({port})
  -u USER\tRun as this user when started by root (root)
  -v, --version\tPrint the version and exit
      --help\tPrint this and exit
"""
_OWN_OPTIONS = """\
      --json\tPrint JSON
      --color=WHEN\tColour: auto, always or never (auto)
"""


def usage(program: str, hosts: str, port: int, *, extended: bool) -> str:
    text = _OPTIONS + (_OWN_OPTIONS if extended else "")
    return f"Usage: {program} [OPTION]... [COMMAND]...\n\nOptions:\n{text.format(hosts=hosts, port=port)}"
