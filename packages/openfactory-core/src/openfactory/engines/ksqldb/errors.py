"""What goes wrong with ksqlDB: a statement that it refuses, and a server that does not answer."""

from __future__ import annotations

from openfactory.exceptions import EngineError, EngineUnavailableError, QueryError

__all__ = ["WAY_OUT", "KSQLDBClientException", "KSQLDBQueryError", "KSQLDBUnavailableError"]

#: How an error ends where no server is to be had.
WAY_OUT = "Run without any server by KSQLDB_URL=sqlite:///factory.db, or by `ofa run` with the app's file."


class KSQLDBClientException(EngineError):
    """A query, statement or insert that was not answered.

    Attributes:
        statement: its text, where there is one.
        code: the number that the server gave, or None.
    """

    statement: str | None

    def __init__(self, message: str, *, statement: str | None = None, code: int | None = None) -> None:
        super().__init__(message)
        self.statement = statement
        self.code = code


class KSQLDBQueryError(KSQLDBClientException, QueryError):
    """A query that the server refuses, or that cannot be put to it; also a `QueryError`, as of every engine."""

    statement: str

    def __init__(self, message: str, *, statement: str, code: int | None = None) -> None:
        QueryError.__init__(self, message, statement=statement)
        self.code = code


class KSQLDBUnavailableError(KSQLDBClientException, EngineUnavailableError):
    """A server that does not answer, or not yet; also an `EngineUnavailableError`.

    Attributes:
        address: the URL that was tried, without a user name or password.
    """

    def __init__(self, message: str, *, address: str, statement: str | None = None, code: int | None = None) -> None:
        EngineUnavailableError.__init__(self, message, address=address)
        self.statement = statement
        self.code = code
