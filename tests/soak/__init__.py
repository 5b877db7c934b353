"""A daemon under load for hours, watched from outside: `python -m tests.soak`."""
