"""The part of an asset that is commanded: sending a command, and waiting for what comes of it."""

from __future__ import annotations

from typing import Any

from openfactory.assets.caller import Caller, CommandArguments

__all__ = ["Commanding"]


class Commanding:
    """Sends commands to one asset."""

    _caller: Caller

    def method(self, method: str, sender_uuid: str, args: CommandArguments | None = None) -> str:
        """Send a command and do not wait for what comes of it; `call` waits.

        Args:
            method: name of the method.
            sender_uuid: the asset that sends the command.
            args: its arguments.

        Returns:
            the correlation id, by which both sides log the command.

        Raises:
            ValueError: there is no sender.
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
            args: arguments whose names cannot be keywords here, such as `timeout`.
            sender_uuid: the asset that sends the command, else APP_UUID.
            timeout: how long to wait, in seconds.

        Raises:
            CommandRejected: nothing was run: the method is unknown, an argument is wrong, the app is stopping.
            CommandFailed: the method raised.
            CommandTimeout: no answer came.
            ValueError: there is no sender.
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
        """`call`, for coroutines: the loop goes on while it waits."""
        return await self._caller.call_async(method, sender_uuid, {**dict(args or {}), **kwargs}, timeout)
