"""The original protocol, complete and separate: pictures over UDP, texts over TCP, and names without keys.

    datagrams, registration     bytes <-> values                                      pure
    core/                       state machines of the sharer and of the requester     pure
    net/                        their sockets
    shared_files, decoded_pictures, server      a sharer
    download                                    a requester

The rest of p2pshare knows this package in four places, its seams; `tests/test_layers.py` keeps the list:

* `registry.api.classic` answers the routes `list`, `user/NAME` and `name`.
* `registry.client` requests them.
* `peer.service` runs a `ClassicServer` if the user passes `--classic`.
* `ui.verbs.classic` fetches files as a job, for `get --classic` and the dialog.

Names of both kinds are in one store, so the registry's store and its Redis scripts know that a name can be classic, but
not what its peers send each other. `docs/protocol.md` describes the protocol.
"""
