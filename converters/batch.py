"""Which files a batch converts, and to which folders.

This needs no PyTorch: only the workers do, which convert the files.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from converters.naming import identifier, printable
from converters.targets import SUFFIXES

_TORCH = (".t7", ".t7b")
_MAYBE = (".th", ".net", ".torch", ".model", ".checkpoint", ".chkpt")  # other programs have such files, too
# A type code of Torch as the first number: binary in either byte order, or ascii
_BEGINNING = re.compile(rb"[\0-\x08]\0{3}|\0{3}[\0-\x08]|\s*[0-8]\s")
_WHOLE = ("t7", "t7-ascii")  # targets that are .t7 files


class Task(NamedTuple):
    """A file, the folder that it is converted to, and whether it was found in a folder, not given itself."""

    source: Path
    folder: Path
    is_found: bool = False


class Selection:
    """What `paths` (files and folders) stand for: `tasks`, and `problems`, which are reasons by path.

    Files go to `output`, those of a folder in the folders that they have below it; or beside their sources.
    `pattern` chooses the files of folders by name, or by path if there is a "/" in it.
    """

    def __init__(self, paths: Iterable[Path], output: Path | None, pattern: str | None) -> None:
        self.output, self.pattern = output, pattern
        self.problems: dict[str, str] = {}
        tasks: dict[str, Task] = {}
        for path in paths:
            for task in self._below(path) if os.path.isdir(path) else [Task(path, output or path.parent)]:
                tasks.setdefault(os.path.abspath(task.source), task)
        self.tasks = list(tasks.values())

    def _below(self, root: Path) -> Iterator[Task]:
        known = len(self.problems)
        is_empty = True
        for source in self._files(root):
            below = source.relative_to(root)
            if self._is_chosen(source, below):
                is_empty = False
                yield Task(source, self.output / below.parent if self.output else source.parent, True)
        if is_empty and len(self.problems) == known:
            self.problems[str(root)] = f"holds no {self.pattern or '.t7 file'}; --pattern chooses others"

    def _files(self, root: Path) -> Iterator[Path]:
        """The files below a folder; what links lead to comes last, and no folder comes twice."""
        pending, seen = [root], set()
        while pending:
            for place, folders, names in os.walk(pending.pop(0), onerror=self._note):
                real = os.path.realpath(place)
                entered = [path for name in sorted(folders) if self._is_entered(path := Path(place, name))]
                if real in seen:
                    entered, names = [], []
                seen.add(real)
                pending += [path for path in entered if path.is_symlink()]
                folders[:] = [path.name for path in entered if not path.is_symlink()]
                yield from (Path(place, name) for name in sorted(names))

    def _note(self, error: OSError) -> None:
        self.problems[str(error.filename)] = error.strerror or str(error)

    def _is_entered(self, folder: Path) -> bool:
        """Whether files of a folder count: not those of a hidden one, nor what was written before."""
        is_output = self.output is not None and os.path.realpath(folder) == os.path.realpath(self.output)
        return not (folder.name.startswith(".") or is_output)

    def _is_chosen(self, source: Path, below: Path) -> bool:
        is_other = os.path.exists(source) and not os.path.isfile(source)  # a pipe, for example
        if source.name.startswith(".") or is_other:
            return False
        if self.pattern is not None:
            return fnmatch.fnmatch(below.as_posix() if "/" in self.pattern else source.name, self.pattern)
        ending = source.suffix.lower()
        return ending in _TORCH or (ending in _MAYBE and _starts_like_torch(source))


def _starts_like_torch(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _BEGINNING.match(file.read(16)) is not None
    except OSError:  # it is told when the file is converted
        return True


def without_own_output(tasks: Sequence[Task]) -> list[Task]:
    """The tasks without the .t7 files in folders that have the names of what the others become as .t7 files.

    These may be written now, or have been before: here, or beside their sources.
    """
    beside = [task._replace(folder=task.source.parent) for task in tasks]
    written = {place for task in (*tasks, *beside) for place in _places(task, _WHOLE)}
    return [task for task in tasks if not (task.is_found and os.path.realpath(task.source) in written)]


def collisions(tasks: Sequence[Task], to: Sequence[str]) -> list[str]:
    """What is wrong with tasks that would write the same files, or over a file that is to be read."""
    owners: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        owners[_place(task, "")].append(task)
    found = [
        f"{_listed(str(task.source) for task in several)} would be written to the same files "
        f"({Path(several[0].folder, identifier(several[0].source.stem))}.*)"
        for several in owners.values()
        if len(several) > 1
    ]
    sources = {os.path.realpath(task.source): task.source for task in tasks}
    for task in tasks:
        over = [str(sources[place]) for place in _places(task, to) if place in sources]
        found += [f"{name} is to be read, and would be written for {task.source}" for name in over]
    return [printable(text) for text in found]


def _places(task: Task, to: Sequence[str]) -> list[str]:
    return [_place(task, SUFFIXES[name]) for name in to if name in _WHOLE]


def _place(task: Task, suffix: str) -> str:
    return os.path.join(os.path.realpath(task.folder), identifier(task.source.stem) + suffix)


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
