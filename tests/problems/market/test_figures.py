"""Figures and tables of a result folder: drawn from its files alone, readable at column width, nothing cut off."""

from __future__ import annotations

import json
import shutil
from io import StringIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from campus import UNDER, market_of, solved, written
from matplotlib.figure import Figure
from matplotlib.image import imread
from rich.console import Console

from problems.market import figures, tables
from problems.market.schedules import reactive_by_device, trades


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(UNDER, tmp_path_factory.mktemp("result"))


@pytest.fixture(scope="module")
def schedules(folder: Path) -> dict[str, pd.DataFrame]:
    return {unit: pd.read_csv(folder / f"schedule_{unit}.csv") for unit in ("LEC1", "LEC2")}


@pytest.fixture(scope="module")
def voltages(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "voltages.csv", dtype={"bus": str})


def every_figure(folder: Path, voltages: pd.DataFrame, schedules: dict[str, pd.DataFrame]) -> dict[str, Figure]:
    with mpl.rc_context(figures.STYLE):
        return {
            "voltages": figures.voltage_profile(voltages),
            "signals": figures.signals_by_round(pd.read_csv(folder / "prices.csv"), schedules),
            "reactive_schedule": figures.reactive_schedules(schedules),
            "convergence": figures.convergence(pd.read_csv(folder / "iterations.csv")),
        }


def test_figures_need_nothing_but_the_files(folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("*.csv"):
        shutil.copy(file, tmp_path)
    drawn = figures.draw(tmp_path)
    assert {p.name for p in drawn} == {"voltages.png", "signals.png", "reactive_schedule.png", "convergence.png"}
    for path in drawn:
        assert imread(path).shape[1] == 1050  # 3.5 in at 300 dots per inch


def test_nothing_is_cut_off_and_every_axis_has_its_unit(
    folder: Path, voltages: pd.DataFrame, schedules: dict[str, pd.DataFrame]
) -> None:
    for name, figure in every_figure(folder, voltages, schedules).items():
        figure.draw_without_rendering()
        box = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert box.x0 >= -0.01, name
        assert box.y0 >= -0.01, name
        assert box.x1 <= width + 0.01, name
        assert box.y1 <= height + 0.01, name
        for axis in figure.axes:
            assert "(" in axis.get_ylabel(), name
        assert figure.axes[-1].get_xlabel(), name


def test_the_voltage_profile_shows_the_buses_that_leave_their_limits(voltages: pd.DataFrame) -> None:
    figure = figures.voltage_profile(voltages)
    before, after = figure.axes
    assert "bus 2, 14:00: 0.94989; bus 7, 17:00: 0.94931" in before.get_title()
    assert "0.95000" in after.get_title()
    coloured = [line for line in before.lines if line.get_color() != figures.GREY and len(line.get_xdata()) == 24]
    assert len(coloured) == 2
    lowest = min(float(np.min(line.get_ydata())) for line in coloured)
    assert lowest == voltages.v_before_pu.min()
    assert before.get_ylim()[0] < lowest


def test_signals_are_those_of_the_hours_with_a_need(folder: Path, schedules: dict[str, pd.DataFrame]) -> None:
    prices = pd.read_csv(folder / "prices.csv")
    lines = {
        str(line.get_label()): line.get_ydata() for line in figures.signals_by_round(prices, schedules).axes[0].lines
    }
    assert set(lines) == {"LEC1, 14:00", "LEC2, 17:00"}
    expected = prices.price[prices.node == "bus2@2021-04-14T14:00+02:00"]
    np.testing.assert_array_equal(lines["LEC1, 14:00"], expected)


def test_bars_of_the_devices_add_up_to_the_schedule(schedules: dict[str, pd.DataFrame]) -> None:
    axis = figures.reactive_schedules(schedules).axes[1]
    tops = np.zeros(24)
    for bar in (p for p in axis.patches if p.get_height() != 0):
        tops[round(bar.get_x() + bar.get_width() / 2) - 1] += bar.get_height()
    total = sum(reactive_by_device(schedules["LEC2"]).values())
    np.testing.assert_allclose(tops, total, atol=1e-9)


def test_reactive_power_of_the_devices_is_what_leaves_the_community(schedules: dict[str, pd.DataFrame]) -> None:
    for table in schedules.values():
        given = sum(reactive_by_device(table).values())
        np.testing.assert_allclose(given, table.q_load_kvar - table.q_import_kvar, atol=1e-6)
        before = sum(reactive_by_device(table, initial=True).values())
        np.testing.assert_allclose(given - before, table.dq_kvar, atol=1e-6)


def test_payment_is_price_times_change_and_covers_the_cost(schedules: dict[str, pd.DataFrame]) -> None:
    table = trades(schedules)
    assert list(table.unit + table.label) == ["LEC114:00", "LEC117:00", "LEC214:00", "LEC217:00"]
    np.testing.assert_allclose(table.payment_sek, table.price_sek_per_kvarh * table.dq_kvar)
    sold = table[table.dq_kvar > 1.0]
    assert (sold.payment_sek > sold.cost_sek).all()
    assert (sold.cost_sek > 0.5 * sold.payment_sek).all()
    devices = table[[c for c in table.columns if c.startswith("dq_") and c != "dq_kvar"]].sum(axis=1)
    np.testing.assert_allclose(devices, table.dq_kvar, atol=1e-6)


def test_the_cost_of_the_day_rises_by_the_opportunity_cost(schedules: dict[str, pd.DataFrame]) -> None:
    """What the devices lose in active power is what the communities' costs rise by: nothing else is moved."""
    _, result = solved(UNDER)
    assert result.initial is not None
    assert result.answers is not None
    rise = result.answers.expected_cost() - result.initial.answers.expected_cost()
    assert trades(schedules).cost_sek.sum() == pytest.approx(rise, abs=2e-3)


def test_files_carry_both_the_beginning_and_the_name_of_a_step(voltages: pd.DataFrame) -> None:
    row = voltages[(voltages.label == "14:00") & (voltages.bus == "2")].iloc[0]
    assert row.time == "2021-04-14T13:00:00+02:00"
    assert row.hour == 14.0
    assert len(voltages) == 24 * 12
    assert voltages.v_after_pu.min() >= 0.95 - 1e-9
    assert not voltages.shed_kvar.any()


def test_the_trades_by_device_add_up_to_those_of_the_communities(folder: Path, schedules: dict) -> None:
    each = pd.read_csv(folder / "trades.csv")
    whole = trades(schedules)
    sums = each.groupby("unit")[["payment_sek", "opportunity_cost_sek", "profit_sek"]].sum()
    assert sums.opportunity_cost_sek.sum() == pytest.approx(whole.cost_sek.sum(), rel=1e-6)
    assert sums.payment_sek.sum() == pytest.approx(whole.payment_sek.sum(), rel=1e-3)
    assert (each.profit_sek >= -1e-3).all(), "nobody sells below cost"
    assert set(each.device) == {"boiler_chp", "pv", "pv1", "pv2", "pv3", "pv4", "smart_boiler"}


def test_prices_at_the_buses_rise_where_the_voltage_binds(folder: Path) -> None:
    duals = pd.read_csv(folder / "duals.csv", dtype={"bus": str})
    assert set(duals.label[duals.mu_sek_per_pu != 0]) == {"14:00", "17:00"}
    assert (duals.mu_sek_per_pu >= 0).all()
    at = duals[duals.label == "14:00"].set_index("bus").nodal_price_sek_per_kvarh
    assert at.idxmax() == "2"
    assert (duals.nodal_price_sek_per_kvarh[duals.label == "12:00"] == 0.0222).all()


def test_the_summary_has_the_extreme_voltages_of_the_final_point(folder: Path, voltages: pd.DataFrame) -> None:
    summary = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert summary["min_voltage_pu"] == pytest.approx(voltages.v_after_pu.min(), abs=1e-12)  # read_csv rounds
    assert summary["max_voltage_pu"] == pytest.approx(voltages.v_after_pu.max(), abs=1e-12)


def test_the_terminal_shows_violations_and_trades() -> None:
    case, result = solved(UNDER)
    console = Console(width=200, record=True, file=StringIO())
    for table in tables.render(market_of(case), result):
        console.print(table)
    text = console.export_text()
    for words in ("0.94989", "0.94931", "CHP (kvar)", "smart boiler (kvar)", "final TS", "payment (SEK)"):
        assert words in text
