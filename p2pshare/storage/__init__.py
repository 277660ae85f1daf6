"""Files and folders: no Twisted."""
