"""Load generator for NTP servers, and the comparison of one server with another.

`_generate` is the loop that sends and checks (Cython, one core); `requests` builds what it sends; `servers`,
`cpu`, `measure`, `scenarios` and `compare` start servers and compare what an answer costs them. Nothing here
is imported by `ntpd_fast`, and nothing of `ntpd_fast` is imported here: the tool measures any NTP server the
same way.
"""
