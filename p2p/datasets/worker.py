"""The child that reads datasets and weights for its peer: an order as JSON on stdin, an answer
on stdout.

A process of its own, for files may be large, damaged or made to do harm: the peer stays small and
its heartbeats do not wait.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from p2p.checkpoints import model_files
from p2p.content.folder import ContentFolder
from p2p.datasets.builtin import Place, place_of
from p2p.datasets.manifest import from_bytes, to_bytes
from p2p.datasets.placing import place, remove, seen_file
from p2p.datasets.tree import Seen, scan
from p2p.errors import P2PError, Usage, to_wire
from p2p.training.death import die_with

MEMORY_BYTES_MAX = 4 << 30
NICENESS = 5  # the peer's heartbeats come first
SCHEMA_BYTES_MAX = 16 * 1024


def _register(order: dict[str, Any]) -> dict[str, Any]:
    """Scan a path; its manifest goes into the folder of contents."""
    from p2p.datasets import formats  # here, for numpy takes longer than all that `place` does

    where = place_of(str(order["where"]))
    seen = Seen(None)
    if not where.path.exists():
        raise Usage(f"there is no {where.path} on this peer's machine")
    manifest = scan(where, seen, time.time_ns())
    root, names = _root(where), [file.name for file in manifest.files]
    told = formats.describe(root, names, order.get("format"))
    if len(json.dumps(told.schema)) > SCHEMA_BYTES_MAX:
        raise P2PError(f"the schema of {where.path} is too large: try --format files")
    data = to_bytes(manifest)
    sha256 = ContentFolder(Path(order["content"])).put(data)
    seen.save(seen_file(Path(order["datasets"]) / sha256[:16]))
    return {
        "manifest": sha256,
        "manifest_bytes": len(data),
        "files": len(manifest.files),
        "bytes": manifest.bytes,
        "format": told.format,
        "samples": told.samples,
        "schema": dict(told.schema),
    }


def _place(order: dict[str, Any]) -> dict[str, Any]:
    names = ("manifest", "content", "target")
    placed = place(str(order["where"]), *(Path(order[name]) for name in names))
    return {
        "path": str(placed.path) if placed.path else None,
        "differs": placed.differs,
        "missing": placed.missing,
    }


def _preview(order: dict[str, Any]) -> dict[str, Any]:
    from p2p.datasets import formats

    manifest = from_bytes(Path(order["manifest"]).read_bytes())
    names = [file.name for file in manifest.files]
    root = _root(Place(Path(order["path"])))
    rows = formats.preview(root, names, str(order["format"]), int(order["limit"]))
    return {"rows": rows}


def _remove(order: dict[str, Any]) -> dict[str, Any]:
    manifest = order.get("manifest")
    target, content = Path(order["target"]), Path(order["content"])
    remove(target, Path(manifest) if manifest else None, content)
    return {}


def _root(place: Place) -> Path:
    return place.path if place.path.is_dir() else place.path.parent


def _model(order: dict[str, Any]) -> dict[str, Any]:
    find = model_files.folder if order["whole"] else model_files.found
    return find(Path(order["where"]))


ORDERS = {
    "model": _model,
    "register": _register,
    "place": _place,
    "preview": _preview,
    "remove": _remove,
}


def carry_out(order: dict[str, Any]) -> dict[str, Any]:
    """The answer; {"error": sentence, "exit_code": …} when it cannot be."""
    try:
        return ORDERS[str(order["kind"])](order)
    except P2PError as error:
        return to_wire(error)
    except MemoryError:
        return to_wire(P2PError("reading the dataset takes more memory than it may"))
    except (OSError, LookupError, TypeError, ValueError, RecursionError) as error:
        return to_wire(P2PError(f"cannot read the dataset: {error}"))


def main() -> int:
    die_with(os.getppid())
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    answer = carry_out(json.load(sys.stdin))
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
