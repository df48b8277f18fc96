"""What `tatonnement check` tells of a case: everything short of solving it."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from decomp.blocks.self_check import check_block
from decomp.case.config import Case, load
from decomp.coordinators import Nobody
from decomp.messages import Key
from decomp.subproblem import Subproblem

SAMPLED = 5  # blocks that are built to tell what building all of them takes


def report(file: Path, overrides: Sequence[str] = (), rule: str | None = None) -> str:
    """The case in words: units, blocks, prices, and time and memory for building them. Raises InputError."""
    case = load(file, overrides, rule)
    couplings = case.problem.couplings
    keys = sorted(key for coupling in couplings for key in coupling.prob)
    entries = sum(len(c.entries) * len(c.prob) for c in couplings)
    nodes = case.problem.coordinator.nodes if case.problem.coordinator else ()
    lines = [
        f"{case.title}: no mistakes found",
        f"units {len(couplings)}, blocks {len(keys)}, offers {entries}, prices {len(nodes)}",
        f"rule {case.rule_text}",
        f"ends after {case.limits.max_rounds} rounds at the latest",
        *_building(case, keys),
    ]
    return "\n".join(lines)


def block_report(file: Path, overrides: Sequence[str] = (), rule: str | None = None) -> tuple[str, bool]:
    """What the self-check finds of a few blocks of every unit, and whether all of them passed. Raises InputError."""
    case = load(file, overrides, rule)
    coordinator = case.problem.coordinator or Nobody()
    neutral, scale = (np.asarray(values, float) for values in (coordinator.neutral, coordinator.scale))
    lines, good, checked = [], True, 0
    for coupling in case.problem.couplings:
        keys = sorted(coupling.prob)
        at = np.asarray(coupling.node)
        here = coupling.scale if coupling.scale is not None else np.full(len(at), np.nan)
        own = np.where(np.isfinite(here), here, 1.0)
        price, reach = np.zeros(len(at)), np.asarray(own, float)
        price[at >= 0], reach[at >= 0] = neutral[at[at >= 0]], scale[at[at >= 0]]
        for key in [keys[i] for i in sorted({0, len(keys) // 2, len(keys) - 1})]:
            block = case.problem.subproblem(key)
            faults = check_block(
                block, len(at), price=price, scale=reach, weight=coupling.weight, report=len(coupling.report)
            )
            checked += 1
            good = good and not faults
            lines += [f"block {key}: {fault}" for fault in faults]
    lines.append(f"{checked} blocks tried: " + ("nothing wrong" if good else f"{len(lines)} faults"))
    return "\n".join(lines), good


def _building(case: Case, keys: Sequence[Key]) -> list[str]:
    """Builds a few blocks, spread over all, and scales what that took. Their first answer takes more of both."""
    some = [keys[i] for i in dict.fromkeys(np.linspace(0, len(keys) - 1, min(SAMPLED, len(keys))).astype(int).tolist())]
    before, began, blocks = _peak_bytes(), time.perf_counter(), []
    sizes = []
    for key in some:
        block: Subproblem = case.problem.subproblem(key)
        blocks.append(block)
        sizes.append(getattr(block, "width", None))
    seconds, grown = time.perf_counter() - began, _peak_bytes() - before
    share = len(keys) / len(some)
    columns = [size for size in sizes if size is not None]
    told = [f"variables of a block {min(columns)} to {max(columns)}, of {len(columns)} looked at"] if columns else []
    return [
        *told,
        f"building all blocks takes about {seconds * share:.2g} s and {max(grown, 0) * share / 1e6:.3g} MB on one rank "
        f"at most, as {len(some)} of them did (fewer where blocks share a template)",
    ]


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
