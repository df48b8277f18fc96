"""What the blocks have answered so far, as columns of a master: kept by cutting-plane rules, and from run to run."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from decomp.integer_pattern import UNKNOWN
from decomp.layout import Answers, Layout
from decomp.messages import FloatArray, IntArray

UNUSED_ROUNDS = 12  # a column without weight for so long is dropped


@dataclass(frozen=True, eq=False)
class Columns:
    """Answers of all blocks: block (K,) each belongs to, y stacked by `start` (K+1,), cost (K,), rounds unused (K,),
    pattern (K,) of its integer decisions."""

    block: IntArray
    start: IntArray
    y: FloatArray
    cost: FloatArray
    idle: IntArray
    pattern: IntArray

    @classmethod
    def none(cls) -> Columns:
        """No answers yet."""
        nothing = np.zeros(0, np.int64)
        return cls(nothing, np.zeros(1, np.int64), np.zeros(0), np.zeros(0), nothing, nothing)

    def plus(self, answers: Answers) -> Columns:
        """With one more answer of every block that differs from those it has given."""
        layout = answers.layout
        sizes = np.diff(layout.start)
        ends = zip(self.block, self.start[:-1], self.start[1:], strict=True)
        known = {(int(b), self.y[s:e].tobytes()) for b, s, e in ends}
        new = [b for b in range(len(layout.keys)) if (b, _of(answers.y, layout, b).tobytes()) not in known]
        return Columns(
            np.append(self.block, new).astype(np.int64),
            np.append(self.start, self.start[-1] + np.cumsum(sizes[new])).astype(np.int64),
            np.concatenate([self.y, *(_of(answers.y, layout, b) for b in new)]),
            np.append(self.cost, answers.cost[new]),
            np.append(self.idle, np.zeros(len(new), np.int64)),
            np.append(self.pattern, np.full(len(new), UNKNOWN) if answers.pattern is None else answers.pattern[new]),
        )

    def used(self, alpha: FloatArray) -> Columns:
        """After a master: columns without weight grow older, those idle too long go."""
        idle = np.where(alpha > 1e-9, 0, self.idle + 1)
        return replace(self, idle=idle).only(np.flatnonzero(idle <= UNUSED_ROUNDS))

    def only(self, keep: IntArray) -> Columns:
        """These of the columns."""
        sizes = np.diff(self.start)
        at = np.concatenate([np.arange(self.start[k], self.start[k + 1]) for k in keep] or [np.zeros(0, np.int64)])
        start = np.concatenate([[0], np.cumsum(sizes[keep])]).astype(np.int64)
        per_column = {name: getattr(self, name)[keep] for name in ("block", "cost", "idle", "pattern")}
        return replace(self, start=start, y=self.y[at], **per_column)

    def matrix(self, layout: Layout) -> sparse.csc_matrix:
        """(N, K): y of each column in the stacked rows of its block."""
        sizes = np.diff(self.start)
        rows = layout.start[np.repeat(self.block, sizes)] + np.arange(len(self.y)) - np.repeat(self.start[:-1], sizes)
        columns = np.repeat(np.arange(len(self.block)), sizes)
        return sparse.csc_matrix((self.y, (rows, columns)), (len(layout.entry), len(self.block)))

    def values(self, layout: Layout, price: FloatArray) -> FloatArray:
        """(K,) f_k - <price, y_k> at stacked prices (N,)."""
        return self.cost - np.asarray(self.matrix(layout).T @ (layout.weight[layout.entry] * price))

    def model_value(self, layout: Layout, price: FloatArray) -> float:
        """sum_us pi_s min_k f_k - <price, y_k>: the blocks' cutting-plane model."""
        least = np.full(len(layout.keys), np.inf)
        np.minimum.at(least, self.block, self.values(layout, price))
        return float(np.sum(layout.prob * least))


@dataclass(frozen=True, eq=False)
class Held:
    """What a rule that keeps columns can hand on to another run.

    price (n,), w (N,)  the best prices it knows: of the nodes, and of the agreement over scenarios
    """

    columns: Columns
    price: FloatArray
    w: FloatArray


def _of(y: FloatArray, layout: Layout, b: int) -> FloatArray:
    return y[layout.start[b] : layout.start[b + 1]]
