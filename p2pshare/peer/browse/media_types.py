"""The type of a file, by the end of its name: for rows of a listing, and for a browser that shows it.

The name comes from a stranger, and so does the content. So this decides only what is tried: a picture is decoded by a
sandboxed process of the browser, as any picture of the web. A type that can hold a script, such as HTML, SVG or PDF, is
never given to a browser as such. Its source is `text/plain`, or it is a download.
"""

from __future__ import annotations

import enum

DOWNLOAD = "application/octet-stream"
"""The type of all that is saved, and not shown."""
PLAIN = "text/plain; charset=utf-8"


class FileType(enum.Enum):
    """What a user can do with a file."""

    PICTURE = "picture"
    AUDIO = "audio"
    VIDEO = "video"
    TEXT = "text"
    OTHER = "other"


_PICTURES = {
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif"), "image/jpeg"),
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "avif": "image/avif",
    "bmp": "image/bmp",
}
_UNSHOWN_PICTURES = ("heic", "heif", "tif", "tiff", "dng", "cr2", "cr3", "nef", "arw", "orf", "raf")
_AUDIO = {
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "aac": "audio/aac",
    **dict.fromkeys(("ogg", "oga", "opus"), "audio/ogg"),
    "flac": "audio/flac",
    "wav": "audio/wav",
    "weba": "audio/webm",
}
_VIDEO = {
    **dict.fromkeys(("mp4", "m4v"), "video/mp4"),
    "webm": "video/webm",
    "ogv": "video/ogg",
    "mov": "video/quicktime",
    "mkv": "video/x-matroska",
    "3gp": "video/3gpp",
}
_TEXTS = (
    *("txt", "md", "rst", "log", "csv", "tsv", "json", "jsonl", "xml", "yaml", "yml", "toml"),
    *("ini", "cfg", "conf", "env", "properties", "diff", "patch", "tex", "bib", "srt", "vtt"),
    *("py", "js", "mjs", "ts", "jsx", "tsx", "css", "scss", "html", "htm", "xhtml", "svg"),
    *("c", "h", "cc", "cpp", "hpp", "rs", "go", "java", "kt", "swift", "cs", "rb", "pl", "php"),
    *("sh", "bash", "zsh", "fish", "bat", "ps1", "sql", "lua", "r", "jl", "hs", "ml", "ex", "el"),
    *("asc", "pem", "pub", "lock", "make", "mk", "cmake", "gradle", "po", "nfo", "ics", "vcf"),
)
_TEXT_NAMES = ("readme", "license", "licence", "copying", "makefile", "dockerfile", "changelog")

_TYPES: dict[str, tuple[FileType, str]] = {
    **{end: (FileType.PICTURE, media) for end, media in _PICTURES.items()},
    **dict.fromkeys(_UNSHOWN_PICTURES, (FileType.PICTURE, DOWNLOAD)),
    **{end: (FileType.AUDIO, media) for end, media in _AUDIO.items()},
    **{end: (FileType.VIDEO, media) for end, media in _VIDEO.items()},
    **dict.fromkeys(_TEXTS, (FileType.TEXT, PLAIN)),
}
_OTHER = FileType.OTHER, DOWNLOAD


def type_of(name: str) -> FileType:
    """Return what a file of this name is."""
    return _found(name)[0]


def media_type_of(name: str) -> str:
    """Return the media type with which a browser may get a file of this name; `DOWNLOAD` if it may not show it."""
    return _found(name)[1]


def _found(name: str) -> tuple[FileType, str]:
    stem, dot, end = name.lower().rpartition(".")
    if not dot or not stem:
        return (FileType.TEXT, PLAIN) if end in _TEXT_NAMES else _OTHER
    return _TYPES.get(end, _OTHER)
