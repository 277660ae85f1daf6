"""Models of the original programs, made after the facts in docs/protocol.md, faults included.

They stand in for programs that p2pshare must get along with, and so share nothing with it: they
are written with blocking sockets and threads, the standard library and Pillow (numpy in the
machines), no Twisted, and nothing of p2pshare is imported. Do not mend them: where an original
loses a row, dies of a datagram or leaves a reply unread, so does its model. What the facts leave
open is decided by the simplest program that agrees with them; a comment "Open: …" says where.

- ``python -m tests.originals.registry PORT``: the registry (`registry`).
- ``python -m tests.originals.client …``: the client (`client`); it serves (`sharing`) and fetches
  (`fetching`).
- `machines`: its two image sides as machines in virtual time, for networks in memory.
"""
