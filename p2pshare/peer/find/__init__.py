"""From the name of a peer to a session with it.

The path of a `get`, from top to bottom; every step only calls the one below it:

    ui/verbs/get, ui/verbs/ls, ui/dialog/visit      which peer, which files
    own_identity    `OwnName.introduce`: the user's own name and key, beside the first look-up
    lookup          `PeerFinder.find`: name -> answer of the registry, or what is remembered
    pins            `Pins.check`: is the key the pinned one, or does it follow from it?
    candidates      `told_candidates`, `remembered_candidates`: the addresses that may be connected to
    lookup          the result: a `FoundPeer` with a key, candidates and capabilities
    target          what of it an opener needs: a `Target`
    peer/fetch/remote, peer/reach/dialler           a session on the first way on which that key is proven

`presence` tells when it is worth taking that path: whether the peers that somebody waits for are online.

`peer/browse` takes the same path in the running peer, for its page and for completion. `peer/share/admission` takes it
in the other direction, from the key of an opener to its name, with the same pin check.

Why in this order:

* The key comes before the address. An address is only a place to try: TLS proves the key there before anything is said,
  so a wrong address costs a connection attempt. A wrong key would cost everything.
* The pin check comes before the addresses are used or remembered. A registry that swaps keys learns nothing, not even
  that somebody connects.
* What is remembered is used only for a pinned key. It replaces the registry's answer when the registry is away, when it
  says that the peer is offline (it tells no address then), and when it does not know the name, as after the loss of its
  store. Without a pin, only the registry can say which key to expect.
* There is no step from sessions to the classic protocol. `FoundPeer.expect_sessions` fails instead, because a registry
  could otherwise downgrade a peer by leaving out its key.
* A `RemotePeer` asks `PeerFinder.target` again before each new session, since the peer may have moved meanwhile. It
  compares the key with that of its first session.

Candidates that a peer tells in a signal pass the same rules (`allowed_candidates`) as those in its record. Other
sources of names beside a registry belong in `PeerFinder._ask_registry`, before the pin check.
"""
