"""Command and monitoring protocol: codec (both directions), dispatch, back-end seams, transport.

`codec` knows bytes and nothing else; `dispatch` turns one request datagram into at most one reply through the
protocols of `backend`; `transport` owns the sockets. Nothing here imports `server` or `control`.
"""
