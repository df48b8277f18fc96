"""How signals and answers travel: one flat buffer for each rank, packed and unpacked without a loop over blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from decomp.blocks.batches import ResponseBatch
from decomp.integer_pattern import UNKNOWN
from decomp.layout import Answers, Layout
from decomp.messages import FloatArray, IntArray, Response, Status

TAIL = 6  # cost, bound, status, revised, solve time, pattern


class Share:
    """The blocks of one rank and where their entries lie in the stacked arrays.

    blocks (b,) numbers of the blocks; entries, reports: places of their entries and reports in the stacked arrays;
    start, report_start, slope_start (b+1,): the same within this rank's own stretches
    """

    def __init__(self, layout: Layout, blocks: IntArray) -> None:
        self.blocks = blocks
        self.start, self.entries = _stretches(layout.start, blocks)
        self.report_start, self.reports = _stretches(layout.report_start, blocks)
        self.slope_start = np.concatenate([[0], np.cumsum(np.diff(self.start) ** 2)]).astype(np.int64)

    def question(self, columns: FloatArray) -> FloatArray:
        """What this rank is asked, from the stacked columns (c, N)."""
        return np.ascontiguousarray(columns[:, self.entries]).ravel()

    def length(self, sensitivity: bool) -> int:
        """Floats of this rank's answer."""
        n = len(self.entries) + len(self.reports) + TAIL * len(self.blocks)
        return n + (int(self.slope_start[-1]) if sensitivity else 0)


class Parcel:
    """One rank's answers on their way: `flat`, and named views of it."""

    def __init__(self, share: Share, sensitivity: bool, flat: FloatArray | None = None) -> None:
        self.share = share
        self.flat = np.full(share.length(sensitivity), np.nan) if flat is None else flat
        n, m, b = len(share.entries), len(share.reports), len(share.blocks)
        self.y, self.report = self.flat[:n], self.flat[n : n + m]
        self.tail = self.flat[n + m : n + m + TAIL * b].reshape(TAIL, b)
        self.slopes = self.flat[n + m + TAIL * b :] if sensitivity else None

    def put(self, i: int, response: Response) -> None:
        """The answer of this rank's i-th block; one without a point leaves nan and an infinite cost."""
        share, tail = self.share, self.tail
        tail[2, i], tail[3, i], tail[4, i] = response.status, response.revised, response.solve_time
        if not response.status.has_point:
            tail[0, i] = np.inf
            return
        self.y[share.start[i] : share.start[i + 1]] = response.y
        self.report[share.report_start[i] : share.report_start[i + 1]] = response.report
        tail[0, i] = response.cost
        tail[5, i] = UNKNOWN if response.pattern is None else response.pattern
        if response.bound is not None:
            tail[1, i] = response.bound
        if self.slopes is not None and response.sensitivity is not None:
            self.slopes[share.slope_start[i] : share.slope_start[i + 1]] = response.sensitivity.ravel()

    def put_rows(self, first: int, answers: ResponseBatch) -> None:
        """Answers of this rank's blocks from its `first` on."""
        share, last = self.share, first + len(answers)
        self.y[share.start[first] : share.start[last]] = answers.y.ravel()
        self.report[share.report_start[first] : share.report_start[last]] = answers.report.ravel()
        tail: tuple[Any, ...] = answers.cost, answers.bound, Status.OPTIMAL, 0.0, answers.solve_time, answers.pattern
        for row, values in zip(self.tail, tail, strict=True):
            row[first:last] = values


def unpack(layout: Layout, parcels: Sequence[Parcel], question: int) -> Answers:
    """The answers of all ranks, in key order."""
    y, report = np.full(layout.start[-1], np.nan), np.full(layout.report_start[-1], np.nan)
    tail = np.full((TAIL, len(layout.keys)), np.nan)
    slopes: list[FloatArray] = [np.zeros((0, 0))] * len(layout.keys)
    for parcel in parcels:
        share = parcel.share
        y[share.entries], report[share.reports], tail[:, share.blocks] = parcel.y, parcel.report, parcel.tail
        if parcel.slopes is not None:
            for i, b in enumerate(share.blocks):
                n = int(share.start[i + 1] - share.start[i])
                slopes[b] = parcel.slopes[share.slope_start[i] : share.slope_start[i + 1]].reshape(n, n)
    return Answers(
        layout=layout,
        y=y,
        report=report,
        cost=tail[0],
        bound=tail[1],
        status=np.where(np.isnan(tail[2]), Status.ERROR, tail[2]).astype(np.int64),
        revised=tail[3] > 0,
        solve_time=tail[4],
        sensitivity=tuple(slopes) if any(p.slopes is not None for p in parcels) else None,
        signal_id=question,
        pattern=np.where(np.isnan(tail[5]), UNKNOWN, tail[5]).astype(np.int64),
    )


def _stretches(start: IntArray, blocks: IntArray) -> tuple[IntArray, IntArray]:
    """Where the blocks' stretches begin when they lie behind each other, (b+1,), and the places they come from."""
    size = np.diff(start)[blocks]
    own = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    return own, np.repeat(start[blocks] - own[:-1], size) + np.arange(own[-1])
