"""How a microgrid's result folder is judged by what paper 2 says. Each judge returns what the run shows, and a verdict.

"by construction" is said where the equations leave no other outcome: it tests the model, not the paper.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from problems.market.claim_checks import Finding
from problems.microgrid.folder import SERVICES, WHOLE, MicrogridFolder
from problems.microgrid.tables import printed

Judge = Callable[[MicrogridFolder], Finding]

MW = 1e-3  # powers closer than that are equal
PERCENT = 1e-2


def said(holds: bool, value: str, otherwise: str = "differs") -> Finding:
    return Finding(value, "holds" if holds else otherwise)


def regulation_down_is_free(folder: MicrogridFolder) -> Finding:
    """E - Rd is the same in all hours: the minimum power of the turbines."""
    left = folder.of(WHOLE, "energy_mw") - folder.of(WHOLE, "regulation_down_mw")
    common = float(np.median(left))
    count = int(np.sum(np.abs(left - common) < MW))
    value = f"{count} of {len(left)} hours, {common:.4g} MW"
    return Finding(value, "by construction" if count == len(left) else "differs")


def state_follows_its_equation(folder: MicrogridFolder) -> Finding:
    """Largest difference of the state from (54) with the efficiencies of Table 4, from one hour to the next."""
    state, charge, discharge = (folder.stores(c) for c in ("state_mwh", "charge_mw", "discharge_mw"))
    step = np.diff(state) - (0.9 * charge - discharge / 0.9)[1:]
    worst = float(np.max(np.abs(step), initial=0.0))
    return Finding(
        f"{len(state)} hours to within {max(worst, 1e-6):.0e} MWh", "by construction" if worst < MW else "differs"
    )


def printed_state_errors() -> list[int]:
    """Hours at which Table 6 does not follow from Table 7 by (54), 1.8 MW delivered at 15, 16, 17 h."""
    table = printed()
    delivered = np.where(table.hour.isin((15, 16, 17)), 1.8, 0.0)
    step = np.diff(table.state_percent, prepend=0.0) * 6.0 / 100.0
    wrong = np.abs(step - (0.9 * table.stored_mw - delivered / 0.9)) > MW
    return [int(h) for h in table.hour[wrong]]


def store_sells_at(*hours: int) -> Judge:
    def judge(folder: MicrogridFolder) -> Finding:
        sold = [int(h) for h, mw in zip(folder.hours, folder.stores("discharge_mw"), strict=True) if mw > MW]
        return said(sold == list(hours), f"{', '.join(map(str, sold)) or 'no hour'}{' h' if sold else ''}")

    return judge


def full_hour(folder: MicrogridFolder) -> Finding:
    most = float(np.max(folder.stores("discharge_mw"), initial=0.0))
    fallen = float(np.max(-np.diff(folder.stores("state_mwh")), initial=0.0))
    verdict = "by construction" if abs(most - 1.8) < MW else "differs"
    return Finding(f"{most:.4g} MWh of {fallen:.4g} MWh of state", verdict)


def store_is_full(hour: int) -> Judge:
    def judge(folder: MicrogridFolder) -> Finding:
        state = folder.stores("state_percent")
        full = [int(h) for h, s in zip(folder.hours, state, strict=True) if s > 100 - PERCENT]
        if not full:
            return Finding(f"never: {state.max():.2f} % at most", "differs")
        return said(hour in full, f"100 % from {full[0]} to {full[-1]} h")

    return judge


def store_is_empty_after(hour: int) -> Judge:
    def judge(folder: MicrogridFolder) -> Finding:
        state = folder.stores("state_percent")
        filled = folder.hours[state > PERCENT]
        if not len(filled):
            return Finding("never used", "differs")
        return said(int(filled[-1]) + 1 == hour, f"{int(filled[-1]) + 1} h")

    return judge


def both_are(sum_mw: float) -> Judge:
    def judge(folder: MicrogridFolder) -> Finding:
        sums = [folder.at(WHOLE, "energy_mw", h) + folder.at(WHOLE, "regulation_up_mw", h) for h in (6, 8, 9, 10)]
        return said(bool(np.allclose(sums, sum_mw, atol=MW)), ", ".join(f"{x:.4f}" for x in sums))

    return judge


def ramp(unit: str, before: int, after: int, limit_mw: float) -> Judge:
    def judge(folder: MicrogridFolder) -> Finding:
        change = folder.at(unit, "energy_mw", after) - folder.at(unit, "energy_mw", before)
        steepest = float(np.max(np.abs(np.diff(folder.of(unit, "energy_mw"))), initial=0.0))
        return said(abs(change - limit_mw) < MW, f"{change:.4g} MW; the steepest of the day is {steepest:.4g}")

    return judge


def contract_is_met(folder: MicrogridFolder) -> Finding:
    given = sum(folder.of(unit, "reactive_mvar") for unit in folder.units)
    least = 1e3 * float(np.min(given - folder.market.reactive_required_mvar.to_numpy(float)))
    required = 1e3 * float(folder.market.reactive_required_mvar.max())
    value = f"{required:.0f} kvar, {'met' if least > -1 else f'{-least:.1f} kvar short'}"
    return Finding(value, "by construction" if least > -1 else "differs")


def no_reactive(unit: str, last: int) -> Judge:
    def judge(folder: MicrogridFolder) -> Finding:
        early = np.abs(folder.of(unit, "reactive_mvar"))[folder.hours <= last]
        most = 1e3 * float(np.max(early, initial=0.0))
        return Finding(f"{most:.3g} kvar", "by construction" if most < 1 else "differs")

    return judge


def mostly_energy(*units: str) -> Judge:
    """Share of energy, sold or stored, in all that the units offer upwards over the day."""

    def judge(folder: MicrogridFolder) -> Finding:
        shares = []
        for unit in units:
            energy = float(np.sum(folder.of(unit, "energy_mw") + folder.of(unit, "stored_mw")))
            upward = sum(float(np.sum(folder.of(unit, s))) for s in SERVICES if s != "regulation_down_mw")
            shares.append(energy / max(energy + upward, 1e-12))
        value = ", ".join(f"{unit} {share:.0%}" for unit, share in zip(units, shares, strict=True))
        return said(min(shares) > 0.5, value)

    return judge


def services_when_cheap(folder: MicrogridFolder) -> Finding:
    """Upward services of all turbines in the cheaper and in the dearer half of the hours."""
    cheap = folder.market.energy_usd_per_mwh.to_numpy(float).argsort(kind="stable")[: len(folder.hours) // 2]
    upward = sum(
        (folder.of(u, s) for u in folder.units if u.startswith("MT") for s in SERVICES if s != "regulation_down_mw"),
        np.zeros(len(folder.hours)),
    )
    below = float(upward[cheap].sum())
    above = float(upward.sum()) - below
    return said(below > above, f"{below:.1f} MWh in the cheaper half of the hours, {above:.1f} in the dearer")


def largest_in(unit: str, quantity: str) -> Judge:
    def judge(folder: MicrogridFolder) -> Finding:
        totals = {u: float(folder.of(u, quantity).sum()) for u in folder.units}
        first = max(totals, key=lambda u: totals[u])
        share = totals[first] / max(sum(totals.values()), 1e-12)
        return said(first == unit, f"{first}, {share:.0%}")

    return judge


def dearer(one: str, other: str) -> Judge:
    def judge(folder: MicrogridFolder) -> Finding:
        costs = [float(folder.of(unit, "cost_usd").sum()) for unit in (one, other)]
        per_mwh = [
            cost / max(float(np.sum(folder.of(u, "energy_mw") + folder.of(u, "stored_mw"))), 1e-12)
            for cost, u in zip(costs, (one, other), strict=True)
        ]
        value = f"{costs[0]:.0f} $ against {costs[1]:.0f} $; {per_mwh[0]:.1f} against {per_mwh[1]:.1f} $/MWh"
        return said(costs[0] > costs[1], value)

    return judge


def curve_rises(unit: str, hour: int) -> Judge:
    """The offer never falls as the price rises, and does rise."""

    def judge(folder: MicrogridFolder) -> Finding:
        found = curve(folder, unit, hour)
        if found is None:
            return Finding("no curve in the folder", "-")
        price, energy = found
        value = f"{energy[0]:.3f} MW at {price[0]:.4g} $/MWh, {energy[-1]:.3f} MW at {price[-1]:.4g}"
        return said(bool(np.all(np.diff(energy) > -MW) and energy[-1] > energy[0] + MW), value)

    return judge


def curve_doubles(unit: str, hour: int) -> Judge:
    """The most that the offer grows by where the price doubles, over the prices of the curve."""

    def judge(folder: MicrogridFolder) -> Finding:
        found = curve(folder, unit, hour)
        if found is None:
            return Finding("no curve in the folder", "-")
        price, energy = found
        pairs = [
            (float(np.interp(2 * p, price, energy)) / e, p)
            for p, e in zip(price, energy, strict=True)
            if p > 0 and e > MW and 2 * p <= price[-1]
        ]
        if not pairs:
            return Finding("the curve does not span twice a price", "-")
        factor, at = max(pairs)
        return said(factor > 2.0, f"up to {factor:.2f} times, from {at:.4g} to {2 * at:.4g} $/MWh")

    return judge


def curve(folder: MicrogridFolder, unit: str, hour: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(n,) prices, rising, and (n,) MW of a bidding curve."""
    if folder.curves is None:
        return None
    rows = folder.curves[(folder.curves.unit == unit) & (folder.curves.hour == hour)].sort_values("price_usd_per_mwh")
    if rows.empty:
        return None
    return rows.price_usd_per_mwh.to_numpy(float), rows.energy_mw.to_numpy(float)


def at_minimum_while(unit: str, other: str) -> Judge:
    """Hours in which one unit sells its least while the other sells more than its own."""

    def judge(folder: MicrogridFolder) -> Finding:
        low, high = folder.of(unit, "energy_mw"), folder.of(other, "energy_mw")
        hours = np.sum((low < low.min() + MW) & (high > high.min() + MW))
        reverse = np.sum((high < high.min() + MW) & (low > low.min() + MW))
        return Finding(f"{hours} hours; the other way round {reverse}", "-")

    return judge


def sum_of(quantity: str, *hours: int) -> Judge:
    def judge(folder: MicrogridFolder) -> Finding:
        return Finding(", ".join(f"{folder.at(WHOLE, quantity, h):.4f}" for h in hours) + " MW", "-")

    return judge


def charges_until(folder: MicrogridFolder) -> Finding:
    charging = folder.hours[folder.stores("charge_mw") > MW]
    return Finding(f"{int(charging[-1])} h" if len(charging) else "never", "-")


def values(quantity: str, first: int, last: int) -> Judge:
    def judge(folder: MicrogridFolder) -> Finding:
        return Finding(", ".join(f"{folder.at(WHOLE, quantity, h):.4f}" for h in range(first, last + 1)), "-")

    return judge


def unit_value(unit: str, quantity: str, hour: int) -> Judge:
    def judge(folder: MicrogridFolder) -> Finding:
        return Finding(f"{folder.at(unit, quantity, hour):.4f} MW", "-")

    return judge
