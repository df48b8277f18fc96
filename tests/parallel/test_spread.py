"""The coordinator's parts over the ranks: where a part is answered changes nothing but the time."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from closed_form import QuadraticBlock, unit
from thread_ranks import on_threads

from benchmarks.replay import Measured, Wires, longest_first, replay, round_robin, taken_when_idle, times
from decomp.coordinator import Coordinator
from decomp.errors import CheckpointError, CoordinatorError
from decomp.messages import Check, Key, Request, Response, Status
from decomp.parallel.distributed_coordinator import shared_out
from decomp.parallel.ranks import Serial
from decomp.parallel.rebalancing import rebalanced
from decomp.parallel.serialization import decode, encode
from decomp.parallel.vocabulary import MESSAGES
from decomp.rules import ADMM
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.options import Execution, Limits, never
from decomp.run.stopping import Residual

HOURS = 5
SCENARIOS = ("0", "1", "2")


class Teller(QuadraticBlock):
    """Reports what it was paid."""

    def solve(self, signal):
        return super().solve(signal).but(report=np.array([float(signal.price.sum()) / 3, np.pi]))

    def evaluate(self, y):
        return super().evaluate(y).but(report=np.array([0.1, 0.2]))


class Hourly(Coordinator):
    """Every hour wants its total: g = 1/2 (Z - d)^2, moved a little by what is reported and by how often it was asked.

    Keeps a book of the threads that answered each part.
    """

    def __init__(self, fails=(), raises=()):
        self.nodes = self.groups = tuple(f"h{t}" for t in range(HOURS))
        self.weight, self.scale, self.neutral = np.ones(HOURS), np.ones(HOURS), np.zeros(HOURS)
        self.box = (np.full(HOURS, -50.0), np.full(HOURS, 50.0))
        self.demand = np.array([1.0, 2.0, 0.0, 4.0, 0.3])
        self.fails, self.raises = fails, raises
        self.who: list[tuple[str, int, int]] = []

    def parts(self):
        return tuple(np.array([t]) for t in range(HOURS))

    def answer(self, part, query, reports, warm):
        self._note("answer", part)
        count = 1 if warm is None else int(warm["asked"][0]) + 1
        if part in self.fails and count == 3:
            raise CoordinatorError(f"hour {part} cannot be carried")
        told = sum(float(np.sum(r)) for r in reports.values())
        target = self.demand[part] + 1e-3 * told + 1e-4 * count
        Z = np.clip((target - query.price + query.penalty * query.center) / (1 + query.penalty), *self._box(part))
        active = np.array([self.demand[part] > 0.5])
        info = {"told": np.array([told]), "asked": np.array(count)}
        return Request(Z, float(0.5 * np.sum((Z - target) ** 2)), active, info=info), {"asked": np.array([count])}

    def evaluate(self, part, Z, reports):
        self._note("evaluate", part)
        return Request(Z, float(0.5 * np.sum((Z - self.demand[part]) ** 2)), np.ones(1, bool))

    def check(self, part, Z, reports):
        self._note("check", part)
        margin = -abs(float(Z[0]) - self.demand[part])
        return Check(False, margin, float(Z[0]), f"hour {part}")

    def _box(self, part):
        return self.box[0][part], self.box[1][part]

    def _note(self, what, part):
        self.who.append((what, part, threading.get_ident()))


class Rememberer(Teller):
    """Answers a little more each time it is asked, says how often that was, and takes `spent_s`."""

    def __init__(self, *given, spent_s, **more):
        super().__init__(*given, **more)
        self.spent_s, self.asked, self.home = spent_s, 0, threading.get_ident()

    def solve(self, signal):
        self.asked += 1
        assert self.home == threading.get_ident(), "asked on a rank it was not built on"
        response = super().solve(signal)
        # what is sent back by price alone proves nothing here, and must not
        return response.but(y=response.y + 1e-3 / self.asked, bound=None, solve_time=self.spent_s)

    def detail(self, response):
        return {"y": response.y, "asked": np.array([float(self.asked)])}

    def save(self):
        return {"asked": np.array(self.asked)}

    def load(self, arrays):
        self.asked = int(arrays["asked"])


def couplings():
    return [
        unit(f"u{u}", tuple(range(HOURS)), (1.0,) * HOURS, SCENARIOS if u == 1 else ("0",), report=("a", "b"))
        for u in range(3)
    ]


def make(key: Key):
    rng = np.random.default_rng([int(key.unit[1:]), int(key.scenario)])
    return Teller(rng.uniform(0.5, 3, HOURS), rng.normal(size=HOURS), -20, 20, n=HOURS)


def ran(ranks, coordinator, interrupted=never, rounds=12, **more):
    settings = {"certificate": CertificateSettings(every=3), **more}
    return run(
        make, coordinator, ADMM(0.3), coupling=couplings(), stop=[Residual(1e-12, 1e-12)], limits=Limits(rounds),
        execution=Execution(ranks=ranks, interrupted=interrupted), **settings,
    )  # fmt: skip


def figures(result):
    """Everything that must not depend on where things were computed."""
    final = result.final
    return [
        result.status, result.reason, *[p.tobytes() for p in result.prices], result.objective,
        *[(r.worst, r.worst_at, r.cost, r.upper_bound, r.mismatch) for r in result.rows],
        final.request.Z.tobytes(), final.request.cost, final.request.active.tobytes(), final.check,
        *[(name, value.tobytes()) for name, value in sorted(final.request.info.items())], final.answers.y.tobytes(),
    ]  # fmt: skip


@pytest.mark.parametrize("size", [2, 3, 7])
def test_parts_on_the_ranks_give_the_same_bits_as_on_one(size):
    alone = figures(ran(Serial(), Hourly()))
    market = Hourly()
    results = on_threads(size, lambda ranks: ran(ranks, market))
    assert figures(results[0]) == alone
    assert len({thread for _, _, thread in market.who}) == min(size, HOURS)


def test_reports_travel_once_for_all_questions_about_them():
    ranks_of = []

    def work(ranks):
        ranks_of.append(ranks)
        return ran(ranks, Hourly(), rounds=4, certificate=CertificateSettings())

    on_threads(2, work)
    floats = 2 * (2 + len(SCENARIOS))
    root = next(r for r in ranks_of if r.rank == 0)
    # four rounds, and the points recovered at the end: each answers several questions
    assert root.sent.count(floats) == 5


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_first_part_without_an_answer_is_named_on_any_number_of_ranks(size):
    result = on_threads(size, lambda ranks: ran(Serial() if size == 1 else ranks, Hourly(fails=(1, 3))))[0]
    assert result.status == "failed"
    assert result.reason == "hour 1 cannot be carried"
    assert len(result.rows) == 2


@pytest.mark.parametrize("size", [1, 3])
def test_parts_are_left_out_once_a_rank_is_asked_to_stop(size):
    asked = threading.Event()

    class Slow(Hourly):
        def answer(self, part, query, reports, warm):
            if warm is not None and int(warm["asked"][0]) == 2:
                asked.set()
            return super().answer(part, query, reports, warm)

    market = Slow()
    result = on_threads(size, lambda ranks: ran(Serial() if size == 1 else ranks, market, asked.is_set))[0]
    assert result.status == "interrupted"
    assert len(result.rows) == 2
    third = [part for what, part, _ in market.who if what == "answer"][2 * HOURS :]
    assert 1 <= len(third) <= size


def test_parts_with_a_need_lie_on_different_ranks():
    needed = np.zeros(24, bool)
    needed[[12, 13, 16]] = True
    owner = shared_out(needed, 3)
    assert sorted(owner[needed]) == [0, 1, 2]
    assert max(np.bincount(owner)) - min(np.bincount(owner)) <= 1
    assert set(shared_out(np.ones(2, bool), 5)) == {3, 4}  # the root has enough to do


def test_what_is_sent_comes_out_as_it_was():
    turned = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    value = {
        "a": (turned, np.array(True), np.zeros((0, 3)), np.array([1 + 2j])), "b": [None, -0.0, np.inf, 1e-300, "ü"],
        "c": Response(np.array([np.nan, 1.0]), 2.0, status=Status.LIMIT), "d": np.float64(0.1), "e": np.arange(3)[::2],
    }  # fmt: skip
    back = decode(encode(value, MESSAGES), MESSAGES)
    for x, y in zip(value["a"], back["a"], strict=True):
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())
        assert y.flags.writeable
    assert back["a"][0].flags.f_contiguous
    assert back["b"] == value["b"]
    assert np.signbit(back["b"][1])
    assert (back["c"].status, back["c"].cost) == (Status.LIMIT, 2.0)
    assert isinstance(back["d"], np.float64)
    assert back["e"].tolist() == [0, 2]


def test_what_is_no_plain_value_is_not_sent():
    with pytest.raises(CheckpointError, match=r"state\[0\] is of type lock"):
        encode([threading.Lock()], MESSAGES)


# -- where blocks lie -----------------------------------------------------------------------------------------------


def test_blocks_go_from_the_busiest_rank_to_the_idlest():
    owned = [np.array([0, 2, 4]), np.array([1, 3, 5])]
    spent = np.array([4.0, 1.0, 3.0, 1.0, 1.0, 0.5])
    owner = rebalanced(owned, spent, np.zeros(6), 10)
    load = np.bincount(owner, spent)
    assert load.max() == 5.5
    assert np.bincount([0, 1, 0, 1, 0, 1], spent).max() == 8.0


def test_blocks_stay_where_moving_costs_more_than_it_saves():
    owned, spent = [np.array([0, 1]), np.array([2])], np.array([1.0, 1.0, 1e-9])
    assert rebalanced(owned, spent, np.full(3, 9.0), 10).tolist() in ([1, 0, 0], [0, 1, 0], [1, 0, 1], [0, 1, 1])
    assert rebalanced(owned, spent, np.full(3, 11.0), 10) is None


def test_blocks_of_nearly_equal_time_stay():
    owned = [np.array([0, 2, 4, 6]), np.array([1, 3, 5, 7])]
    spent = np.array([1.0, 0.99] * 4)
    assert rebalanced(owned, spent, np.zeros(8), 1000) is None
    assert rebalanced(owned, np.zeros(8), np.zeros(8), 1000) is None


def test_more_ranks_than_blocks_can_be_balanced():
    owned = [np.array([0, 1, 2]), *([np.zeros(0, np.int64)] * 4)]
    owner = rebalanced(owned, np.ones(3), np.zeros(3), 5)
    assert len(set(owner.tolist())) == 3


@pytest.mark.parametrize("size", [2, 3, 7])
def test_blocks_that_move_change_no_figure(size, caplog):
    def busy(key):
        rng = np.random.default_rng([int(key.unit[1:]), int(key.scenario)])
        # round-robin puts two of the dear ones on one rank
        spent_s = {("u0", "0"): 10.0, ("u1", "1"): 6.0, ("u1", "2"): 4.0}.get(key, 0.1)
        return Rememberer(rng.uniform(0.5, 3, HOURS), rng.normal(size=HOURS), -20, 20, n=HOURS, spent_s=spent_s)

    def ran_with(ranks, every):
        return run(
            busy, Hourly(), ADMM(0.3), coupling=couplings(), stop=[Residual(1e-12, 1e-12)],
            execution=Execution(ranks=ranks),
            limits=Limits(14, rebalance_every=every), certificate=CertificateSettings(bounds=False),
        )  # fmt: skip

    alone = ran_with(Serial(), 3)
    caplog.set_level("INFO", "decomp.parallel.block_pool")
    stayed = on_threads(size, lambda ranks: ran_with(ranks, 0))[0]
    assert "moved" not in caplog.text
    moved = on_threads(size, lambda ranks: ran_with(ranks, 3))[0]
    assert caplog.text.count("moved") == (size < 7)
    for result in (stayed, moved):
        assert figures(result) == figures(alone)
        for key, series in alone.details.items():
            assert {n: v.tobytes() for n, v in result.details[key].items()} == {
                n: v.tobytes() for n, v in series.items()
            }


def test_block_that_cannot_be_saved_stays_and_the_run_goes_on(caplog):
    class Shy(Rememberer):
        def save(self):
            if self.asked > 2:
                raise RuntimeError("not like this")
            return super().save()

        def mark(self):
            return self.asked

        def reset(self, mark):
            self.asked = mark

    def make_shy(key):
        dear = 10.0 if key.unit != "u1" else 0.1
        return Shy(np.ones(HOURS), 0.0, -20, 20, n=HOURS, spent_s=dear)

    alike = [unit(f"u{u}", tuple(range(HOURS)), (1.0,) * HOURS, report=("a", "b")) for u in range(3)]

    def shy(ranks, every):
        return run(
            make_shy, Hourly(), ADMM(0.3), coupling=alike, stop=[Residual(1e-12, 1e-12)],
            execution=Execution(ranks=ranks),
            limits=Limits(6, rebalance_every=every), certificate=CertificateSettings(bounds=False),
        )  # fmt: skip

    moved = on_threads(2, lambda ranks: shy(ranks, 2))[0]
    assert "blocks stay where they are: rank 0: not like this" in caplog.text
    assert figures(moved) == figures(shy(Serial(), 0))


# -- what a round takes on many ranks -------------------------------------------------------------------------------

WIRES = Wires(1e-3, 1e6)


def test_a_collective_takes_the_latencies_of_a_tree_and_all_bytes_at_the_root():
    assert WIRES.broadcast_s(1000.0, 1) == 0.0
    assert WIRES.broadcast_s(1000.0, 5) == pytest.approx(3 * (1e-3 + 1e-3))
    assert WIRES.scatter_s(8000.0, 8) == pytest.approx(3e-3 + 7e-3)


def test_longest_first_is_never_worse_than_four_thirds_of_the_best_and_beats_taking_turns():
    spent = np.random.default_rng(3).lognormal(size=60)
    least = max(spent.sum() / 4, spent.max())
    loads = {deal: np.bincount(deal(spent, 4), spent) for deal in (longest_first, round_robin)}
    assert least <= loads[longest_first].max() <= 4 / 3 * least
    assert loads[longest_first].max() < loads[round_robin].max()
    order = np.argsort(-spent, kind="stable")
    assert taken_when_idle(spent, order, 4, 0.0) == pytest.approx(loads[longest_first].max())
    assert taken_when_idle(spent, order, 4, 0.1) >= loads[longest_first].max() + 1.4


def test_one_rank_replays_what_was_measured():
    measured = Measured(np.array([[2.0], [4.0], [3.0]]), 24, 78, 0.5, 0.01)
    one = replay(measured, WIRES, 10, 1, "round-robin", 0.0, 1)
    assert one.total_s == pytest.approx(30.0 + 0.5 + 0.1)
    two = replay(measured, WIRES, 10, 2, "round-robin", 0.0, 1)
    moved = 1e-3 + 24e-6 + 2 * 1e-3 + 0.5 * 10 * 8 * (24 + 78) * 1e-6
    assert two.total_s == pytest.approx(15.0 + 0.6 + moved)


def test_uneven_blocks_are_the_same_work_worse_dealt():
    measured = Measured(np.ones((2, 5)), 24, 78, 0.0, 0.0)
    assert times(measured, 50_000, 1.0, 1).mean() == pytest.approx(1.0, rel=0.05)
    alike, uneven = (replay(measured, WIRES, 400, 40, "round-robin", spread, 1) for spread in (0.0, 1.0))
    assert alike.blocks_s == 10.0
    assert uneven.blocks_s > 1.5 * uneven.even_s
