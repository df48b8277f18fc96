"""A small stochastic program in SMPS files: capacity before demand is known."""

from __future__ import annotations

from pathlib import Path

CORE = """\
NAME          TEST
ROWS
 N  COST
 L  CAP
 G  DEM
COLUMNS
    X         CAP       1.0       COST      2.0
    X         DEM       1.0
    Y         DEM       1.0       COST      5.0
RHS
    RHS       DEM       2.0
    RHS       CAP       8.0
BOUNDS
 UP BND       X         9.0
ENDATA
"""
TIME = """\
TIME          TEST
PERIODS
    X         COST                     P1
    Y         DEM                      P2
ENDATA
"""
STOCH = """\
STOCH         TEST
INDEP         DISCRETE
    RHS       DEM       3.0       P2        0.5
    RHS       DEM       5.0       P2        0.5
    Y         DEM       1.0       P2        0.3
    Y         DEM       2.0       P2        0.7
ENDATA
"""


def write_files(folder: Path, core: str = CORE, time: str = TIME, stochastic: str = STOCH) -> Path:
    """Write test.cor, test.tim and test.sto; the core file."""
    (folder / "test.cor").write_text(core)
    (folder / "test.tim").write_text(time)
    (folder / "test.sto").write_text(stochastic)
    return folder / "test.cor"


# three stages with every kind of random number: a cost, a coefficient, a right-hand side, a bound
THREE_CORE = """\
NAME          HYDRO
ROWS
 N  COST
 G  NEED1
 L  STORE1
 G  NEED2
 L  STORE2
 G  NEED3
 L  STORE3
COLUMNS
    B1        COST      10.0      NEED1     1.0
    W1        COST      1.0       NEED1     1.0
    W1        STORE1    1.0       STORE2    1.0
    W1        STORE3    1.0
    B2        COST      12.0      NEED2     1.0
    W2        COST      1.0       NEED2     1.0
    W2        STORE2    1.0       STORE3    1.0
    B3        COST      14.0      NEED3     1.0
    W3        COST      1.0       NEED3     1.0
    W3        STORE3    1.0
RHS
    RHS       NEED1     5.0       NEED2     6.0
    RHS       NEED3     4.0       STORE1    4.0
    RHS       STORE2    7.0       STORE3    9.0
BOUNDS
 UP BND       B1        5.0
ENDATA
"""
THREE_TIME = """\
TIME          HYDRO
PERIODS
    B1        COST                     P1
    B2        NEED2                    P2
    B3        NEED3                    P3
ENDATA
"""
THREE_STOCH = """\
STOCH         HYDRO
BLOCKS        DISCRETE
 BL INFLOW2   P2        0.4
    RHS       STORE2    5.0       NEED2     6.0
    RHS       STORE3    7.0
 BL INFLOW2   P2        0.6
    RHS       STORE2    8.0
    RHS       STORE3    11.0
INDEP         DISCRETE
    B3        COST      14.0      P3        0.5
    B3        COST      20.0      P3        0.5
    W3        NEED3     1.0       P3        0.25
    W3        NEED3     0.8       P3        0.75
 UP BND       B3        3.0       P3        0.5
 UP BND       B3        4.0       P3        0.5
ENDATA
"""


def case_file(folder: Path, core: Path, *more: str) -> Path:
    """A case file for the files, solved to a gap of 1e-7 by the bundle rule; more: lines of [smps]."""
    text = "\n".join(
        (
            '[case]\ntitle = "test"\nproblem = "smps"', f'[smps]\nfile = "{core}"', *more,
            '[rule]\nkind = "bundle"\n[stop.gap]\ntolerance = 1e-7\nfloor = 1e-7\nmeasure = "total"',
            "[certificate]\nevery = 1\n[run]\nmax_rounds = 60\n",
        )
    )  # fmt: skip
    (folder / "case.toml").write_text(text)
    return folder / "case.toml"


def write_lands(folder: Path) -> Path:
    """The electricity investment problem of Louveaux and Smeers (1988) with 27 demands:
    optimum 397.751333. The core file."""
    invest, budget = (10.0, 7.0, 16.0, 6.0), 120.0
    run = ((40.0, 24.0, 4.0), (45.0, 27.0, 4.5), (32.0, 19.2, 3.2), (55.0, 33.0, 5.5))
    lines = ["NAME LandS", "ROWS", " N OBJ", " G MINCAP", " L BUDGET"]
    lines += [f" L OPLIM{i}" for i in range(1, 5)] + [f" E DEMAND{j}" for j in range(1, 4)] + ["COLUMNS"]
    for i, cost in enumerate(invest, 1):
        lines += [f" X{i} OBJ {cost} MINCAP 1.0", f" X{i} BUDGET {cost} OPLIM{i} -1.0"]
    for i, costs in enumerate(run, 1):
        for j, cost in enumerate(costs, 1):
            lines += [f" Y{i}{j} OBJ {cost} OPLIM{i} 1.0", f" Y{i}{j} DEMAND{j} 1.0"]
    lines += ["RHS", f" RHS MINCAP 14.0 BUDGET {budget}", "ENDATA"]
    (folder / "LandS.cor").write_text("\n".join(lines) + "\n")
    (folder / "LandS.tim").write_text("TIME LandS\nPERIODS\n X1 MINCAP P1\n Y11 OPLIM1 P2\nENDATA\n")
    lines = ["STOCH LandS", "INDEP DISCRETE"]
    for j, demands in enumerate(((3, 5, 7), (2, 3, 4), (1, 2, 3)), 1):
        lines += [f" RHS DEMAND{j} {d} P2 {p}" for d, p in zip(demands, (0.3, 0.4, 0.3), strict=True)]
    (folder / "LandS.sto").write_text("\n".join([*lines, "ENDATA"]) + "\n")
    return folder / "LandS.cor"
