"""A block from a plain function of the price."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import linprog

from decomp.errors import InputError, Mistake, told
from decomp.messages import FloatArray, Response, Signal, Status
from decomp.subproblem import Arrays, Subproblem

MOST_ANSWERS = 500  # kept of a convex block
NAMES = ("y", "cost", "bound", "dy/dprice")


class FunctionBlock(Subproblem):
    """f(price) -> (y, cost[, bound[, dy/dprice]]), the answer argmin of cost - <price, y>.

        FunctionBlock(lambda price: (price / 2, price @ price / 4))

    Arguments
        f         a function of the price (n,); y (n,), or a number where n = 1; cost without the price; bound: a proven
                  lower bound of the least cost - <price, y>, or None; dy/dprice (n, n)
        n         number of entries
        weight    (n,) or one number: weights of the inner product; None = 1
        exact     f returns a true minimum, not one within a solver's tolerance: then cost - <price, y> is a bound
        convex    the cost is a convex function of y on a convex set: then averages of answers are answers at most at
                  the averaged costs, and the block can be evaluated at any such average
        evaluate  a function y -> least cost at this y, inf where it cannot be; more exact than `convex`
        penalised a function (price, target, penalty) -> (y, cost): argmin of cost - <price, y> + 1/2 <penalty (y -
                  target), y - target>; rules with a penalty (admm) need it

    f is asked once, at the price 0, for the form of its answers. It must return the same for the same price, always and
    on every rank; `tatonnement check --blocks` and `tt.check_block` try that. Raises InputError.
    """

    def __init__(
        self,
        f: Callable[[FloatArray], Any],
        n: int = 1,
        *,
        weight: FloatArray | float | None = None,
        exact: bool = False,
        convex: bool = False,
        evaluate: Callable[[FloatArray], float] | None = None,
        penalised: Callable[[FloatArray, FloatArray, FloatArray], Any] | None = None,
    ) -> None:
        wrong = [
            Mistake("FunctionBlock", "argument", name, f"is {value!r}", "give a function")
            for name, value in (("f", f), ("evaluate", evaluate), ("penalised", penalised))
            if not callable(value) and (name == "f" or value is not None)
        ]
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            wrong.append(Mistake("FunctionBlock", "argument", "n", f"is {n!r}", "give the number of entries"))
        if wrong:
            raise InputError(wrong)
        self.f, self.n, self.exact, self.convex = f, int(n), exact, convex
        self._evaluate, self._penalised = evaluate, penalised
        self.weight = np.broadcast_to(np.asarray(1.0 if weight is None else weight, float), (self.n,))
        self._y, self._cost = np.zeros((0, self.n)), np.zeros(0)
        first = self._asked(lambda: f(np.zeros(self.n)), np.zeros(self.n))
        if isinstance(first, str):
            raise InputError([Mistake("FunctionBlock", "argument", "f", f"at the price 0 {first}")])
        able = {
            "bound": exact or first.bound is not None, "sensitivity": first.sensitivity is not None,
            "evaluate": convex or evaluate is not None, "penalty": penalised is not None,
        }  # fmt: skip
        self.abilities = frozenset(name for name, has in able.items() if has)  # type: ignore[misc]

    def solve(self, signal: Signal) -> Response:
        price = np.array(signal.price, float)
        if price.shape != (self.n,):
            return self._failed(f"the signal has {price.size} prices, the block {self.n} entries (argument n)")
        if signal.target is not None and signal.penalty is not None and np.any(signal.penalty > 0):
            if self._penalised is None:
                return self._failed("it takes no penalty: give `penalised`, or use a rule without one (bundle)")
            ask, target, penalty = self._penalised, np.array(signal.target), np.array(signal.penalty)
            found = self._asked(lambda: ask(price, target, penalty), price)
            found = found if isinstance(found, str) else found.but(bound=None, sensitivity=None)
        else:
            found = self._asked(lambda: self.f(price.copy()), price)
        if isinstance(found, str):
            return self._failed(found)
        if self.convex:
            self._keep(found)
        return found.but(signal_id=signal.id)

    def evaluate(self, y: FloatArray) -> Response:
        y = np.array(y, float)
        if self._evaluate is not None:
            try:
                cost = float(self._evaluate(y.copy()))
            except Exception as error:  # a function of the user's may raise anything
                return self._failed(f"evaluate raised {told(error)}")
            return Response(y, cost) if np.isfinite(cost) else self._failed("it cannot be there", Status.INFEASIBLE)
        return self._averaged(y)

    def save(self) -> Arrays | None:
        return {"y": self._y, "cost": self._cost} if len(self._cost) else None

    def load(self, arrays: Arrays) -> None:
        self._y, self._cost = arrays["y"], arrays["cost"]

    def mark(self) -> Any:
        return self._y, self._cost  # never changed in place

    def reset(self, mark: Any) -> None:
        self._y, self._cost = mark

    def _averaged(self, y: FloatArray) -> Response:
        """min sum_k a_k f_k over averages of answers with sum_k a_k y_k = y: an upper bound of the cost at y."""
        if not len(self._cost):
            return self._failed("it has not answered yet", Status.INFEASIBLE)
        size = np.maximum(np.max(np.abs(self._y), axis=0), 1e-12)
        rows = np.vstack([(self._y / size).T, np.ones(len(self._cost))])
        money = max(float(np.max(np.abs(self._cost))), 1e-12)
        # a second term with a high price says whether y is an average at all
        m = self.n
        slack = np.hstack([np.vstack([np.eye(m), np.zeros((1, m))]), np.vstack([-np.eye(m), np.zeros((1, m))])])
        cost = np.concatenate([self._cost / money, np.full(2 * m, 1e4)])
        found = linprog(cost, A_eq=np.hstack([rows, slack]), b_eq=np.append(y / size, 1.0), method="highs-ds")
        if found.x is None or np.max(found.x[-2 * m :], initial=0.0) > 1e-9:
            return self._failed("it is no average of the answers so far", Status.INFEASIBLE)
        alpha = np.maximum(found.x[: len(self._cost)], 0.0)
        return Response(y, float(alpha @ self._cost / alpha.sum()))

    def _keep(self, found: Response) -> None:
        if not np.any(np.all(self._y == found.y, axis=1)):
            self._y = np.vstack([self._y, found.y])[-MOST_ANSWERS:]
            self._cost = np.append(self._cost, found.cost)[-MOST_ANSWERS:]

    def _asked(self, ask: Callable[[], Any], price: FloatArray) -> Response | str:
        """The answer in form; what is wrong with it in words."""
        try:
            answer = ask()
        except Exception as error:  # a function of the user's may raise anything
            return f"f raised {told(error)}"
        if not isinstance(answer, tuple | list) or not 2 <= len(answer) <= len(NAMES):
            return f"f returned {_shown(answer)}, not (y, cost[, bound[, dy/dprice]])"
        parts: list[Any] = [*answer, None, None]
        y, cost, bound, slope = parts[: len(NAMES)]
        try:
            point, value = np.array(y, float).reshape(-1), float(cost)
            proven = None if bound is None else float(bound)
            sensitivity = None if slope is None else np.array(slope, float).reshape(self.n, self.n)
        except (TypeError, ValueError) as error:
            return f"f returned {_shown(answer)}: {error}"
        if point.shape != (self.n,):
            return f"f returned {point.size} values of y, the block has {self.n} entries (argument n)"
        if not np.all(np.isfinite(point)) or not np.isfinite(value):
            return f"f returned y = {point}, cost = {value}: not finite; bound what it can offer"
        if proven is None and self.exact:
            proven = value - float(np.sum(self.weight * price * point))
        return Response(point, value, bound=proven, sensitivity=sensitivity)

    def _failed(self, message: str, status: Status = Status.ERROR) -> Response:
        return Response(np.full(self.n, np.nan), np.inf, status=status, message=message)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
