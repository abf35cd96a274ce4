"""The app that serves a request, with its type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from flask import current_app, has_app_context

if TYPE_CHECKING:
    from openfactory.flaskapp.app import OpenFactoryFlaskApp

__all__ = ["current_ofa_app"]

App = TypeVar("App")


@overload
def current_ofa_app() -> OpenFactoryFlaskApp: ...
@overload
def current_ofa_app(app_class: type[App]) -> App: ...
def current_ofa_app(app_class: type[Any] | None = None) -> Any:
    """Return the app that serves this request, the same object as `current_app.ofa_app`.

    >>> from openfactory.flaskapp import OpenFactoryFlaskApp
    >>> class Panel(OpenFactoryFlaskApp):
    ...     def configure_routes(self):
    ...         @self.app.route("/")
    ...         def root():
    ...             return current_ofa_app(Panel).asset_uuid
    >>> panel = Panel(None, test_mode=True, app_uuid="PANEL")
    >>> panel.test_client().get("/").text
    'PANEL'
    >>> panel.shutdown()

    Args:
        app_class: class of the app; a type checker infers the type of the result from it.

    Raises:
        RuntimeError: no Flask app context is active, or its Flask app does not belong to an OpenFactoryFlaskApp.
        TypeError: the app is not an instance of `app_class`.
    """
    if not has_app_context():
        raise RuntimeError(
            "No Flask app is active. Call current_ofa_app() in a route, or in a block `with app.app.app_context():`."
        )
    app = getattr(current_app, "ofa_app", None)
    if app is None:
        raise RuntimeError(
            f"The Flask app {current_app.name!r} does not belong to an OpenFactoryFlaskApp. "
            "Create it in create_flask_app()."
        )
    if app_class is not None and not isinstance(app, app_class):
        raise TypeError(
            f"The app of this request, {app!r}, is not a {app_class.__name__}. "
            f"Call current_ofa_app({type(app).__name__})."
        )
    return app
