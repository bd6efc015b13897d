"""The command line: its verbs, and how errors become messages and exit codes."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, cast

import typer

from vertical_sdk import __version__
from vertical_sdk.cli import (
    base,
    data,
    doctor,
    evaluate,
    forecast,
    monitor,
    output,
    predict,
    quickstart,
    recipe,
    serve,
    train,
    tune,
)
from vertical_sdk.cli.registry.app import verbs as registry_verbs
from vertical_sdk.errors import DataError, RecipeError, RunError, VerticalError

__all__ = ["app", "main"]

EPILOG = (
    "Exit codes: 0 success · 1 a bug in vertical_sdk · 2 wrong usage or recipe · 3 data · 4 source or network · 5 base model · "
    "6 adapter · 7 registry · 8 gate failed · 9 run, disk or memory · 10 a missing extra · 130 Ctrl-C."
)
QUIET = {
    "DATASETS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Environment variables that keep libraries quiet. They are set for this process only, and only if the user has not."""
STOPPED = 130
PIPE_CLOSED = 141
UsageError = cast("type[Exception]", typer.BadParameter.__mro__[2])
"""What typer raises for a wrong option or argument, whichever version of click it uses."""

app = typer.Typer(
    name="vertical",
    help="Turn a general base model into a specialist, prove that it is better, and ship it safely.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(quickstart.quickstart)
app.command()(train.train)
app.command()(tune.tune)
app.command()(evaluate.evaluate)
app.command()(predict.predict)
app.command()(forecast.forecast)
app.command()(monitor.monitor)
app.command()(serve.serve)
app.add_typer(recipe.verbs, name="recipe")
app.add_typer(data.verbs, name="data")
app.add_typer(base.verbs, name="base")
app.add_typer(registry_verbs, name="registry")
app.command()(doctor.doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        output.show(f"vertical_sdk {__version__}")
        raise typer.Exit


@app.callback()
def _all_verbs(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error happened; may also follow a verb.")] = False,
) -> None:
    """Turn a general base model into a specialist, prove that it is better, and ship it safely."""


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. `args=None` means the arguments of the process."""
    words = list(sys.argv[1:] if args is None else args)
    end = words.index("--") if "--" in words else len(words)
    own, rest = words[:end], words[end:]
    debug, as_json = "--debug" in own, "--json" in own
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    with contextlib.ExitStack() as stack:
        if as_json:
            stack.enter_context(output.documents_only())
        if isinstance(logging.lastResort, logging.Handler):  # writes the warnings of libraries to stderr
            stack.callback(logging.lastResort.setFormatter, logging.lastResort.formatter)
            logging.lastResort.setFormatter(_Escaping())
        if not debug:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            stack.callback(logging.getLogger().setLevel, logging.getLogger().level)
            logging.getLogger().setLevel(logging.ERROR)
        try:
            code = app([word for word in own if word != "--debug"] + rest, prog_name="vertical", standalone_mode=False)
            sys.stdout.flush()
            return code if isinstance(code, int) else 0
        except BaseException as error:  # noqa: BLE001  (the end of the process: every error becomes a message and a code)
            if debug:
                for line in traceback.format_exc().split("\n"):
                    output.say(line)
            message, code = _report(error)
            if message and as_json:
                output.emit({"error": {"type": type(error).__name__, "message": message, "exit_code": code}})
            return code


class _Escaping(logging.Formatter):
    """A line of the log without characters that control a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return output.escape(super().format(record), lines=True)


def _report(error: BaseException) -> tuple[str, int]:
    """Show an error to the user. Returns its message, "" if there is nothing to show, and the exit code."""
    if isinstance(error, BrokenPipeError | SystemExit):
        # The reader of our output has closed it (typer and rich then exit with 1): no one would read a message.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return "", PIPE_CLOSED
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        output.say("Stopped.")
        return "", STOPPED
    if isinstance(error, UsageError):
        error.message = output.escape(error.message)  # type: ignore[attr-defined]
        error.show()  # type: ignore[attr-defined]
        return error.format_message(), int(error.exit_code)  # type: ignore[attr-defined]
    message, code = str(error).strip(), 1
    if isinstance(error, VerticalError):
        code = error.exit_code
    elif isinstance(error, MemoryError) or "out of memory" in message.lower() or "can't allocate memory" in message:
        message = f"not enough memory: {message or 'the machine has none left'}. Try --set train.per_device_train_batch_size=4."
        code = RunError.exit_code
    elif isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}:
        code = RunError.exit_code
    else:
        message = f"{type(error).__name__}: {message}. This is a bug; --debug shows where it happened."
    shown = output.escape(message, lines=isinstance(error, DataError | RecipeError))  # a line for each wrong key
    typer.secho(f"Error: {shown}", err=True, fg=typer.colors.RED if sys.stderr.isatty() else None)
    return message, code
