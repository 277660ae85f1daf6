"""Models of the original programs, made after the facts in docs/protocol.md, faults included.

They stand for programs that p2pshare must work with, and share no code with it. They use blocking
sockets and threads, the standard library and Pillow (numpy in the machines), but no Twisted. Do not
fix their faults: if an original loses a row, crashes on a datagram or leaves a reply unread, so does
its model. Where the facts leave a choice, the model does the simplest thing that agrees with them; a
comment "Open: …" marks the place.

- ``python -m tests.originals.registry PORT``: the registry (`registry`).
- ``python -m tests.originals.client …``: the client (`client`); it serves (`sharing`) and fetches
  (`fetching`).
- `machines`: its two image sides as machines in virtual time, for networks in memory.
"""
