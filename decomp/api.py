"""The engine from Python: run blocks of one's own, solve a case file, read a result folder, step by hand."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decomp.coordinator import Coordinator
from decomp.errors import InputError, Mistake, RefusedError
from decomp.messages import Coupling, Key
from decomp.parallel.asynchronous import AsynchronousSettings
from decomp.parallel.ranks import Ranks, find_ranks, launched_in_vain
from decomp.rules.base import UpdateRule
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import rounds
from decomp.run.options import Execution, Limits, Output, Start
from decomp.run.result import Result, Round
from decomp.run.stopping import StoppingCriterion
from decomp.subproblem import Subproblem

if TYPE_CHECKING:
    import pandas as pd

    from decomp.case.evaluation_figures import Evaluation

__all__ = ["StoredResult", "evaluate", "iterate", "load_result", "run", "solve_case"]

Blocks = Mapping[Key, Subproblem] | Callable[[Key], Subproblem]
Settings = str | Mapping[str, Any]  # a name, a name with settings, or a table as in a case file


def iterate(
    subproblems: Blocks,
    coordinator: Coordinator | None = None,
    rule: UpdateRule | Settings = "auto",
    *,
    coupling: Coupling | Iterable[Coupling],
    stop: Sequence[StoppingCriterion | Settings] | StoppingCriterion | Settings = (),
    limits: Limits | int | None = None,
    certificate: CertificateSettings | int | None = None,
    start: Start | None = None,
    output: Output | None = None,
    ranks: Ranks | None = None,
    asynchronous: AsynchronousSettings | None = None,
) -> Generator[Round, None, Result | None]:
    """Step through a run: `for round in iterate(...)` has every complete round, with its prices and answers.

    A loop that ends early ends the run on all ranks. On ranks other than the root there are no rounds. Its value at the
    end (`result = yield from iterate(...)`) is the Result. Arguments and errors as in `run`.
    """
    return _steps(
        "iterate", subproblems, coordinator, rule, coupling, stop, limits, certificate, start, output, ranks,
        asynchronous,
    )  # fmt: skip


def run(
    subproblems: Blocks,
    coordinator: Coordinator | None = None,
    rule: UpdateRule | Settings = "auto",
    *,
    coupling: Coupling | Iterable[Coupling],
    stop: Sequence[StoppingCriterion | Settings] | StoppingCriterion | Settings = (),
    limits: Limits | int | None = None,
    certificate: CertificateSettings | int | None = None,
    start: Start | None = None,
    output: Output | None = None,
    ranks: Ranks | None = None,
    asynchronous: AsynchronousSettings | None = None,
) -> Result | None:
    """Coordinate blocks by prices until a criterion stops; the Result on the root, None on the other ranks.

        run(blocks, market, "bundle(speculative=2)", coupling=[...], stop=Gap(1e-4, 0.0, "total"), limits=100)

    Arguments
        subproblems  blocks by Key (or by "unit", or ("unit", "scenario")), or a function that builds the block of a Key
                     on the rank that owns it; the other ranks never build it
        coordinator  None: the scenarios of each unit only have to agree
        rule         an UpdateRule; its name; its name with settings, "dual_ascent(step=constant(a=0.5))"; or the table
                     [rule] of a case file as a dict. `tatonnement list rules` has them
        coupling     one Coupling a unit
        stop         criteria in order of preference: Gap, Residual, RelativeResidual, Secure, Divergence, or any
                     function of the Iterate; names with settings as for the rule. Without any the run goes to its limit
        limits       Limits(max_rounds, time_limit_s, ...), or a number of rounds; without them at most 200 rounds
        certificate  CertificateSettings, or after how many rounds a bound is proven each time, 0 = only at the end;
                     None = in every round where a criterion asks for it (Gap), else only at the end
        start        prices, columns or a checkpoint to begin with; output: callbacks and files; see decomp.run.options
        ranks        default: all that mpiexec has started, this process alone without it
        asynchronous rounds end when a share of the blocks has answered; None = all of them

    Raises InputError with every argument that is wrong, by its name; RefusedError where the rule needs what the blocks
    or the coordinator cannot give, or where mpiexec has started processes that do not find each other.
    """
    steps = _steps(
        "run", subproblems, coordinator, rule, coupling, stop, limits, certificate, start, output, ranks, asynchronous
    )
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            found: Result | None = ended.value
            return found


def _steps(
    function: str,
    subproblems: Any,
    coordinator: Any,
    rule: Any,
    coupling: Any,
    stop: Any,
    limits: Any,
    certificate: Any,
    start: Any,
    output: Any,
    ranks: Any,
    asynchronous: Any,
) -> Generator[Round, None, Result | None]:
    """The engine's rounds, once every argument has been looked at."""
    from decomp.api_arguments import RunArguments

    given = RunArguments(function)
    blocks, chosen, criteria = given.subproblems(subproblems), given.rule(rule), given.stop(stop)
    market, joined, until = given.coordinator(coordinator), given.coupling(coupling), given.limits(limits)
    proven = given.certificate(certificate, criteria)
    for name, value, kind in (("start", start, Start), ("output", output, Output)):
        given.option(name, value, kind)
    given.option("asynchronous", asynchronous, AsynchronousSettings)
    given.ranks(ranks)
    if joined and (market is None) == (coordinator is None):
        given.together(blocks, market, joined, start)
    given.done()
    assert chosen is not None
    everyone = ranks or find_ranks()
    if ranks is None and launched_in_vain(everyone):
        raise RefusedError(launched_in_vain(everyone))
    return rounds(
        blocks, market, chosen, coupling=joined, stop=criteria, limits=until, certificate=proven, start=start,
        execution=Execution(everyone, asynchronous), output=output,
    )  # fmt: skip


def solve_case(
    case: str | Path,
    *,
    out: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    rule: str | None = None,
    resume: str | Path | None = None,
    ranks: Ranks | None = None,
    force: bool = False,
) -> StoredResult | None:
    """Run a case file, or a shipped case by its name, and read what it leaves; None on ranks other than the root.

    out   folder for the results; None = a temporary one, which is read before it is removed
    set   values of the case file to replace: {"rule.step.c2": 0.5}
    rule  replaces the whole [rule] table: a kind, or a TOML file
    force write into `out` although it holds something else

    Raises InputError with every mistake, RefusedError for a rule the case cannot serve.
    """
    from decomp.case.config import load
    from decomp.case.execution import CHECKPOINTS, keeper_of, lies_in, run_case
    from decomp.case.shipped import find_case
    from decomp.storage.checkpoint import find_checkpoint
    from decomp.storage.folder_lock import taken
    from decomp.storage.result_folder import ResultFolder

    texts = [f"{key}={_toml(value)}" for key, value in (set or {}).items()]
    read = load(find_case(str(case)), texts, rule)
    everyone = ranks or find_ranks()
    root = everyone.rank == 0
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = Path(scratch) if out is None else Path(out)
        keeper = found = None
        if root:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(taken(folder))
            found = find_checkpoint(Path(resume) / CHECKPOINTS, read.identity) if resume is not None else None
        own = ResultFolder(folder, read.tables, force=force, resumed=lies_in(found, folder))
        if root:
            trouble = own.trouble()
            if trouble:
                raise InputError([Mistake("solve_case", "out", str(folder), trouble)])
            own.begin()
            stack.callback(own.give_back)
            keeper = keeper_of(read, own, found)
        ended = run_case(everyone, read, own, keeper=keeper, resume=found)
        if ended is None:
            return None
        ended.write()
        stored = load_result(folder, ended.result)
        if out is None:
            stored.read_all()
        return stored


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(str(name))} = {_toml(item)}' for name, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, date | time):
        return value.isoformat()
    return json.dumps(value) if isinstance(value, str) else repr(value)


def evaluate(
    folder: str | Path,
    *,
    scenarios: int,
    seed: int,
    replications: int = 0,
    replication_scenarios: int | None = None,
    branching: Sequence[int] = (),
    confidence: float = 0.95,
    value: bool = True,
    case: str | Path | None = None,
    ranks: Ranks | None = None,
) -> Evaluation | None:
    """What the first stage of a finished run is worth; None on ranks other than the root. See docs/evaluate.md.

    folder        of the run's results
    scenarios     so many fresh ones of the same problem it is evaluated under, with their seed
    replications  of the estimate of its optimality gap, each with `replication_scenarios` (None = as many); 0 = none
    branching     with more than two stages: `scenarios` fresh trees, with so many nodes below each node, by stage
    confidence    of the intervals
    value         also work out EVPI and VSS from the run's own scenarios
    case          the case file, where it no longer lies where it was run

    Raises InputError for a folder without a finished run, TatonnementError where the problem cannot be evaluated.
    """
    from decomp.case.config import from_tables
    from decomp.case.evaluation import evaluated

    before = load_result(folder)
    file = case if case is not None else before.summary.get("case_file")
    if file is None or not Path(file).is_file():
        text = f"the case file {file or ''} is not there".replace("  ", " ")
        raise InputError([Mistake(str(folder), "", "", text, "say where it lies: --case FILE")])
    if before.summary.get("objective") is None:
        raise InputError(
            [Mistake(str(folder), "", "", f"the run ended as {before.summary.get('status')}, without a cost")]
        )
    read = from_tables(before.summary["case"], file)
    offers = before.offers["y"].groupby(level="entry", sort=False)
    found = {str(name): values.to_numpy(float) for name, values in offers}
    return evaluated(
        read, found, float(before.summary["objective"]), ranks or find_ranks(), scenarios=scenarios, seed=seed,
        replications=replications, replication_scenarios=replication_scenarios, branching=branching,
        confidence=confidence, value=value,
    )  # fmt: skip


def load_result(folder: str | Path, run: Result | None = None) -> StoredResult:
    """What a run has left in its folder. Raises InputError where there is no result.json."""
    place = Path(folder)
    try:
        summary = json.loads((place / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        told = Mistake(
            str(place), "result.json", "file", f"cannot be read: {error}", "give the folder of a run (--out)"
        )
        raise InputError([told]) from error
    return StoredResult(place, summary, run)


@dataclass(frozen=True, eq=False)
class StoredResult:
    """A finished run, read from its folder. Tables are pandas objects; times are time-zone-aware, units in the names.

    summary  what result.json holds; `result.status`, `result.objective` and all its other keys are attributes, too
    run      the engine's own Result where the run was made by this process
    """

    folder: Path
    summary: Mapping[str, Any]
    run: Result | None = None

    def __getattr__(self, name: str) -> Any:
        summary = self.__dict__.get("summary", {})
        if name in summary:
            return summary[name]
        raise AttributeError(f"a result has no '{name}'; result.json has {', '.join(summary)}")

    @cached_property
    def iterations(self) -> pd.DataFrame:
        """One line a round (iterations.csv)."""
        return self._table("iterations.csv").set_index("round")

    @cached_property
    def prices(self) -> pd.DataFrame:
        """Price of every node (columns) in every round."""
        return self._table("prices.csv").pivot(index="round", columns="node", values="price")

    @cached_property
    def offers(self) -> pd.DataFrame:
        """Price and offer y of every unit, scenario and entry at the end."""
        return self._table("offers.csv").set_index(["unit", "scenario", "entry"])

    @cached_property
    def schedules(self) -> Mapping[str, pd.DataFrame]:
        """schedule_<unit>.csv by unit, by time."""
        found = sorted(self.folder.glob("schedule_*.csv"))
        return {file.stem.removeprefix("schedule_"): _by_time(self._table(file.name)) for file in found}

    @cached_property
    def details(self) -> pd.DataFrame:
        """What every block tells of its own solution at the end: a value by unit, scenario, name and index."""
        return self._table("detail.csv").pipe(lambda t: t if t.empty else t.set_index(t.columns[:4].tolist()))

    @cached_property
    def voltages(self) -> pd.DataFrame:
        """Voltage of every bus before and after, by time (voltages.csv); empty where the problem has none."""
        return _by_time(self._table("voltages.csv"))

    @cached_property
    def duals(self) -> pd.DataFrame:
        """Multiplier of every voltage limit and nodal price, by time (duals.csv); empty where there are none."""
        return _by_time(self._table("duals.csv"))

    def read_all(self) -> None:
        """Read every table now, before the folder goes."""
        for name in ("iterations", "prices", "offers", "schedules", "details", "voltages", "duals"):
            getattr(self, name)

    def _table(self, name: str) -> pd.DataFrame:
        import pandas as pd

        file = self.folder / name
        text = {"unit": str, "scenario": str, "entry": str, "node": str, "bus": str, "name": str}
        return pd.read_csv(file, dtype=text) if file.exists() else pd.DataFrame()


def _by_time(table: pd.DataFrame) -> pd.DataFrame:
    """The table by its time stamps, in the zone they are written in; by UTC offset where a day changes it."""
    import pandas as pd

    if "time" not in table:
        return table
    stamps = table["time"].map(pd.Timestamp)
    offsets = {stamp.utcoffset() for stamp in stamps}
    index = pd.DatetimeIndex(stamps) if len(offsets) == 1 else pd.to_datetime(stamps, utc=True)
    return table.drop(columns="time").set_index(pd.DatetimeIndex(index, name="time"))
