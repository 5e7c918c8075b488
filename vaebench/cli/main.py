"""The command line: errors become one line and an exit code; the verbs are in `commands`. Imports no torch."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from vaebench import __version__
from vaebench.cli import streams
from vaebench.cli.board import board
from vaebench.cli.cache import cache
from vaebench.cli.check import check, selftest
from vaebench.cli.cite import cite
from vaebench.cli.common import zoo_option
from vaebench.cli.compress import compress, decompress
from vaebench.cli.data import data
from vaebench.cli.export import export
from vaebench.cli.import_ import import_
from vaebench.cli.ls import ls
from vaebench.cli.new import new
from vaebench.cli.run import run
from vaebench.cli.submit import submit
from vaebench.cli.train import train
from vaebench.cli.verify import reproduce, verify
from vaebench.core.errors import DataError, UserError

EXIT_CODES = """\b
Exit codes:
  0    done
  1    a metric, check or self-test failed; what else was asked for is done
  2    a mistake in what was given: the message says which
  3    a file is absent, damaged or not what it should be
  70   a fault in vaebench: please report it, with the output of --debug
  130  interrupted: what was finished is kept, and the same command goes on"""


class _Group(click.Group):
    """Turns errors into one line and an exit code; a traceback only with --debug."""

    def main(self, *args: Any, **extra: Any) -> Any:
        streams.prepare()
        return super().main(*args, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with self._told(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with self._told(ctx):
            return super().invoke(ctx)

    @contextmanager
    def _told(self, ctx: click.Context) -> Iterator[None]:
        try:
            yield
        except (click.exceptions.NoArgsIsHelpError, click.exceptions.Exit, click.Abort):
            raise
        except click.UsageError as error:
            path = (error.ctx or ctx).command_path
            self._end(ctx, f"{error.format_message().rstrip('.')}; see {path} --help", 2)
        except KeyboardInterrupt:
            self._end(ctx, "interrupted: what was finished is kept; the same command goes on from there", 130)
        except BrokenPipeError:
            streams.give_up()  # its reader has gone, as `head` does
            ctx.exit(0)
        except SystemExit as error:
            self._end(ctx, f"a plug-in called sys.exit({error.code!r}); mend or uninstall it", 1)
        except UserError as error:
            self._end(ctx, str(error), 3 if isinstance(error, DataError) else 2)
        except Exception as error:
            if isinstance(error, OSError) and streams.is_of_output(error):
                streams.give_up()
                self._end(ctx, f"cannot write to stdout: {error.strerror}; what went to files before is kept", 2)
            self._end(ctx, f"fault in vaebench: {type(error).__name__}: {error}; run with --debug and report it", 70)

    @staticmethod
    def _end(ctx: click.Context, message: str, code: int) -> None:
        with suppress(OSError):  # stderr may be what is full
            if ctx.params.get("debug"):
                traceback.print_exc()
            click.echo("vaebench: " + " ".join(message.split()), err=True)
        ctx.exit(code)


@click.group(cls=_Group, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(__version__, prog_name="vaebench")
def main(debug: bool) -> None:
    """Evaluate variational auto-encoders: correct numbers, with errors and provenance."""


for command in (run, check, verify, reproduce, submit, ls, compress, decompress):
    zoo_option(command)
for command in (
    run, train, ls, board, verify, reproduce, export, data, cache, import_, selftest, check, submit, compress,
    decompress, new, cite,
):  # fmt: skip
    main.add_command(command)
