"""An evaluation in words, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from decomp.case.evaluation_figures import Evaluation


def lines(e: Evaluation) -> Iterator[str]:
    """One line a figure."""
    percent = f"{100 * e.confidence:g} %"
    if e.cost is not None:
        c = e.cost
        yield f"cost        {c.mean:.8g} +- {c.standard_error:.3g} ({c.count} scenarios, seed {e.seed})"
        yield f"            {percent} confidence: {c.low:.8g} to {c.high:.8g}"
    if e.infeasible:
        yield f"infeasible  in {100 * e.infeasible:.4g} % of {e.scenarios} scenarios: the expected cost is infinite"
        yield f"            {e.conflict}"
    else:
        yield f"infeasible  in none of {e.scenarios} scenarios"
    if e.gap is not None:
        g = e.gap
        yield f"gap         {g.mean:.6g} +- {g.standard_error:.3g} ({g.replications} times {g.scenarios} scenarios)"
        yield f"            below {g.upper:.6g} with {percent} confidence; the optimum is about {g.lower_estimate:.8g}"
    if e.value is not None:
        v = e.value
        yield f"EVPI        {v.evpi:.8g} = {v.recourse:.8g} (this run) - {v.wait_and_see:.8g} (every scenario known)"
        if v.vss is not None:
            yield f"VSS         {v.vss:.8g} = {v.mean_solution:.8g} (first stage of the mean) - {v.recourse:.8g}"
        if v.mean_why:
            yield f"            {v.mean_why}"
