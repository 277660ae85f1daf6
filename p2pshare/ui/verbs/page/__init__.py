"""The verb `open`: the peer's page in a browser, links to people, and the program that opens them."""
