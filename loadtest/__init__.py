"""Load generator for NTP servers, and the comparison of one server with another.

`_generate` is the loop (Cython, one core) of what is sent (`_sending`) and what comes back (`_receiving`); `requests`
and `nts` build what it sends; `servers`, `cpu`, `measure`, `scenarios` and `compare` start servers and compare what an
answer costs them. Nothing here is imported by `ntpd_fast`, and of `ntpd_fast` only the cipher that seals requests: what
is right is judged without it, so that the tool measures any NTP server the same way.
"""
