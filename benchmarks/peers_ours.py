"""python -m benchmarks.peers_ours SCENARIOS MULTIPLIER FIRST ROUNDS: the farmer hedged progressively by this engine."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.peers_farmer import Farmer, coupling, crops
from benchmarks.peers_rounds import Rounds, SolverClock, Stamp
from decomp.blocks.solve import batched_qp as pulled
from decomp.layout import Answers
from decomp.messages import FloatArray, Request, Response, Signal
from decomp.parallel.ranks import Ranks, find_ranks
from decomp.rules import ProgressiveHedging
from decomp.rules.base import Candidate, State
from decomp.run.engine import run
from decomp.run.options import Execution, Limits

RHO = 1.0


def hedge(scenarios: range, multiplier: int, rounds: int, ranks: Ranks) -> Rounds | None:
    """So many penalised rounds after the first; on the root."""
    clock = SolverClock()
    plain = pulled.solved
    stamps: list[Stamp] = [clock.stamp()]
    averages: list[FloatArray] = []
    seen: set[int] = set()

    class Told(Farmer):
        """Notes when the first block of this rank is asked a round's question: then the round before is over."""

        @classmethod
        def solve_together(cls, blocks: Sequence[Farmer], signals: Sequence[Signal]) -> Sequence[Response]:  # type: ignore[override]
            if signals[0].id not in seen:
                seen.add(signals[0].id)
                if len(seen) > 1:
                    stamps.append(clock.stamp())
            return super().solve_together(blocks, signals)

    class Averaged(ProgressiveHedging):
        def update(
            self, k: int, state: State, answers: tuple[Answers, ...], request: Request
        ) -> tuple[State, Candidate | None]:
            averages.append(state.setup.layout.mean(answers[0].y))
            return super().update(k, state, answers, request)

    pulled.solved = clock.timed(plain)
    try:
        # one round more: the end of a round is the begin of the next, and the last has the certificate in it
        run(
            lambda key: Told(int(key.scenario), multiplier), None, Averaged(penalty=RHO),
            coupling=[coupling(scenarios, multiplier)], stop=[], limits=Limits(rounds + 2),
            execution=Execution(ranks=ranks),
        )  # fmt: skip
    finally:
        pulled.solved = plain
    everyone = ranks.gather_objects(stamps[: rounds + 2])
    if everyone is None:
        return None
    names = crops(multiplier)
    return Rounds.of(everyone, {c: [float(a[i]) for a in averages[: rounds + 1]] for i, c in enumerate(names)})


if __name__ == "__main__":
    everywhere = find_ranks()
    count, times, first_, more = (int(word) for word in sys.argv[1:])
    told = hedge(range(first_, first_ + count), times, more, everywhere)
    if told is not None:
        print(told.line(), flush=True)
    everywhere.end()
