"""Who may import whom, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

LAYERS = (
    {"errors", "case.registry", "case.user_modules"},
    {
        "messages",
        "integer_pattern",
        "nonanticipativity",
        "layout",
        "case.validation",
        "parallel.vocabulary",
        "parallel.serialization",
        "storage.provenance",
        "blocks.fingerprint",
        "rules.columns",
        "blocks.batches",
    },
    {
        "subproblem",
        "coordinator",
        "parallel.row_tasks",
        "coordinators",
        "steps",
        "blocks.compile",
        "blocks.solve",
        "blocks.pyomo_block",
        "blocks.cvxpy_block",
        "blocks.function_block",
        "blocks.linopy_block",
        "blocks.program_block",
        "blocks.self_check",
        "blocks.scenario_bundle",
        "blocks.bundling",
        "run.result",
        "storage.checkpoint",
        "storage.folder_lock",
        "storage.result_folder",
        "storage.warm_states",
        "run.result_files",
        "problem",
        "case.warm_start",
        "storage.stored_columns",
        "blocks.solve.piqp",
        "parallel.packing",
        "parallel.rebalancing",
        "parallel.failures",
        "blocks.interior",
    },
    {
        "rules",
        "run.stopping",
        "run.certificate",
        "parallel.ranks",
        "parallel.block_pool",
        "parallel.rank_blocks",
        "parallel.transport",
        "parallel.distributed_coordinator",
        "parallel.worker",
        "parallel.participation",
        "parallel.asynchronous",
        "run.recorder",
        "run.options",
    },
    {"run.engine", "run.checkpointed_run", "run.convergence"},
    {
        "case.toml_file",
        "case.named_settings",
        "case.file_names",
        "case.config",
        "run.console",
        "case.catalogue",
        "case.shipped",
        "case.evaluation",
        "case.evaluation_figures",
        "case.evaluation_text",
        "case.execution",
        "case.inspection",
        "case.template",
        "command",
        "api",
        "api_arguments",
        "cli",
    },
)
LAYER = {module: number for number, modules in enumerate(LAYERS) for module in modules}
ABOVE_PROBLEMS = {"parallel.ranks", "parallel.block_pool", "run.engine", "rules"} | LAYERS[-1]


def sources(*packages: str) -> list[Path]:
    return [file for package in packages for file in sorted((ROOT / package).rglob("*.py"))]


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of everything imported at run time, also inside functions; `if TYPE_CHECKING` is for types only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from imports(node)


def imported(file: Path) -> set[str]:
    return set(imports(ast.parse(file.read_text())))


def part(name: str) -> str:
    """decomp.rules.base.State -> rules: the longest path that has a layer; else all of it."""
    own = name.partition(".")[2]
    shorter = own
    while shorter and shorter not in LAYER:
        shorter = shorter.rpartition(".")[0]
    return shorter or own


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("file", sources("decomp"), ids=name_of)
def test_the_engine_is_layered_and_knows_no_problem(file):
    names = imported(file)
    assert not {n for n in names if n.split(".")[0] in ("problems", "benchmarks")}
    own = part(name_of(file))
    if own.endswith("__init__"):
        return
    assert own in LAYER, f"give decomp.{own} a layer in {Path(__file__).name}"
    higher = {n for n in names if n.startswith("decomp.") and LAYER.get(part(n), 0) > LAYER[own]}
    assert not higher, f"{name_of(file)} imports from a layer above its own"


@pytest.mark.parametrize("file", sources("problems"), ids=name_of)
def test_problems_do_not_know_how_they_are_run(file):
    assert not {n for n in imported(file) if n.startswith("decomp.") and part(n) in ABOVE_PROBLEMS}


def test_only_ranks_imports_mpi4py():
    found = {
        name_of(file)
        for file in [*sources("decomp", "problems", "benchmarks"), ROOT / "mpi_run.py"]
        if any(n.split(".")[0] == "mpi4py" for n in imported(file))
    }
    assert found == {"decomp.parallel.ranks"}


def test_the_reader_of_imports_sees_them_all():
    text = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\ndef f():\n    from b import c\nimport d.e\n"
    )
    assert set(imports(ast.parse(text))) == {"typing.TYPE_CHECKING", "b.c", "d.e"}
