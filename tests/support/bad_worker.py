"""Work that kills its process or never ends; a module of its own, so that a worker imports nothing else."""

from __future__ import annotations

import os
import time


def work(n):
    if n == 1:
        os._exit(7)
    if n == 2:
        time.sleep(60)
    return {"status": "done", "n": n}
