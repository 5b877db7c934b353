"""What each command does: rows that tie a command's number to a function on a part of the back end.

`table.ROWS` has a row for every command of the codec, no more and no less.
"""
