"""Packets and frames of the datagram transport, as in docs/protocol-datagrams.md.

`packets` has what anybody can read of a datagram, `frames` what a packet holds once it is opened, and `acks` the two
encodings of acknowledged packets. Keys and sealing are in `p2pshare.core.datagram.protection`.
"""

DATAGRAM_MAX = 65_507  # bytes over IPv4
