"""ntpc-fast, the command line of the command protocol: chronyc's commands and reports, and some of our own.

It must start in less time than a blink, so a module here imports only what it needs at once; commands are rows
of `commands.COMMANDS` that name the function to load. No uvloop, no cryptography, no netlink, no dataclasses.
"""
