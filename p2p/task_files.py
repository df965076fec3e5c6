"""What travels with a task's file: the modules beside it that it imports, and what it declares.

An import of `blocks` takes blocks.py or the package blocks/ along, and what these import in turn;
`modules = ["words.txt", "pkg/"]` in the task's class takes any other files. Names are relative to
the task's file, with "/" between their parts. Nothing is executed: the sources are only parsed.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from p2p.errors import Usage

FILES_MAX = 200
BYTES_MAX = 1024 * 1024  # of all together: they go into the log
DECLARED = "modules"
# What a trainer has imported already: a file of such a name would never be found.
TAKEN = frozenset(
    {"torch", "numpy", "safetensors", "msgpack", "zmq", "psutil"}
    | {"p2p", "consensus", "collectives", "tui", "p2p_task"}
    | sys.stdlib_module_names
)


def gather(path: Path, class_name: str) -> dict[str, bytes]:
    """The files that go with the task in `path`, by name. Raises Usage for one that cannot."""
    source = _read(path)
    found: dict[str, bytes] = {}
    for name in _declared(source, class_name):
        _take(path, name, found)
    waiting = [source, *(data for name, data in found.items() if name.endswith(".py"))]
    while waiting:
        for name in sorted(_imported(waiting.pop())):
            known = set(found)
            for file in _module(path, name):
                _take(path, file, found)
            waiting += [found[n] for n in found.keys() - known if n.endswith(".py")]
    return dict(sorted(found.items()))


def travelling(task: str, folder: Path) -> dict[str, Any]:
    """Of TASK as people name it, a built-in's name or FILE.py:Class (a relative one in `folder`),
    what goes into the request. Raises Usage."""
    file, colon, class_name = task.rpartition(":")
    if not colon:
        if task.endswith(".py"):
            raise Usage(f"name the class in the file too: {task}:YourTask")
        return {}
    if not file or not class_name.isidentifier():
        raise Usage(f"{task!r} is not FILE.py:Class")
    path = folder / Path(file).expanduser()
    try:
        source = path.read_bytes()
    except OSError as error:
        raise Usage(f"cannot read the task file {file}: {error.strerror}") from error
    return {"task_source": source, "task_files": gather(path, class_name) or None}


def check(files: Any, task_file: str) -> Mapping[str, bytes]:
    """`files` as it came from elsewhere. Raises Usage unless each name stays beside the task's."""
    if not isinstance(files, Mapping) or not all(
        isinstance(name, str) and isinstance(data, bytes) for name, data in files.items()
    ):
        raise Usage("task_files must map names to bytes")
    if len(files) > FILES_MAX:
        raise Usage(f"{len(files)} files go with the task: there may be at most {FILES_MAX}")
    for name in files:
        parts = PurePosixPath(name).parts
        plain = name.isprintable() and "\\" not in name and "/".join(parts) == name
        if not plain or not parts or ".." in parts or parts[0] == "/":
            raise Usage(f"{name!r} cannot go with the task: name files below its folder")
        if name == task_file:
            raise Usage(f"{name!r} is the task's own file")
    return files


def digest(source: bytes, files: Mapping[str, bytes]) -> str:
    """SHA-256 of all that travels, as hexadecimal: of the file alone, or of a list of all."""
    own = hashlib.sha256(source).hexdigest()
    if not files:
        return own
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}" for name, data in sorted(files.items())]
    return hashlib.sha256("\n".join([own, *lines]).encode()).hexdigest()


def too_large(task_file: str) -> str:
    return (
        f"{task_file} with its modules is larger than {BYTES_MAX // 1024} KB: keep data out of it"
    )


def _declared(source: bytes, class_name: str) -> list[str]:
    """What `modules` lists, in the class or at the file's top."""
    tree = _parsed(source)
    bodies = [tree.body] if tree else []
    bodies += [
        node.body
        for body in bodies
        for node in body
        if isinstance(node, ast.ClassDef) and node.name == class_name
    ]
    names: list[str] = []
    for node in (node for body in bodies for node in body):
        targets = node.targets if isinstance(node, ast.Assign) else ()
        if any(isinstance(target, ast.Name) and target.id == DECLARED for target in targets):
            assert isinstance(node, ast.Assign)
            names += _texts(node.value)
    return names


def _texts(node: ast.expr) -> list[str]:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        value = None
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise Usage(f'line {node.lineno}: {DECLARED} must be a list of names, as in ["blocks.py"]')
    return list(value)


def _imported(source: bytes) -> set[str]:
    """First parts of the absolute names that it imports."""
    tree = _parsed(source)
    names: set[str] = set()
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def _parsed(source: bytes) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return None  # a trainer says so, with the line


def _module(task_path: Path, name: str) -> Iterator[str]:
    """The files of the module or package of this name, if it lies beside the task's file."""
    folder = task_path.parent
    if (folder / name / "__init__.py").is_file():
        found = f"{name}/"
    elif (folder / f"{name}.py").is_file() and name != task_path.stem:
        found = f"{name}.py"
    else:
        return
    if name in TAKEN:
        raise Usage(f"{folder / found} hides the installed module {name}: give it another name")
    yield found


def _take(task_path: Path, name: str, found: dict[str, bytes]) -> None:
    """Read the file, or all files in the folder, into `found`."""
    folder = task_path.parent
    place = folder / name
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        raise Usage(f"{name!r} cannot go with {task_path.name}: name files below its folder")
    if place.is_dir():
        inside = sorted(file for file in place.rglob("*") if file.is_file())
        files = [f for f in inside if not _is_hidden(f.relative_to(folder))]
    elif place.is_file():
        files = [place]
    else:
        raise Usage(f"{task_path.name} names {name!r} in {DECLARED}, which is not beside it")
    if len(found) + len(files) > FILES_MAX:
        raise Usage(f"{place} makes more than {FILES_MAX} files that go with {task_path.name}")
    for file in files:
        if file.name != task_path.name or file.parent != folder:
            if file.stat().st_size + sum(map(len, found.values())) > BYTES_MAX:
                raise Usage(too_large(task_path.name))
            found[file.relative_to(folder).as_posix()] = _read(file)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Usage(f"cannot read the task file {path}: {error.strerror}") from error
