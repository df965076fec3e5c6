"""The shape of the house, tested like behaviour: who imports whom, what pure files import."""

import ast
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "consensus": {"consensus"},
    "collectives": {"collectives"},
    "p2p": {"p2p", "consensus", "collectives"},
    "tui": {"tui", "p2p"},
    "tools": {"tools", "tui", "p2p", "consensus", "collectives"},
}
# Pure: decides, never acts. What reads a clock, a disk, a socket or global randomness is elsewhere.
PURE = [
    "consensus",
    *("collectives/plan.py", "collectives/call.py", "collectives/frames.py"),
    "collectives/records.py",
    "collectives/blockscale.py",
    "collectives/codec_names.py",
    "collectives/codecs",
    "collectives/aggregate.py",
    "collectives/shm_plan.py",
    "p2p/replicated",
    "p2p/control",
    *("p2p/reports.py", "p2p/digest.py", "p2p/agent.py", "p2p/proposals.py", "p2p/view.py"),
    *("p2p/once.py", "p2p/wire/addresses.py"),
    *("p2p/find.py", "p2p/wire/drills.py", "p2p/wire/links.py", "p2p/storage/snapshot_transfer.py"),
    *("p2p/checkpoints/names.py", "p2p/checkpoints/restoring.py"),
    "p2p/checkpoints/safetensors_file.py",
    "p2p/read_barriers.py",
    *("p2p/content/messages.py", "p2p/content/transfer.py"),
    *("p2p/data_view.py", "p2p/datasets/manifest.py"),
    "p2p/verbs/pictures.py",
    *("p2p/training/method.py", "p2p/training/strategies/catalog.py"),
    "p2p/training/strategies/parameter_server_map.py",
    "p2p/training/strategies/parameter_server_window.py",
    *("p2p/training/choosing.py", "p2p/training/seeds.py"),
    *("p2p/distributed/matching.py", "p2p/distributed/correspondence.py"),
    *("p2p/distributed/letters.py", "p2p/distributed/presence.py", "p2p/distributed/watch.py"),
    "p2p/training/strategies/robust_guard.py",
    "p2p/devices/staging.py",
    *("p2p/serving/checking.py", "p2p/serving/messages.py", "p2p/serving/protocol.py"),
    *("p2p/services", "p2p/replicas/agent.py"),
    *("p2p/routing/prompts.py", "p2p/routing/queues.py", "p2p/routing/choice.py"),
    *("p2p/routing/endings.py", "p2p/routing/book.py", "p2p/routing/front.py"),
    "p2p/routing/letters.py",
    *("p2p/serving/batching.py", "p2p/serving/sampling.py", "p2p/serving/text.py"),
    *("p2p/door/asked.py", "p2p/door/told.py", "p2p/door/gate.py", "p2p/door/room.py"),
    "p2p/listen_at.py",
    *("p2p/serving/answer.py", "p2p/serving/desk.py", "p2p/serving/memory.py"),
    *("p2p/measure/catalog.py", "p2p/measure/history.py", "p2p/measure/pings.py"),
    *("p2p/measure/commits.py", "p2p/measure/jobs.py", "p2p/measure/told.py"),
    "p2p/measure/serving.py",
    *("p2p/watch/facts.py", "p2p/watch/rule.py", "p2p/watch/rules.py", "p2p/watch/alerting.py"),
    *("p2p/watch/rules_agreement.py", "p2p/watch/rules_training.py"),
    *("p2p/watch/rules_machine.py", "p2p/watch/health.py"),
    *("p2p/watch/insights.py", "p2p/watch/scaling.py", "p2p/watch/user_rules.py"),
    *("p2p/scenarios/scenario.py", "p2p/scenarios/reading.py", "p2p/scenarios/checks.py"),
    *("p2p/scenarios/facts.py", "p2p/scenarios/waiting.py", "p2p/scenarios/news.py"),
    "p2p/scenarios/lines.py",
    "tui/caption.py",
    *("tui/panes", "tui/views", "tui/pane.py", "tui/frame.py", "tui/layout.py", "tui/scene.py"),
    *("tui/moves.py", "tui/bars.py", "tui/actions.py", "tui/plans_peer.py", "tui/plans_job.py"),
    *("tui/chat.py", "tui/asking.py", "tui/plans_model.py", "tui/lines.py"),
    *("tui/proposal.py", "tui/asks.py", "tui/wanted.py", "tui/parsing.py", "tui/parsing_told.py"),
]
IMPURE_MODULES = {
    *("asyncio", "io", "os", "pathlib", "select", "selectors", "shutil", "signal", "socket"),
    *("secrets", "subprocess", "tempfile", "threading", "time", "uuid", "zmq", "torch", "psutil"),
}
# One file each for what touches the world (p2p/ only).
SOLE_HOME = {"fsync": "p2p/storage/disk.py", "fdatasync": "p2p/storage/disk.py"}
FUNCTION_LINES_MAX = 60


def sources(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for folder in folders:
        base = ROOT / folder
        for path in [base] if base.is_file() else sorted(base.rglob("*.py")):
            yield path, parsed(path)


@lru_cache(None)
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


@lru_cache(None)
def imported(tree: ast.AST) -> list[tuple[str, int]]:
    return list(imports(tree))


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or "", node.lineno


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_arrows_point_one_way(package: str) -> None:
    ours = set(MAY_IMPORT) | {"tests"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path, tree in sources(package)
        for name, line in imported(tree)
        if (top := name.split(".")[0]) in ours and top not in MAY_IMPORT[package]
    ]
    assert not wrong


def test_pure_files_import_no_io() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path, tree in sources(*PURE)
        for name, line in imported(tree)
        if name.split(".")[0] in IMPURE_MODULES
        or (name.split(".")[0] == "random" and "Random" not in ast.dump(tree))
    ]
    assert not wrong


def test_disk_is_synced_in_one_file() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} calls {node.attr}"
        for path, tree in sources("p2p")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in SOLE_HOME
        and str(path.relative_to(ROOT)) != SOLE_HOME[node.attr]
    ]
    assert not wrong


def test_the_peer_never_imports_torch() -> None:
    may = {"p2p/training", "p2p/tasks", "p2p/distributed", "p2p/torch_backend.py"} | {"p2p/devices"}
    may |= {"p2p/serving/models", "p2p/serving/replica.py"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path, tree in sources("p2p", "consensus", "tui")
        for name, line in imported(tree)
        if name.split(".")[0] in {"torch", "safetensors"}
        and not any(str(path.relative_to(ROOT)).startswith(folder) for folder in may)
    ]
    assert not wrong


def test_the_peer_never_imports_the_web_server() -> None:
    """Only the files of the door's own process do; nobody else may import those."""
    inside = {f"p2p.door.{name}" for name in ("answering", "app", "connections", "process")}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path, tree in sources("p2p", "tui", "tools")
        if ".".join(path.relative_to(ROOT).with_suffix("").parts) not in inside
        for name, line in imported(tree)
        if name.split(".")[0] in {"starlette", "uvicorn", "h11"} or name in inside
    ]
    assert not wrong


def test_nothing_is_unpickled() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path, tree in sources(*MAY_IMPORT)
        for name, line in imported(tree)
        if name.split(".")[0] in {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
    ]
    assert not wrong


def test_functions_fit_a_screen() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {size} lines"
        for path, tree in sources(*MAY_IMPORT, "tests")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (size := code_lines(node)) > FUNCTION_LINES_MAX
    ]
    assert not long


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    end = node.end_lineno
    assert end is not None
    return end - node.lineno + 1


def test_no_module_hides_the_standard_library() -> None:
    hidden = [
        str(path.relative_to(ROOT))
        for folder in MAY_IMPORT
        for path in (ROOT / folder).glob("*.py")
        if path.stem in sys.stdlib_module_names and not path.stem.startswith("__")
    ]
    assert not hidden
