"""One run at a time in a result folder.

The operating system holds the lock, and lets go of it when the process ends, however that comes about: what a dead run
has left behind never keeps the next one out. On a network file system the server does so, also when a machine is lost.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from decomp.storage.result_folder import replace

log = logging.getLogger(__name__)

HOLDER, LOCK = ".running", ".running.lock"  # who has the folder, and what is locked; neither stays
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)  # said by file systems that keep none


class FolderTaken(Exception):
    """Another run has the folder; says which."""


@contextlib.contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Have `folder` for oneself. Raises FolderTaken where another run has it, OSError where no file can be made.

    A file system that keeps no locks costs a warning: then nobody is kept out.
    """
    # a lock that is only a file would outlive a dead run
    lock, holder = FileLock(folder / LOCK, timeout=0, fallback_to_soft=False), folder / HOLDER
    try:
        lock.acquire()
    except Timeout:
        raise FolderTaken(f"another run writes there{_told(holder)}") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log.warning("%s keeps no locks (%s): make sure that no other run writes there", folder, error.strerror)
    try:
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        who = {"host": socket.gethostname(), "process": os.getpid(), "since": now}
        replace(holder, lambda file: file.write(json.dumps(who).encode()))
        yield
    finally:
        # the name goes before the lock does: who opens it in between finds out that it is no longer this file
        for path in (holder, folder / LOCK):
            with contextlib.suppress(OSError):
                path.unlink()
        lock.release()


def _told(holder: Path) -> str:
    try:
        who = json.loads(holder.read_text())
        return f": process {who['process']} on {who['host']}, since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has only just begun
        return ""
