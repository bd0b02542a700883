"""Expected errors: what, where and what to do, one line each; anything else that is raised is a bug."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Issue:
    """One thing that is wrong with what the user gave.

    Attributes:
        where: what the user would open to mend it: ``file:line:column``, ``--set key=...``, a folder or a file.
        what: what is wrong and what to do, in one line.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}  {self.what}"


class ProbekitError(Exception):
    """An expected error: printed as its lines, without a traceback, exit code 2.

    Args:
        issues: all that is wrong, in the order in which it should be read; or one line of text.
    """

    def __init__(self, issues: Iterable[Issue] | str) -> None:
        self.issues: tuple[Issue, ...] = () if isinstance(issues, str) else tuple(issues)
        text = issues if isinstance(issues, str) else "\n".join(str(issue) for issue in self.issues)
        super().__init__(text)


class ParameterError(ValueError):
    """Raised by a plugin where a parameter cannot be used; the core adds file, line and column.

    Args:
        path: the parameter and, if it is a list or a mapping, the way to the element: ``("weights",)``.
            ``("layers", i)`` names the i-th layer of the backbone's entry; all else is read below ``with``.
        what: what is wrong and what to do, in one line.
    """

    def __init__(self, path: Iterable[str | int], what: str) -> None:
        self.path = tuple(path)
        self.what = what
        super().__init__(f"{'.'.join(map(str, self.path))}: {what}")
