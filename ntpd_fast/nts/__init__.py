"""What NTS client and NTS server have in common: the records of key exchange and the exported keys.

A layer beside `config` and `system`: it imports neither of client/ and server/, which both use it.
"""
