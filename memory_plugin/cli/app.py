"""The commands under one name, and what becomes of errors.

Exit status: 0; 1 when something outside failed or an answer is bad; 2 when the caller has to change something;
130 after Ctrl-C; 141 when the reader of the output went away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from memory_plugin.cli import check, mcp, measure, migrate, read, show, sizing, train, write
from memory_plugin.cli.examples import EXAMPLES
from memory_plugin.errors import ConfigurationError, MemoryPluginError

NAME = "memory-plugin"
DEBUG = "MEMORY_PLUGIN_DEBUG"
INTERRUPTED, PIPE_CLOSED = 130, 141


@contextmanager
def _guarded(*, as_json: bool) -> Iterator[None]:
    """Errors become one clear line and a status, never a traceback."""
    try:
        yield
        sys.stdout.flush()  # while a closed pipe can still be told
    except MemoryPluginError as error:
        show.failure(type(error).__name__, str(error), as_json=as_json)
        raise typer.Exit(2 if isinstance(error, ConfigurationError) else 1) from error
    except (KeyboardInterrupt, typer.Abort):
        show.failure("Interrupted", "interrupted: what was reported as done is kept", as_json=as_json)
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        _discard_output()
        raise typer.Exit(PIPE_CLOSED) from None
    except OSError as error:
        show.failure(type(error).__name__, f"{error.strerror or error}: {error.filename or ''}", as_json=as_json)
        raise typer.Exit(1) from error


class Guarded(TyperCommand):
    """A command that leaves with one clear line and a status."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _guarded(as_json=bool(ctx.params.get("as_json"))):
            return super().invoke(ctx)


class GuardedGroup(TyperGroup):
    """The same for a command with commands under it."""

    def invoke(self, ctx: Any) -> Any:
        """Run it, or the one under it."""
        with _guarded(as_json=False):
            return super().invoke(ctx)


app = typer.Typer(
    name=NAME,
    help="A memory for agents: encrypted at rest, hybrid retrieval, local models.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # a traceback would show texts and keys
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from memory_plugin import __version__

        typer.echo(f"{NAME} {__version__}")
        raise typer.Exit


@app.callback()
def _all(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """A memory for agents: encrypted at rest, hybrid retrieval, local models."""


def _register(commands: Sequence[tuple[str, Callable[..., None]]]) -> None:
    for path, function in commands:
        group, _, name = path.rpartition(" ")
        under = GROUPS[group] if group else app
        under.command(name, cls=Guarded, epilog=_examples(path))(function)


def _examples(path: str) -> str:
    # A blank line between two lines keeps them apart; the backslash keeps rich from reading markup.
    lines = "\n\n".join(f"  {line}" for line in EXAMPLES[path])
    return f"Examples:\n\n{lines}".replace("[", "\\[")


def _group(name: str, words: str) -> typer.Typer:
    made = typer.Typer(help=words, no_args_is_help=True, rich_markup_mode="rich")
    app.add_typer(made, name=name)
    return made


def _command_group(name: str, function: Callable[..., None]) -> typer.Typer:
    """A command that has commands under it."""
    made = typer.Typer(cls=GuardedGroup, invoke_without_command=True, rich_markup_mode="rich", epilog=_examples(name))
    made.callback()(function)
    app.add_typer(made, name=name)
    return made


GROUPS = {"train": _group("train", "Make a model of your own."), "mcp": _command_group("mcp", mcp.serve)}
"""Commands under a name of their own."""


_register(
    (
        ("add", write.add),
        ("search", read.search),
        ("context", read.context),
        ("list", read.list_),
        ("get", read.get),
        ("count", read.count),
        ("facet", read.facet),
        ("delete", write.delete),
        ("rotate", write.rotate),
        ("forget", write.forget),
        ("doctor", check.doctor),
        ("verify", check.verify),
        ("migrate", migrate.migrate),
        ("eval", measure.evaluate),
        ("plan", sizing.sizes),
        ("train embedder", train.embedder),
        ("mcp token", mcp.token),
        ("mcp config", mcp.config),
    )
)


def run(arguments: Sequence[str]) -> int:
    """Run a command line; its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to fail
    as_json = "--json" in arguments
    try:
        # typer prints usage errors for people; those who asked for JSON get an object.
        status = app(list(arguments), prog_name=NAME, standalone_mode=not as_json)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        describe = getattr(error, "format_message", None)
        if describe is not None:
            show.failure("UsageError", describe(), as_json=True)
            return int(getattr(error, "exit_code", 2))
        if os.environ.get(DEBUG):
            raise
        advice = f"this is a defect of memory-plugin; {DEBUG}=1 shows where"
        show.failure(type(error).__name__, f"{type(error).__name__}: {error} ({advice})", as_json=as_json)
        return 1
    return status if isinstance(status, int) else 0


def _discard_output() -> None:
    """Nobody reads any more: what is still buffered must not fail when the interpreter leaves."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
