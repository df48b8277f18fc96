"""The command `tatonnement`. Solvers, pandas and matplotlib are imported by the subcommands that need them."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import click

SORTS = ("rules", "steps", "stops", "coordinators", "devices", "problems")


class NearestName(click.Group):
    """A group that answers a misspelt subcommand with the nearest known one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if close:
                raise click.UsageError(f"no command '{args[0]}'; did you mean '{close[0]}'?", ctx) from error
            raise


@click.group(cls=NearestName, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("tatonnement"), prog_name="tatonnement")
def tatonnement() -> None:
    """Price-coordinated decomposition over MPI.

    Many optimisers each solve their own problem against a price, a coordinator answers with what it needs, and a rule
    moves the prices until both agree or it is proven how far from the optimum they are.
    """


@tatonnement.command()
@click.argument("case", metavar="CASE")
@click.option(
    "--out", metavar="DIR", required=True, help="Folder for the results.",
    callback=lambda ctx, option, value: _named(ctx, option, value),
)  # fmt: skip
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True,
    help="Replace or add a value of the case file: --set rule.step.c2=0.5. May be repeated.",
)  # fmt: skip
@click.option("--rule", metavar="KIND|FILE.toml", help="Replace the whole [rule] table.")
@click.option("--resume", metavar="DIR", help="Go on from the newest checkpoint in the result folder DIR.")
@click.option("--force", is_flag=True, help="Write into --out DIR although it holds something else.")
@click.option("--quiet", is_flag=True, help="Print only how the run ended.")
@click.option(
    "--kinds", is_flag=True, is_eager=True, expose_value=False, help="List rules, steps and criteria, and end.",
    callback=lambda ctx, _, given: _kinds(ctx) if given else None,
)  # fmt: skip
def run(**given: Any) -> None:
    """Run CASE, a case file or the name of a shipped case, on all ranks that mpiexec has started.

    Exit code 0: the run ended and says how; 1: it failed, result.json says why; 2: bad input, nothing written.
    """
    raise click.UsageError("start it by 'tatonnement run'")  # every rank parses for itself, see `main`


@tatonnement.command()
@click.argument("case", metavar="CASE")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="As in 'run'.")
@click.option("--rule", metavar="KIND|FILE.toml", help="As in 'run'.")
@click.option("--blocks", is_flag=True, help="Also solve a few blocks of every unit, and try what a block promises.")
def check(case: str, overrides: Sequence[str], rule: str | None, blocks: bool) -> None:
    """Read CASE and tell all its mistakes, its blocks, their size, and what building them takes; nothing is solved.

    With --blocks a few blocks of every unit answer prices: sign, penalty, bounds, evaluation, repeatability. Exit code
    2: mistakes in the case; 1: a block does not keep what it promises.
    """
    from decomp.case.inspection import block_report, report
    from decomp.case.shipped import find_case
    from decomp.errors import TatonnementError

    try:
        click.echo(report(find_case(case), list(overrides), rule))
        if blocks:
            text, good = block_report(find_case(case), list(overrides), rule)
            click.echo(text)
            if not good:
                sys.exit(1)
    except TatonnementError as error:
        click.echo(str(error), err=True)
        sys.exit(2)


@tatonnement.command()
@click.argument("folder", metavar="DIR")
@click.option("--scenarios", type=click.IntRange(2), required=True, help="Fresh scenarios the first stage is tried in.")
@click.option("--seed", type=click.IntRange(0), required=True, help="Of the fresh scenarios.")
@click.option(
    "--replications", type=click.IntRange(0), default=0, show_default=True,
    help="Of the estimate of the optimality gap (Mak, Morton and Wood 1999); 0 = no estimate, else at least 2.",
)  # fmt: skip
@click.option("--replication-scenarios", type=click.IntRange(2), help="Scenarios of each replication; as --scenarios.")
@click.option(
    "--branching", callback=lambda ctx, option, value: _branching(ctx, option, value),
    help="With more than two stages: 5,4 evaluates in --scenarios trees of 5 and 4 nodes below each node, by stage.",
)  # fmt: skip
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of the intervals.")
@click.option("--no-value", is_flag=True, help="Leave out EVPI and VSS.")
@click.option("--case", metavar="FILE", help="The case file, where it no longer lies where it was run.")
@click.option("--out", metavar="FILE.json", help="Write all figures there, too.")
def evaluate(folder: str, out: str | None, no_value: bool, **given: Any) -> None:
    """Evaluate the first stage of the finished run in DIR under fresh scenarios, on all ranks of mpiexec."""
    from decomp.api import evaluate as evaluated
    from decomp.case.evaluation_text import lines
    from decomp.errors import TatonnementError
    from decomp.parallel.ranks import find_ranks
    from decomp.storage.result_folder import write_json

    ranks = find_ranks()
    try:
        found = evaluated(folder, value=not no_value, ranks=ranks, **given)
    except TatonnementError as error:
        if not ranks.rank:
            click.echo(str(error), err=True)
        if ranks.size > 1:
            ranks.end()
        sys.exit(2)
    if found is not None:
        click.echo("\n".join(lines(found)))
        if out:
            write_json(Path(out), found.plain())
    if ranks.size > 1:
        ranks.end()


@tatonnement.command("list")
@click.argument("sort", type=click.Choice(SORTS))
def list_(sort: str) -> None:
    """List what a case file can name: rules, steps, stopping criteria, coordinators, devices or problems."""
    from decomp.case.catalogue import section

    click.echo(section(sort))


@tatonnement.command()
def cases() -> None:
    """List the cases that come with the installed packages; 'tatonnement run NAME --out DIR' runs one."""
    import tomllib

    from decomp.case.shipped import shipped

    found = shipped()
    width = max(map(len, found), default=0)
    for name, file in found.items():
        title = tomllib.loads(file.read_text(encoding="utf-8")).get("case", {}).get("title", "")
        click.echo(f"{name:{width}}  {title}")


@tatonnement.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--like", default="chalmers_undervoltage", show_default=True, help="The shipped case to begin from.")
def new(folder: Path, like: str) -> None:
    """Write a case of one's own into DIR, which must not exist: a commented case file and its data, ready to run."""
    from decomp.case.shipped import shipped
    from decomp.case.template import write_case

    known = shipped()
    if like not in known:
        close = difflib.get_close_matches(like, known, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise click.UsageError(f"no shipped case '{like}'; {hint}known: {', '.join(known)}")
    if folder.exists():
        raise click.UsageError(f"{folder} exists already; give a folder that is made anew")
    file = write_case(known[like], folder)
    click.echo(f"{file}: run it with  tatonnement run {file} --out {folder / 'results'}")


def _branching(ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...]:
    numbers = [] if value is None else value.split(",")
    if not all(number.strip().isdigit() and int(number) > 0 for number in numbers):
        raise click.BadParameter("is no list of numbers like 5,4", ctx, option)
    return tuple(map(int, numbers))


def _kinds(ctx: click.Context) -> None:
    from decomp.case.catalogue import kinds

    click.echo(kinds())
    ctx.exit()


def _named(ctx: click.Context, option: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("is empty; name a folder, it is made if it does not exist", ctx, option)
    return value


def _refuse(text: str) -> NoReturn:
    """Ends every rank; only the first one of a launcher says why."""
    ranks = (os.environ.get(name, "0") for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"))
    if not any(rank.isdigit() and int(rank) for rank in ranks):
        click.echo(text, err=True)
    sys.exit(2)


def main() -> None:
    """The console script. A run is parsed on every rank by itself, so that only one of them speaks of a mistake."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["run"] and not {"-h", "--help"} & set(arguments):
        try:
            from decomp.command import launch
        except ImportError as error:
            _refuse(f"a library cannot be used: {error}; install the versions that constraints.txt names")
        launch(arguments[1:])
    tatonnement(prog_name="tatonnement")
