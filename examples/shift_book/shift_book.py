"""A shift book, with notes for the next shift. It creates its own Flask app, to configure sessions.

ofa run examples/shift_book/shift_book.py

Then open http://localhost:4000/ in a browser.
"""

import os
import secrets

from flask import Flask, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue

from openfactory.apps import EventAttribute, OpenFactoryFlaskApp, ofa_method
from openfactory.kafka import KSQLDBClient


class ShiftBook(OpenFactoryFlaskApp):
    """Keeps notes. People write them on its page, other apps call its method."""

    note = EventAttribute(value="The book is open.", tag="Book.Note")

    def create_flask_app(self) -> Flask:
        app = Flask(__name__)
        # With a random key, all users must enter their names again after a restart.
        app.config["SECRET_KEY"] = os.getenv("SHIFT_BOOK_SECRET") or secrets.token_hex()
        # The browser sends a form of another site without the session cookie, so that form cannot write a note.
        app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
        return app

    def configure_routes(self) -> None:
        @self.app.get("/")
        def book() -> str:
            newest = reversed(self.history("note", limit=20))
            return render_template("book.html", notes=newest, name=session.get("name"))

        @self.app.post("/name")
        def set_name() -> ResponseReturnValue:
            session["name"] = request.form["name"].strip()
            return redirect(url_for("book"), 303)

        @self.app.post("/notes")
        def add_note() -> ResponseReturnValue:
            if session.get("name"):
                self.write(session["name"], request.form["text"])
            return redirect(url_for("book"), 303)

    @ofa_method(description="Write a note")
    def write(self, name: str, text: str) -> None:
        self.note = f"{name}: {text}"
        self.flush()  # the page reads the history, which must contain the note when the page opens next


if __name__ == "__main__":
    app = ShiftBook(
        ksqlClient=KSQLDBClient(os.getenv("KSQLDB_URL", "http://localhost:8088")),
        bootstrap_servers=os.getenv("KAFKA_BROKER", "localhost:9092"),
    )
    app.run()
