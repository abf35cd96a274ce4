"""Swap pairs of names in a folder, without a moment in which one is missing, until the one who started it is gone.

python swapping.py FOLDER FIRST,SECOND...
"""

from __future__ import annotations

import ctypes
import os
import sys

EXCHANGE = 2  # renameat2(2)


def main(folder: str, *pairs: str) -> None:
    os.chdir(folder)
    here = os.open(".", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    names = [tuple(map(os.fsencode, pair.split(","))) for pair in pairs]
    started_by = os.getppid()
    while os.getppid() == started_by:
        for first, second in names:
            if libc.renameat2(here, first, here, second, EXCHANGE):
                raise OSError(ctypes.get_errno(), "renameat2")


main(*sys.argv[1:])
