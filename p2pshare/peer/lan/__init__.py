"""Peers on the local network, without a registry.

Each peer announces itself by DNS-SD (RFC 6763) over multicast DNS (RFC 6762): name, key, port and addresses. Nothing of
that is signed, and anybody on the network may announce anything. So an announcement is a hint where to look, as a
candidate is. What it costs to believe a false one:

* The key decides who a peer is, and TLS proves the key before anything is said. The first key that is met for a name is
  pinned, as with a registry. A name that two keys announce is shown twice, and the pinned key has it.
* Nobody is admitted by a name that it says. The owner of a share accepts a key once: see `admission`.

    announcement    what a peer says of itself, and the check of what strangers say
    services        the peers that were heard, within bounds
    dns_sd          the `zeroconf` library in its thread: the only module that touches the network
    directory       `LanDirectory`: to finder, admission and verbs, what the client of a registry is
"""
