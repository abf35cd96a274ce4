"""Exceptions of ksqlDB: a statement that is rejected, and a server that does not answer."""

from __future__ import annotations

from openfactory.exceptions import EngineError, EngineUnavailableError, QueryError

__all__ = ["WAY_OUT", "KSQLDBClientException", "KSQLDBQueryError", "KSQLDBUnavailableError"]

#: The remedy in errors about a server that does not answer.
WAY_OUT = "To run without a server, set KSQLDB_URL=sqlite:///factory.db or use `ofa run` with the app's file."


class KSQLDBClientException(EngineError):
    """A query, statement or insert that failed.

    Attributes:
        statement: its text, or None if the request has no statement.
        code: the server's error code, or None.
    """

    def __init__(self, message: str, *, statement: str | None = None, code: int | None = None) -> None:
        super().__init__(message)
        self.statement = statement
        self.code = code


class KSQLDBQueryError(KSQLDBClientException, QueryError):
    """A query that the server rejects or that cannot be sent; also a `QueryError`, as with all engines."""

    statement: str

    def __init__(self, message: str, *, statement: str, code: int | None = None) -> None:
        QueryError.__init__(self, message, statement=statement)
        self.code = code


class KSQLDBUnavailableError(KSQLDBClientException, EngineUnavailableError):
    """A server that does not answer or is not ready; also an `EngineUnavailableError`.

    Attributes:
        address: the server's URL without a user name or password.
    """

    def __init__(self, message: str, *, address: str, statement: str | None = None, code: int | None = None) -> None:
        EngineUnavailableError.__init__(self, message, address=address)
        self.statement = statement
        self.code = code
