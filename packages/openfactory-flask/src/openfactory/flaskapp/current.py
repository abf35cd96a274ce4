"""The app behind a route, typed: what `current_app.ofa_app` is, for who wants to know what it has."""

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
    """The app that serves this request, the same as `current_app.ofa_app`.

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
        app_class: the class of the app; a type checker then knows its attributes.

    Raises:
        RuntimeError: there is no request, or the Flask app is not that of an OpenFactoryFlaskApp.
        TypeError: the app is of another class.
    """
    if not has_app_context():
        raise RuntimeError(
            "There is no Flask app here. Call current_ofa_app() in a route, or within `with app.app.app_context():`."
        )
    app = getattr(current_app, "ofa_app", None)
    if app is None:
        raise RuntimeError(
            f"The Flask app {current_app.name!r} belongs to no OpenFactoryFlaskApp. Make it in create_flask_app()."
        )
    if app_class is not None and not isinstance(app, app_class):
        raise TypeError(f"{app!r} serves this request, which is no {app_class.__name__}. Ask for {type(app).__name__}.")
    return app
