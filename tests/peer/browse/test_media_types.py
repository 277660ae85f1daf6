"""Tests of `p2pshare.peer.browse.media_types`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.peer.browse.media_types import (
    _TYPES,
    DOWNLOAD,
    PLAIN,
    FileType,
    media_type_of,
    type_of,
)


class MediaTypeTests(SynchronousTestCase):
    def test_types(self) -> None:
        """The end of a name tells what a file is."""
        for name, kind, media in (
            ("cat.JPG", FileType.PICTURE, "image/jpeg"),
            ("cat.heic", FileType.PICTURE, DOWNLOAD),
            ("a.b.mp4", FileType.VIDEO, "video/mp4"),
            ("song.flac", FileType.AUDIO, "audio/flac"),
            ("README", FileType.TEXT, PLAIN),
            (".txt", FileType.OTHER, DOWNLOAD),
            ("x", FileType.OTHER, DOWNLOAD),
            ("x.", FileType.OTHER, DOWNLOAD),
            ("", FileType.OTHER, DOWNLOAD),
        ):
            self.assertEqual((type_of(name), media_type_of(name)), (kind, media), name)

    def test_no_scripts(self) -> None:
        """Threats 8 and 120: a type that can hold a script is source, or a download."""
        for name in ("a.html", "a.HTM", "a.svg", "a.xhtml", "a.xml", "a.js", "a.css"):
            self.assertEqual(media_type_of(name), PLAIN, name)
        for name in ("a.pdf", "a.swf", "a.mht", "a.htm\n", "a.html "):
            self.assertEqual(media_type_of(name), DOWNLOAD, name)
        shown = {media.partition("/")[0] for _, media in _TYPES.values() if media != DOWNLOAD}
        self.assertEqual(shown, {"image", "audio", "video", "text"})
