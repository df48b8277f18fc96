"""What the DSO is told by the blocks, scenario by scenario, and which scenarios it need not keep secure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from decomp.coordinator import Reports
from decomp.errors import CoordinatorError
from decomp.messages import BoolArray, FloatArray, Key
from problems.dso.inputs import PROBABILITY_TOLERANCE


class Reader:
    """Puts the blocks' reports into one array.

    keys     the units' scenarios (S rows of U), units sorted
    width    figures of one scenario: 2T, or 3T with the initial schedule's net active import
    bundles  block -> its scenarios, whose reports come one after the other; {}: every block is one scenario
    """

    def __init__(self, keys: Sequence[Sequence[Key]], width: int, bundles: Mapping[Key, Sequence[Key]]) -> None:
        self.width = width
        # where each unit's report of each scenario is: the block, which of its scenarios it is, and of how many
        at = {key: (key, 0, 1) for row in keys for key in row}
        for block, members in bundles.items():
            at |= {member: (block, i, len(members)) for i, member in enumerate(members)}
        self._place = tuple(tuple(at[key] for key in row) for row in keys)
        self._bundled = any(len(members) > 1 for members in bundles.values())
        self._read: tuple[Reports, FloatArray] | None = None  # all hours of a round read the same reports

    def read(self, reports: Reports) -> FloatArray:
        """(S, U, width). Raises CoordinatorError for reports that are missing or of another length."""
        if self._read is None or self._read[0] is not reports:
            self._read = reports, self._all(reports)
        return self._read[1]

    def _all(self, reports: Reports) -> FloatArray:
        width = self.width
        told = np.empty((len(self._place), len(self._place[0]), width))
        for s, row in enumerate(self._place):
            for u, (key, i, of) in enumerate(row):
                report = reports.get(key)
                # a bundle with fewer scenarios than others fills its report up
                if report is None or len(report) < of * width or (not self._bundled and len(report) != width):
                    got = "nothing" if report is None else f"{len(report)} figures"
                    need = f"{of * width}: net active import in kW, then injected kvar, of every step"
                    raise CoordinatorError(f"block {key} reported {got}; the DSO's load flow needs {need}")
                told[s, u] = report[i * width : (i + 1) * width]
        return told


def kept_secure(worst_pu: FloatArray, prob: FloatArray, share: float, tolerance_pu: float) -> BoolArray:
    """(S,) False for the largest violations worst_pu (S,), until the next would leave less than `share`."""
    kept, left = np.ones(len(worst_pu), bool), 1.0 - share
    for s in np.argsort(-worst_pu, kind="stable"):
        if worst_pu[s] <= tolerance_pu or prob[s] > left + PROBABILITY_TOLERANCE:
            break
        kept[s] = False
        left -= prob[s]
    return kept
