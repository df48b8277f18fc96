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


def write_farmer(folder: Path, acres: float = 500.0, *, whole: bool = False) -> Path:
    """The farmer of Birge and Louveaux in SMPS files; with whole acres, 500.5 of them, an instance of DSP's."""
    lines = ["NAME FARMER", "ROWS", " N OBJ", " L LAND", " G WHEAT", " G CORN", " L BEETS", "COLUMNS"]
    lines += [
        " x0 OBJ 150 LAND 1",
        " x0 WHEAT 3",
        " x1 OBJ 230 LAND 1",
        " x1 CORN 3.6",
        " x2 OBJ 260 LAND 1",
        " x2 BEETS -24",
    ]
    lines += [" x3 OBJ 238 WHEAT 1", " x4 OBJ 210 CORN 1", " x5 OBJ -170 WHEAT -1", " x6 OBJ -150 CORN -1"]
    lines += [
        " x7 OBJ -36 BEETS 1",
        " x8 OBJ -10 BEETS 1",
        "RHS",
        f" RHS LAND {acres} WHEAT 200",
        " RHS CORN 240",
        "BOUNDS",
    ]
    lines += [f" UI BND x{i} 1e30" for i in range(3)] if whole else []
    (folder / "farmer.cor").write_text("\n".join([*lines, " UP BND x7 6000", "ENDATA"]) + "\n")
    (folder / "farmer.tim").write_text("TIME FARMER\nPERIODS\n x0 OBJ P1\n x3 WHEAT P2\nENDATA\n")
    lines = ["STOCH FARMER", "SCENARIOS"]
    for name, factor in (("GOOD", 1.2), ("FAIR", 1.0), ("BAD", 0.8)):
        lines += [f" SC {name} ROOT {1 / 3!r} P2", f" x0 WHEAT {2.5 * factor!r}", f" x1 CORN {3 * factor!r}"]
        lines += [f" x2 BEETS {-20 * factor!r}"]
    (folder / "farmer.sto").write_text("\n".join([*lines, "ENDATA"]) + "\n")
    return folder / "farmer.cor"
