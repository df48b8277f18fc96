"""One run at a time in a result folder.

The operating system holds the lock, and lets go of it when the process ends, however that comes about: what a dead run
has left behind never keeps the next one out. On a network file system the server does so, also when a machine is lost.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

log = logging.getLogger(__name__)

NAME = ".running"
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)  # said by file systems that keep none


class FolderTaken(Exception):
    """Another run has the folder; says which."""


@contextlib.contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Have `folder` for oneself. Raises FolderTaken where another run has it, OSError where no file can be made.

    A file system that keeps no locks costs a warning: then nobody is kept out.
    """
    handle = _locked(folder / NAME)
    try:
        os.truncate(handle, 0)
        os.write(handle, _who().encode())
        yield
    finally:
        # the name goes before the lock does: who opens it in between finds out that it is no longer this file
        with contextlib.suppress(OSError):
            (folder / NAME).unlink()
        os.close(handle)


def _locked(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, handle):
                return handle
        except BlockingIOError:
            told = os.pread(handle, 1000, 0)
            os.close(handle)
            raise FolderTaken(f"another run writes there{_told(told)}") from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(handle)
                raise
            log.warning("%s keeps no locks (%s): make sure that no other run writes there", path.parent, error.strerror)
            return handle
        os.close(handle)


def _is_still(path: Path, handle: int) -> bool:
    """Is the file that was opened the one that has the name now? The run before may just have removed it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _who() -> str:
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    return json.dumps({"host": socket.gethostname(), "process": os.getpid(), "since": now})


def _told(record: bytes) -> str:
    try:
        who = json.loads(record)
        return f": process {who['process']} on {who['host']}, since {who['since']}"
    except (ValueError, KeyError, TypeError):  # it has only just begun
        return ""
