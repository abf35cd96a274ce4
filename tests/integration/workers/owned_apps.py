"""Apps that note what they do, and end as they are told: `owned_apps.py RECORD UUID…`.

An order in the file RECORD.order ends the process: `exit`, `segfault` or `crash`.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from pathlib import Path

from openfactory.apps import OpenFactoryApp, ofa_method
from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting
from recording import Notes, follow_clock

follow_clock()
record, *uuids = sys.argv[1:]
note = Notes(record)
orders = Path(f"{record}.order")


def obey() -> None:
    match orders.read_text(encoding="ascii") if orders.exists() else "":
        case "exit":
            os._exit(3)
        case "segfault":
            ctypes.string_at(0)
        case "crash":
            raise ValueError("a crash that the test has ordered")


class Cell(OpenFactoryApp):
    @ofa_method()
    def work(self, token: str) -> str:
        note(ran=token, asset=self.asset_uuid, pid=os.getpid())
        return token

    def main_loop(self) -> None:
        note(runs=self.asset_uuid, pid=os.getpid())
        while True:
            obey()
            time.sleep(0.05)

    async def async_main_loop(self) -> None:
        note(runs=self.asset_uuid, pid=os.getpid())
        while True:
            obey()
            await asyncio.sleep(0.05)


async def run_all(apps: list[Cell]) -> None:
    async with asyncio.TaskGroup() as group:
        for app in apps:
            group.create_task(app.async_run())


client = KSQLDBClient(setting("KSQLDB_URL") or "")
cells = []
for uuid in uuids:
    cells.append(Cell(client, app_uuid=uuid))
    note(claimed=uuid, pid=os.getpid())
if len(cells) == 1:
    cells[0].run()
else:
    asyncio.run(run_all(cells))
