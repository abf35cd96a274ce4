"""The pages of the tool crib: the list of all tools, and the history of each tool."""

from flask import Blueprint, abort, render_template

from openfactory.flaskapp import current_ofa_app

pages = Blueprint("pages", __name__)


@pages.get("/")
def tools() -> str:
    crib = current_ofa_app()
    return render_template("tools.html", holders=crib.holders, lent=crib.lent.value)


@pages.get("/<tool>")
def tool(tool: str) -> str:
    crib = current_ofa_app()
    if tool not in crib.holders:
        abort(404)
    moves = [move for move in crib.history("last_move") if tool in move.value]
    return render_template("tool.html", tool=tool, moves=reversed(moves))
