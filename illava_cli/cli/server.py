"""The flags of commands that ask a server instead of a model of their own, and their way into a client."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from illava_cli.cli.options import ModelFlags
from illava_cli.errors import UsageError

if TYPE_CHECKING:
    from illava_cli.client.calls import Client
    from illava_cli.client.settings import Remote

ServerUrl = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="Ask an OpenAI-compatible server, and load no model."),
]
ServerKey = Annotated[
    str | None,
    typer.Option(
        "--server-key",
        metavar="KEY",
        envvar="ILLAVA_SERVER_KEY",
        help="Its key (ps shows it, a variable not).",
    ),
]
ServerModel = Annotated[
    str | None,
    typer.Option("--server-model", metavar="NAME", help="Its model's name (default: the only one it has)."),
]
Concurrency = Annotated[
    int | None,
    typer.Option("--concurrency", metavar="N", min=1, help="Questions that a server is asked at once (8)."),
]
AT_ONCE = 8


@dataclass(frozen=True)
class ServerFlags:
    """A server that is asked, and how.

    Args:
        seconds: that an answer may take.
    """

    address: str
    key: str | None = field(default=None, repr=False)
    model: str | None = None
    concurrency: int = AT_ONCE
    seconds: float | None = None

    @staticmethod
    def of(
        address: str | None,
        key: str | None,
        model: str | None,
        concurrency: int | None,
        seconds: float | None = None,
    ) -> ServerFlags | None:
        """As the flags have it; None where no server is named.

        Raises:
            UsageError: flags that say nothing without `--server`.
        """
        if address is None:
            if model is not None or concurrency is not None:
                raise UsageError("--server-model and --concurrency go with --server")
            return None
        return ServerFlags(address, key, model, concurrency or AT_ONCE, seconds)

    def client(self, stop: Event | None = None) -> Client:
        """Calls to it, until `stop` is set.

        Raises:
            UsageError: it is no address of a server.
        """
        from illava_cli.client.calls import Client
        from illava_cli.client.server import Server

        server = Server.of(self.address, self.key)
        return Client(server, seconds=self.seconds, connections=self.concurrency, stop=stop)

    def named(self, flags: ModelFlags) -> ServerFlags:
        """With the name of a model: the server's only one, where none was given.

        Raises:
            UsageError: a setting that no server can be told, or no model of several is named.
            ServerError: the server does not say which models it has.
        """
        if self.model is not None:
            return self
        replace(self, model="").config(flags)  # mistakes are told before it is asked
        with self.client() as client:
            return replace(self, model=client.server.only(client.models()))

    def config(self, flags: ModelFlags, settings: list[str] | None = None) -> Remote:
        """The configuration under the flags of a command, and further settings.

        Raises:
            UsageError: a setting that no server can be told.
        """
        from illava_cli.client.server import Server
        from illava_cli.client.settings import remote

        if flags.model is not None:
            raise UsageError("--server answers with a model of its own: name it with --server-model, not -m")
        url, settings = Server.of(self.address, self.key).url, [*(flags.settings or []), *(settings or [])]
        return remote(url, self.model or "", settings=settings, overrides=flags.overrides())
