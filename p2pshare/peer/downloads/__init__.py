"""Downloads that run in the peer: one queue for accepted offers and for jobs of the user, and the rows that users see.

    queue        tries, slots, back-off, presence, stalls, progress: for everything that the peer downloads
    fetches      one job of the user: what is tried, and when it is over
    jobs         all of them, kept in the ledger; what users may do with them
    reasons      codes that say why a download waits or has failed
    uploads      who fetches from this peer, and what
    offer_rows   offers that are on their way
    transfers    all rows together: the actions and events of the control protocol
    traffic      bytes per second of the last minutes

The rest of a download is in `peer/fetch` (one try) and in `peer/offers/downloads` (one accepted offer).
"""
