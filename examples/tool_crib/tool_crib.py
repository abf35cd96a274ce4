"""A tool crib, which lends tools. Its pages are a Blueprint in a separate module.

ofa run examples/tool_crib/tool_crib.py
ofa asset call tool_crib lend tool="torque wrench" to=Ada
"""

import os

from crib_pages import pages

from openfactory.apps import EventAttribute, OpenFactoryFlaskApp, ofa_method
from openfactory.kafka import KSQLDBClient

TOOLS = ("caliper", "depth gauge", "dial indicator", "micrometer", "thread gauge", "torque wrench")


class ToolCrib(OpenFactoryFlaskApp):
    """Lends tools. A scanner at the counter calls its methods, a screen beside it shows its pages."""

    lent = EventAttribute(value=0, tag="Crib.Lent")
    last_move = EventAttribute(value="none yet", tag="Crib.LastMove")

    def configure_routes(self) -> None:
        self.holders = dict.fromkeys(TOOLS, "")  # the holder of each tool; empty if it is in the crib
        self.app.register_blueprint(pages, url_prefix="/tools")

    @ofa_method(description="Give a tool to somebody")
    def lend(self, tool: str, to: str) -> str:
        if self.holder_of(tool):
            raise ValueError(f"{self.holder_of(tool)} has the {tool}")
        return self.move(tool, to, f"{to} has the {tool}")

    @ofa_method(description="Take a tool back")
    def take_back(self, tool: str) -> str:
        if not self.holder_of(tool):
            raise ValueError(f"nobody has the {tool}")
        return self.move(tool, "", f"the {tool} is back")

    def holder_of(self, tool: str) -> str:
        """Return the holder of a tool, or an empty text if the tool is in the crib."""
        if tool not in self.holders:
            raise ValueError(f"the crib has no {tool}. Ask for one of: {', '.join(TOOLS)}")
        return self.holders[tool]

    def move(self, tool: str, holder: str, text: str) -> str:
        self.holders[tool] = holder
        self.lent = sum(map(bool, self.holders.values()))
        self.last_move = text
        self.flush()  # the page of a tool reads the history, which must contain the move when the page opens next
        return text


if __name__ == "__main__":
    app = ToolCrib(
        ksqlClient=KSQLDBClient(os.getenv("KSQLDB_URL", "http://localhost:8088")),
        bootstrap_servers=os.getenv("KAFKA_BROKER", "localhost:9092"),
    )
    app.run()
