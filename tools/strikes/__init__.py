"""Load on a running site, and what is held against it: shared by `tools/rounds` and `tools/nemesis`.

`worker` writes and remembers what each key may hold; `site` starts, strikes and asks a site; `verify` reads
everything back through every node. Standard library only.
"""
