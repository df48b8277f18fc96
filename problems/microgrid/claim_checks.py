"""How a microgrid's result folder is judged by what paper 2 says. Each judge returns what the run shows, and a verdict.

"by construction" is said where the equations leave no other outcome: it tests the model, not the paper. Units are found
by their kind and their sizes, never by a name.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from problems.market.claim_checks import Finding
from problems.microgrid.folder import SERVICES, WHOLE, MicrogridFolder
from problems.microgrid.tables import printed
from problems.microgrid.what_if import HALF_CALLED, NO_DISCHARGE_LIMIT

Judge = Callable[[MicrogridFolder], Finding]

MW = 1e-3  # powers closer than that are equal
PERCENT = 1e-2


def said(holds: bool, value: str, otherwise: str = "differs") -> Finding:
    return Finding(value, "holds" if holds else otherwise)


def regulation_down_is_free(folder: MicrogridFolder) -> Finding:
    """E - Rd is the minimum power of the turbines in all hours."""
    left = folder.of(WHOLE, "energy_mw") - folder.of(WHOLE, "regulation_down_mw")
    least = sum(folder.size(unit, "p_min_mw") for unit in folder.of_kind("mt"))
    count = int(np.sum(np.abs(left - least) < MW))
    value = f"{count} of {len(left)} hours, {float(np.median(left)):.4g} MW"
    return Finding(value, "by construction" if count == len(left) else "differs")


def state_follows_its_equation(folder: MicrogridFolder) -> Finding:
    """Largest difference of a store's state from (54) with its efficiencies, from one step to the next."""
    worst = 0.0
    for name in folder.of_kind("storage"):
        rows = folder.storage[folder.storage.unit == name]
        eta, zeta = folder.size(name, "eta_charge"), folder.size(name, "eta_discharge")
        flow = eta * rows.charge_mw.to_numpy(float) - rows.discharge_mw.to_numpy(float) / zeta
        step = np.diff(rows.state_mwh.to_numpy(float)) - folder.dt_h * flow[1:]
        worst = max(worst, float(np.max(np.abs(step), initial=0.0)))
    value = f"{len(folder.hours)} hours to within {max(worst, 1e-6):.0e} MWh"
    return Finding(value, "by construction" if worst < MW else "differs")


def buys_low(folder: MicrogridFolder) -> Finding:
    """Mean energy price of what is charged, and of what is discharged or sold as reserve that counts as discharged."""
    price = folder.market.energy_usd_per_mwh.to_numpy(float)
    charge, discharge = folder.stores("charge_mw"), folder.stores("discharge_mw")
    if charge.sum() < MW or discharge.sum() < MW:
        return Finding("not used", "-")
    low, high = float(price @ charge / charge.sum()), float(price @ discharge / discharge.sum())
    return said(high > low, f"charged at {low:.2f} $/MWh, discharged at {high:.2f}")


def reactive_is_shared(folder: MicrogridFolder) -> Finding:
    """Hours in which at least two units give 5 % of the reactive power or more, of those in which two could."""
    q = np.array([np.maximum(folder.of(unit, "reactive_mvar"), 0.0) for unit in folder.units])
    total = q.sum(axis=0)
    asked = total > MW
    if not asked.any():
        return Finding("no reactive power", "-")
    several = int(np.sum(np.sum(q >= 0.05 * np.where(asked, total, 1.0), axis=0)[asked] >= 2))
    shares = ", ".join(f"{u} {x:.0%}" for u, x in zip(folder.units, q.sum(axis=1) / total.sum(), strict=True) if x > 0)
    return said(several > asked.sum() / 2, f"two units or more in {several} of {int(asked.sum())} hours; {shares}")


def all_in_the_dearest_hour(store: str) -> Judge:
    """Of the variant without a limit on the discharge: share of the store's energy that is sold in the dearest hour."""

    def judge(folder: MicrogridFolder) -> Finding:
        rows = variant(folder, NO_DISCHARGE_LIMIT, store)
        if rows is None:
            return Finding("not solved", "-")
        price = folder.market.energy_usd_per_mwh.to_numpy(float)
        energy, hour = rows.energy_mw.to_numpy(float), float(folder.hours[int(np.argmax(price))])
        share = float(energy[rows.hour.to_numpy(float) == hour].sum() / max(energy.sum(), 1e-12))
        return said(share > 1 - MW, f"{share:.0%} of {energy.sum():.3g} MWh at {hour:g} h, the dearest")

    return judge


def more_when_called_less(unit: str) -> Judge:
    """Upward services of a unit with half of the call probabilities, against the run."""

    def judge(folder: MicrogridFolder) -> Finding:
        rows = variant(folder, HALF_CALLED, unit)
        if rows is None:
            return Finding("not solved", "-")
        upward = [s for s in SERVICES if s != "regulation_down_mw"]
        less = float(rows[upward].to_numpy(float).sum())
        now = float(sum(folder.of(unit, s).sum() for s in upward))
        return said(less > now + MW, f"{now:.2f} MWh, with half of the calls {less:.2f}")

    return judge


def variant(folder: MicrogridFolder, name: str, unit: str) -> pd.DataFrame | None:
    """The rows of one unit in what_if.csv."""
    if folder.variants is None:
        return None
    rows = folder.variants[(folder.variants.variant == name) & (folder.variants.unit == unit)]
    return None if rows.empty else rows


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
    services = [s for s in SERVICES if s != "regulation_down_mw"]
    upward = np.sum([folder.total(folder.of_kind("mt"), s) for s in services], axis=0) * folder.dt_h
    below = float(upward[cheap].sum())
    above = float(upward.sum()) - below
    return said(below > above, f"{below:.1f} MWh in the cheaper half of the hours, {above:.1f} in the dearer")


def largest_in(unit: str, quantity: str) -> Judge:
    """A turbine's share of a service against its share of what all turbines can be ramped up, p_max - p_min."""

    def judge(folder: MicrogridFolder) -> Finding:
        totals = {u: float(folder.of(u, quantity).sum()) for u in folder.units}
        share = totals[unit] / max(sum(totals.values()), 1e-12)
        room = {u: folder.size(u, "p_max_mw") - folder.size(u, "p_min_mw") for u in folder.of_kind("mt")}
        size = room[unit] / sum(room.values())
        return said(share > size, f"{share:.0%} of it, with {size:.0%} of the turbines' range")

    return judge


def dearer(one: str, other: str) -> Judge:
    """Operating cost per MWh generated; the day's costs are told beside."""

    def judge(folder: MicrogridFolder) -> Finding:
        costs = [float(folder.of(unit, "cost_usd").sum()) for unit in (one, other)]
        per_mwh = [
            cost / max(folder.dt_h * float(np.sum(folder.of(u, "energy_mw") + folder.of(u, "stored_mw"))), 1e-12)
            for cost, u in zip(costs, (one, other), strict=True)
        ]
        value = f"{per_mwh[0]:.1f} against {per_mwh[1]:.1f} $/MWh; {costs[0]:.0f} against {costs[1]:.0f} $ in the day"
        return said(per_mwh[0] > per_mwh[1], value)

    return judge


def curves_rise(folder: MicrogridFolder) -> Finding:
    """No offer falls as its price rises, and each does rise."""
    if folder.curves is None:
        return Finding("no curve in the folder", "-")
    value, holds = [], True
    for unit, hour in dict.fromkeys(zip(folder.curves.unit, folder.curves.hour, strict=True)):
        found = curve(folder, unit, hour)
        if found is None:
            continue
        price, energy = found
        holds &= bool(np.all(np.diff(energy) > -MW) and energy[-1] > energy[0] + MW)
        value.append(
            f"{unit} at {hour:g} h: {energy[0]:.3f} MW at {price[0]:.4g} $/MWh, {energy[-1]:.3f} at {price[-1]:.4g}"
        )
    return said(holds, "; ".join(value)) if value else Finding("no curve of energy in the folder", "-")


def curve_doubles(unit: str, hour: int) -> Judge:
    """The offer at the hour's own price and at twice that price, both solved for."""

    def judge(folder: MicrogridFolder) -> Finding:
        found = curve(folder, unit, hour)
        if found is None:
            return Finding("no curve in the folder", "-")
        price, energy = found
        own = float(folder.market.energy_usd_per_mwh[folder.market.hour == hour].iloc[0])
        at = [np.flatnonzero(np.abs(price - p) < 1e-9 * max(abs(p), 1.0)) for p in (own, 2 * own)]
        if not all(len(k) for k in at):
            return Finding(f"the curve has no point at {own:.4g} and {2 * own:.4g} $/MWh", "-")
        once, twice = (float(energy[k[0]]) for k in at)
        value = f"{once:.3f} MW at {own:.4g} $/MWh, {twice:.3f} MW at {2 * own:.4g}"
        return said(twice > 2 * once + MW, value)

    return judge


def curve(folder: MicrogridFolder, unit: str, hour: float) -> tuple[np.ndarray, np.ndarray] | None:
    """(n,) prices of energy, rising, and (n,) MW of energy of a bidding curve."""
    if folder.curves is None:
        return None
    rows = folder.curves[(folder.curves.unit == unit) & (folder.curves.hour == hour)].sort_values("price_usd_per_mwh")
    if "product" in rows:
        rows = rows[rows["product"] == "energy"]
    if rows.empty:
        return None
    return rows.price_usd_per_mwh.to_numpy(float), rows.energy_mw.to_numpy(float)


def at_minimum_while(unit: str, other: str) -> Judge:
    """Hours in which one turbine sells its least while the other sells more than its own; "usually" is most of them."""

    def judge(folder: MicrogridFolder) -> Finding:
        low, high = (folder.of(u, "energy_mw") - folder.size(u, "p_min_mw") for u in (unit, other))
        hours, reverse = int(np.sum((low < MW) & (high > MW))), int(np.sum((high < MW) & (low > MW)))
        return said(hours > len(low) / 2, f"{hours} hours; the other way round {reverse}")

    return judge


def none_of(quantity: str, *hours: int) -> Judge:
    """Less than 1 kW of a product at these hours."""

    def judge(folder: MicrogridFolder) -> Finding:
        found = [folder.at(WHOLE, quantity, h) for h in hours]
        return said(max(found) < MW, ", ".join(f"{x:.4f}" for x in found) + " MW")

    return judge


def charges_until(hour: int) -> Judge:
    def judge(folder: MicrogridFolder) -> Finding:
        charging = folder.hours[folder.stores("charge_mw") > MW]
        return said(
            bool(len(charging)) and int(charging[-1]) == hour, f"{int(charging[-1])} h" if len(charging) else "never"
        )

    return judge


def rises(quantity: str, first: int, last: int) -> Judge:
    """What is bid does not fall from one hour to the next."""

    def judge(folder: MicrogridFolder) -> Finding:
        found = [folder.at(WHOLE, quantity, h) for h in range(first, last + 1)]
        return said(bool(np.all(np.diff(found) > -MW)), ", ".join(f"{x:.4f}" for x in found))

    return judge


def offers(unit: str, quantity: str, hour: int) -> Judge:
    def judge(folder: MicrogridFolder) -> Finding:
        found = folder.at(unit, quantity, hour)
        return said(found > MW, f"{found:.4f} MW")

    return judge
