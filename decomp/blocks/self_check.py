"""What can be tried of a block without knowing its model: do its answers obey what a block promises?

sign           <p - p', y - y'> >= 0: a higher price never gets less
optimality     cost(y) - <p, y> <= cost(y') - <p, y'> for every other answer y' of the block
penalty        the penalised objective at the penalised answer is at most that of every other answer
bound          bound <= cost(y') - <p, y'> for every answer y', and within the point it comes with
evaluation     cost at the block's own offer is at most what the offer came with
repeatability  the same question from the same warm state has the same answer, to the last bit
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from decomp.errors import told
from decomp.messages import FloatArray, Response, Signal
from decomp.subproblem import Subproblem

PRICES = (0.0, 1.0, -1.0, 0.3)  # times a reference price, beside each entry alone
MOST_ALONE = 4  # entries that are also tried alone


def check_block(
    block: Subproblem,
    n: int,
    *,
    price: FloatArray | None = None,
    scale: FloatArray | float = 1.0,
    weight: FloatArray | float = 1.0,
    report: int = 0,
    tolerance: float = 1e-4,
) -> list[str]:
    """What is wrong with a block, in sentences; empty where nothing was found. The block's warm state is put back.

    n          number of its coupling entries
    price      (n,) to try prices around; None = 0. scale: how far from it, one number or one for each entry
    weight     of the inner product; report: number of values it reports
    tolerance  relative to the costs met: what solvers may leave
    """
    try:
        mark = block.mark()
    except Exception as error:  # a block of the user's may raise anything
        return [f"mark raised {told(error)}"]
    try:
        return _Trial(block, n, price, scale, weight, report, tolerance, mark).faults()
    finally:
        block.reset(mark)


class _Trial:
    def __init__(
        self,
        block: Subproblem,
        n: int,
        price: FloatArray | None,
        scale: FloatArray | float,
        weight: FloatArray | float,
        report: int,
        tolerance: float,
        mark: Any,
    ) -> None:
        self.block, self.n, self.mark, self.report, self.tolerance = block, n, mark, report, tolerance
        self.base = np.zeros(n) if price is None else np.asarray(price, float)
        self.scale = np.broadcast_to(np.asarray(scale, float), (n,))
        self.weight = np.broadcast_to(np.asarray(weight, float), (n,))
        self.found: list[str] = []

    def faults(self) -> list[str]:
        """All that is wrong."""
        why = self.block.refusal()
        if why:
            return [why]
        prices = [self.base + factor * self.scale for factor in PRICES]
        prices += [self.base + self.scale * (np.arange(self.n) == i) for i in range(min(self.n, MOST_ALONE))]
        answered = [(p, r) for p in prices if (r := self._asked(Signal(p, exact=True))) is not None]
        if not answered:
            return self.found
        self._compare(answered)
        self._repeat(answered[0][0])
        if "penalty" in self.block.abilities:
            self._penalty(answered)
        if "evaluate" in self.block.abilities:
            self._evaluation(answered)
        if "sensitivity" in self.block.abilities:
            self._sensitivity(answered[0][1])
        self._detail(answered[0][1])
        return list(dict.fromkeys(self.found))

    def _asked(self, signal: Signal) -> Response | None:
        """The answer from the first warm state, if it is in form; a fault otherwise."""
        self.block.reset(self.mark)
        answer = self._call("solve", lambda: self.block.solve(signal))
        where = f"at the price {_vector(signal.price)}"
        if answer is None:
            return None
        if not isinstance(answer, Response):
            return self._fault(f"solve returned a {type(answer).__name__}, not a Response")
        if not answer.status.has_point:
            if answer.status.name != "UNBOUNDED":  # that is an answer: it can offer without end
                self._fault(f"{where} it has no answer ({answer.status.name.lower()}): {answer.message or 'no reason'}")
            return None
        y = np.asarray(answer.y)
        if y.shape != (self.n,):
            return self._fault(f"{where} y has the shape {y.shape}, its coupling has {self.n} entries")
        if not np.all(np.isfinite(y)) or not np.isfinite(answer.cost):
            return self._fault(f"{where} y or cost is not finite: {_vector(y)}, {answer.cost}")
        if np.shape(answer.report) != (self.report,):
            self._fault(f"it reports {np.size(answer.report)} values, its coupling names {self.report}")
        if signal.exact and "bound" in self.block.abilities and answer.bound is None and signal.target is None:
            self._fault(f"{where} an exact answer has no bound, although it declares 'bound'")
        return answer

    def _compare(self, answered: Sequence[tuple[FloatArray, Response]]) -> None:
        for i, (p, r) in enumerate(answered):
            own = self._value(p, r)
            for q, other in [*answered[:i], *answered[i + 1 :]]:
                near = self._room(p, r, other)
                theirs = self._value(p, other)
                if own > theirs + near:
                    self._fault(
                        f"at the price {_vector(p)} its answer costs {own - theirs:.3g} more than the one it gives at "
                        f"{_vector(q)}: it does not minimise cost - <price, y>; look at the sign of the price"
                    )
                if r.bound is not None and r.bound > theirs + near:
                    self._fault(
                        f"the bound {r.bound:.9g} at the price {_vector(p)} lies above a point of the block's own"
                    )
                moved = float(np.sum(self.weight * (p - q) * (r.y - other.y)))
                if moved < -2 * near:
                    self._fault(
                        f"it offers less at a higher price: from {_vector(q)} to {_vector(p)} y goes from "
                        f"{_vector(other.y)} to {_vector(r.y)}; y counts as offered, the price as paid to the block"
                    )
            if r.bound is not None and r.bound > own + self._room(p, r, r):
                self._fault(f"the bound {r.bound:.9g} at the price {_vector(p)} lies above its own point {own:.9g}")

    def _repeat(self, price: FloatArray) -> None:
        before, again = self._asked(Signal(price)), self._asked(Signal(price))
        if before is None or again is None:
            return
        if before.y.tobytes() != again.y.tobytes() or before.cost != again.cost or before.bound != again.bound:
            self._fault(
                f"the same question twice has two answers: {_vector(before.y)} at {before.cost!r} and "
                f"{_vector(again.y)} at {again.cost!r}; an answer may depend on data, warm state and signal only"
            )

    def _penalty(self, answered: Sequence[tuple[FloatArray, Response]]) -> None:
        price = answered[0][0]
        reach = np.maximum(np.abs(np.array([r.y for _, r in answered])).max(axis=0), 1e-9)
        rho, target = np.maximum(np.abs(self.scale), 1e-12) / reach, np.array(answered[-1][1].y) + 0.1 * reach
        penalised = self._asked(Signal(price, target, rho))
        if penalised is None:
            return

        def value(r: Response) -> float:
            return self._value(price, r) + 0.5 * float(np.sum(self.weight * rho * (r.y - target) ** 2))

        for _, other in answered:
            if penalised.pattern is not None and other.pattern != penalised.pattern:
                continue  # whole decisions may be kept while offers are only pulled
            near = self._room(price, penalised, other)
            if value(penalised) > value(other) + near:
                self._fault(
                    f"with the penalty {_vector(rho)} towards {_vector(target)} it answers {_vector(penalised.y)}, "
                    f"which is {value(penalised) - value(other):.3g} worse than {_vector(other.y)}: it does not "
                    "minimise cost - <price, y> + 1/2 <penalty (y - target), y - target>"
                )
                return

    def _evaluation(self, answered: Sequence[tuple[FloatArray, Response]]) -> None:
        for price, r in answered[:3]:
            self.block.reset(self.mark)
            self._call("solve", partial(self.block.solve, Signal(price, exact=True)))
            fixed = self._call("evaluate", partial(self.block.evaluate, np.array(r.y)))
            if fixed is None:
                continue
            if not fixed.status.has_point:
                self._fault(f"evaluate finds nothing at its own offer {_vector(r.y)}: {fixed.message or 'no reason'}")
            elif np.max(np.abs(fixed.y - r.y), initial=0.0) > 1e-5 * (1 + np.max(np.abs(r.y), initial=0.0)):
                self._fault(f"evaluate({_vector(r.y)}) came back with another y: {_vector(fixed.y)}")
            elif fixed.cost > r.cost + self._room(price, r, r):
                self._fault(f"evaluate({_vector(r.y)}) costs {fixed.cost:.9g}, the offer itself came with {r.cost:.9g}")

    def _sensitivity(self, r: Response) -> None:
        slope = np.zeros((0, 0)) if r.sensitivity is None else np.asarray(r.sensitivity, float)
        if slope.shape != (self.n, self.n):
            self._fault(f"dy/dprice has the shape {slope.shape}, not ({self.n}, {self.n})")
        elif np.min(np.linalg.eigvalsh(0.5 * (slope + slope.T)), initial=0.0) < -1e-8 * (1 + np.max(np.abs(slope))):
            self._fault("dy/dprice has a negative direction: offers of a convex block do not fall with the price")

    def _detail(self, response: Response) -> None:
        told_of = self._call("detail", lambda: self.block.detail(response))
        for name, values in (told_of or {}).items():
            if np.ndim(values) > 1:
                self._fault(f"detail '{name}' has {np.ndim(values)} dimensions; give a series")

    def _value(self, price: FloatArray, r: Response) -> float:
        return r.cost - float(np.sum(self.weight * price * r.y))

    def _room(self, price: FloatArray, *answers: Response) -> float:
        paid = (float(np.sum(np.abs(self.weight * price * r.y))) for r in answers)
        return self.tolerance * max(1e-6, *(abs(r.cost) for r in answers), *paid)

    def _call(self, name: str, what: Callable[[], Any]) -> Any:
        try:
            return what()
        except Exception as error:  # a block of the user's may raise anything
            return self._fault(f"{name} raised {told(error)}")

    def _fault(self, text: str) -> Any:
        self.found.append(text)
        return None


def _vector(values: FloatArray) -> str:
    few = ", ".join(f"{value:.6g}" for value in np.ravel(values)[:4])
    return f"({few}{', ...' if np.size(values) > 4 else ''})"
