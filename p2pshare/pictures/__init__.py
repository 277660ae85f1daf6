"""Pictures: decoding, encoding and previews, with Pillow and numpy and without Twisted.

A picture in memory is `pixels.Pixels`, plain RGB. Pillow is used for files only.
"""
