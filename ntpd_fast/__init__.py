"""ntpd_fast: a chrony-compatible NTP server and client for Linux.

ARCHITECTURE.md says what lives where and which way imports may go.
"""

__version__ = "0.1.0"
