"""The part of an asset that sends commands to it and waits for their results."""

from __future__ import annotations

from typing import Any

from openfactory.assets.caller import Caller, CommandArguments

__all__ = ["Commanding"]


class Commanding:
    """Sends commands to one asset."""

    _caller: Caller

    def method(self, method: str, sender_uuid: str, args: CommandArguments | None = None) -> str:
        """Send a command without waiting for its result; `call` waits.

        Args:
            method: name of the method.
            sender_uuid: UUID of the asset that sends the command.
            args: arguments of the method.

        Returns:
            the correlation id, which both sides write to their logs.

        Raises:
            ValueError: `sender_uuid` is empty.
        """
        return self._caller.send(method, sender_uuid, args or {})

    def call(
        self,
        method: str,
        args: CommandArguments | None = None,
        /,
        *,
        sender_uuid: str | None = None,
        timeout: float = 10.0,
        **kwargs: Any,
    ) -> Any:
        """Send a command and wait for the method's result.

        Args:
            method: name of the method.
            args: arguments whose names are also parameters of `call`, such as `timeout`.
            sender_uuid: UUID of the asset that sends the command; APP_UUID by default.
            timeout: seconds to wait for the reply.
            **kwargs: all other arguments of the method.

        Raises:
            CommandRejected: the method was not run: it is unknown, an argument is wrong, or the app is stopping.
            CommandFailed: the method raised an error.
            CommandTimeout: the reply did not arrive in time.
            ValueError: `sender_uuid` and APP_UUID are empty.
        """
        return self._caller.call(method, sender_uuid, {**dict(args or {}), **kwargs}, timeout)

    async def call_async(
        self,
        method: str,
        args: CommandArguments | None = None,
        /,
        *,
        sender_uuid: str | None = None,
        timeout: float = 10.0,
        **kwargs: Any,
    ) -> Any:
        """Send a command and wait for its result, like `call`, without blocking the event loop."""
        return await self._caller.call_async(method, sender_uuid, {**dict(args or {}), **kwargs}, timeout)
