"""The peer's page in a real browser, with real peers behind it.

`world.py` starts a registry and peers as processes, `files.py` makes what they share, and `browser.py` drives Chromium.
`page_case.py` puts these together for the tests of a view.
"""
