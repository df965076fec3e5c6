"""The files of a model under their own names in one folder, as programs that read them expect."""

import shutil
from collections.abc import Mapping
from pathlib import Path


def gather(folder: str, files: Mapping[str, str]) -> None:
    """Links in `folder`, which is made anew, to files by name. Raises OSError."""
    where = Path(folder)
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(mode=0o700, parents=True)
    for name, path in files.items():
        (where / name).symlink_to(path)
