"""The command protocol, version 6, as tables: what each request and reply holds and how long it is.

One declaration serves both directions: the daemon decodes requests and encodes replies, ntpc-fast does the
reverse. No socket, no clock. The modules are imported one by one by those who need them, because the command
line pays for every import at each start.
"""
