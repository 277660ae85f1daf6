"""Files of other peers, looked at without being saved: completion, listings, previews and bytes.

    completion      words for a shell
    listing         the action `list`: pages of a folder
    reading         the bytes of a file, block by block, from any position
    pictures        previews that the sharer makes
    archive         files and folders as one zip, while they arrive
         |
    sessions        one bounded set of sessions, which stay open for a minute

`media_types` says what a file is by the end of its name. `service` puts the parts together for a peer. The routes of
the peer's page (`peer/page`) are the users of `reading`, `pictures` and `archive`; none of these modules knows HTTP.
"""
