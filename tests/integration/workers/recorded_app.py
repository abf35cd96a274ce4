"""An app that notes each start of a method in a file: `recorded_app.py RECORD`.

Its notes survive the kill: they are the kernel's before the method goes on.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

from openfactory.apps import EventAttribute, OpenFactoryApp, ofa_method
from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting

record = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def note(**said: Any) -> None:
    os.write(record, b"\n" + json.dumps(said).encode() + b"\n")  # a torn line before it stands alone


class Cell(OpenFactoryApp):
    last = EventAttribute(value="", tag="Last")
    counted = EventAttribute(value=0, tag="Counted")

    @ofa_method()
    def work(self, token: str, milliseconds: float) -> str:
        note(ran=token)
        self.last = token
        time.sleep(milliseconds / 1000)
        return f"done {token}"

    @ofa_method()
    async def rest(self, token: str, milliseconds: float) -> str:
        note(ran=token)
        await asyncio.sleep(milliseconds / 1000)
        return f"done {token}"

    @ofa_method()
    def fail(self, token: str) -> None:
        note(ran=token)
        raise ValueError(token)

    def main_loop(self) -> None:
        print("running", flush=True)
        life = os.getpid()
        for number in range(10**9):
            self.counted = f"{life}-{number}"
            self.flush()
            note(acknowledged=f"{life}-{number}", asset=self.asset_uuid, attribute="counted")
            time.sleep(0.003)


Cell(KSQLDBClient(setting("KSQLDB_URL") or "")).run()
