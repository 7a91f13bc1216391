"""Goes in: a placement. Comes out: one readable Python file with its blocks, which needs nothing of ours.

`scopes.py` finds the global names that code reads, `sources.py` what they stand for, `flatten.py` all that a block
needs, `text.py` edits and names it, `block_file.py` makes the file.
"""
