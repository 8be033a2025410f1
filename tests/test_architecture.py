"""Imports run one way, and light parts stay light."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.processes import run

PACKAGE = Path(__file__).parents[1] / "illava_cli"
# who may import whom; these are open to all but `reduction`
ALLOWED = {
    "cli": {
        "cli",
        "serve",
        "openai",
        "client",
        "batch",
        "bench",
        "evals",
        "tuning",
        "visualize",
        "vllm",
        "engine",
        "models",
        "media",
    },
    "batch": {"batch", "client", "openai", "readers", "engine", "models", "media"},
    "client": {"client", "engine", "media"},
    "evals": {"evals", "client", "engine", "models", "media"},
    "tuning": {"tuning", "evals", "bench", "batch", "engine", "models", "reduction", "media"},
    "bench": {"bench", "client", "engine", "models", "reduction", "media"},
    "visualize": {"visualize", "reduction", "media"},
    "integrations": {"integrations", "engine", "models", "media"},
    "vllm": {"vllm", "openai", "engine", "models", "reduction"},
    "serve": {"serve", "openai", "readers", "visualize", "engine", "models", "media"},
    "readers": {"readers", "engine", "models", "media"},
    "openai": {"openai", "engine", "media"},
    "engine": {"engine", "models", "media"},
    "models": {"models", "reduction"},
    "reduction": {"reduction"},
    "media": {"media"},
}
SHARED = {"config", "errors", "families", "figures", "drawing", "trace", "text", "interrupts"}


def imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return names


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_run_one_way(room):
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files
    allowed = ALLOWED[room] | (set() if room == "reduction" else SHARED)
    for path in files:
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "illava_cli" and len(parts) > 1 and parts[1] != "__version__":
                assert parts[1] in allowed, f"{path.relative_to(PACKAGE)} imports {name}"


def imports_at_its_top(path: Path, modules: set[str]) -> set[str]:
    """The modules of the package that one imports, for types alone included; not what a function imports."""
    found, todo = set(), [*ast.parse(path.read_text(encoding="utf-8")).body]
    for node in todo:
        if isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            found |= inner or {node.module} & modules
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & modules
        elif not isinstance(node, ast.FunctionDef):
            todo += ast.iter_child_nodes(node)
    return found


def test_no_module_imports_itself_by_way_of_others():
    paths = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    graph = {name: imports_at_its_top(path, set(paths)) for name, path in paths.items()}
    assert sum(map(len, graph.values())) > len(graph)
    TopologicalSorter(graph).prepare()  # raises a CycleError that names those on the way


def test_reduction_needs_arrays_and_the_standard_library_only():
    for path in sorted((PACKAGE / "reduction").rglob("*.py")):
        roots = {name.split(".")[0] for name in imported(path)}
        assert roots <= {"numpy", "torch", "triton", "illava_cli"} | sys.stdlib_module_names, path


# what commands read their flags with: a mistake in one is told before torch is loaded
LIGHT = (
    "illava_cli",
    "illava_cli.config",
    "illava_cli.evals.sweep",
    "illava_cli.evals.plan",
    "illava_cli.batch.inputs",
    "illava_cli.openai.chat",
    "illava_cli.openai.responses",
    "illava_cli.batch.remote",
)


@pytest.mark.parametrize("module", LIGHT)
def test_what_reads_flags_imports_no_torch(module):
    code = f"import sys, illava_cli, {module}; illava_cli.Config(); sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("module", ["illava_cli.models.planning", "illava_cli.models.schedule"])
def test_planning_imports_no_transformers(module):
    """A schedule needs no model: neither its weights nor its classes, which take seconds to import."""
    code = f"import sys, {module}; sys.exit('transformers' in sys.modules)"
    assert run([sys.executable, "-c", code]).returncode == 0


def test_the_reference_shares_no_code_with_the_package():
    for path in sorted((PACKAGE.parent / "tests" / "reference").glob("*.py")):
        assert not [name for name in imported(path) if name.split(".")[0] == "illava_cli"], path
