"""Everything that is on its way, in both directions, as users see it; and the downloads that they want.

    fetches      one download of the user: what is tried, and when it is over
    jobs         all of them, kept in the ledger; what users may do with them
    reasons      codes that say why a download waits or has failed
    uploads      who fetches from this peer, and what
    offer_rows   offers that are on their way
    traffic      bytes per second of the last minutes
    service      all rows together: the actions and events of the control protocol

The rest of a download is in `peer/download_queue` (when it is tried), in `peer/fetch` (one try), and in
`peer/offers/downloads` (one accepted offer).
"""
