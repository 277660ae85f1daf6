"""Errors of the operating system in words for users."""

from __future__ import annotations

import errno
import os

_REASONS = {
    errno.EACCES: "you do not have the permission",
    errno.EBADF: "it is closed",
    errno.ECONNREFUSED: "nothing listens there",
    errno.EDQUOT: "your disk quota is used up",
    errno.EEXIST: "something else has this name",
    errno.EFBIG: "the file is larger than this disk or a limit of yours allows",
    errno.EHOSTUNREACH: "there is no way to that machine",
    errno.EIO: "the disk reports an error",
    errno.EISDIR: "a folder has this name",
    errno.ELOOP: "it is a symbolic link, and those are not followed here",
    errno.EMFILE: "too many files are open",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENFILE: "too many files are open on this machine",
    errno.ENETUNREACH: "there is no way to that network",
    errno.ENOENT: "there is no such file or folder",
    errno.ENOSPC: "the disk is full",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.EPERM: "you do not have the permission",
    errno.EROFS: "the disk is read-only",
}


def plain_reason(error: OSError) -> str:
    """Return why `error` happened, without a number or a capital letter."""
    if error.errno is None:
        return str(error) or type(error).__name__
    return _REASONS.get(error.errno) or os.strerror(error.errno)
