"""What an import collects beside its tables: secrets that became variables, and what was lost."""

from __future__ import annotations

import re
from typing import Any, Final

from modelplex.config.tools import is_secret

Json = dict[str, Any]

REFERENCE: Final = re.compile(r"\$\{([^{}]*)\}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENVIRON: Final = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
_WITH_SCHEME: Final = re.compile(r"((?:Bearer|Basic|Token) +)(.*)", re.DOTALL | re.IGNORECASE)


class ImportFault(Exception):
    """The file cannot be read. `sentence` is for the user."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class Notes:
    """`lines` are sentences for the user, `variables` what the environment of the gateway must
    have. `home` and `folder` stand for the variables of editors.
    """

    def __init__(self, *, home: str, folder: str) -> None:
        self.lines: list[str] = []
        self.variables: list[str] = []
        self._values: dict[str, str] = {}
        self._known = {
            "userHome": home,
            "workspaceFolder": folder,
            "workspaceRoot": folder,
            "workspaceFolderBasename": folder.rpartition("/")[2],
            "pathSeparator": "/",
            "/": "/",
        }

    def add(self, where: str, what: str) -> None:
        line = f"{where}: {what}"
        if line not in self.lines:
            self.lines.append(line)

    def need(self, name: str) -> str:
        """A reference to a variable."""
        if name not in self.variables:
            self.variables.append(name)
        return f"${{{name}}}"

    def secret(self, value: str, *, name: str, where: str) -> str:
        """A reference that stands for a secret value. `name` is the variable's, unless it holds
        another value already.
        """
        if (scheme := _WITH_SCHEME.fullmatch(value)) is not None:
            return scheme[1] + self.secret(scheme[2], name=name, where=where)
        base = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").upper() or "SECRET"
        chosen, number = base, 1
        while self._values.setdefault(chosen, value) != value:
            number += 1
            chosen = f"{base}_{number}"
        self.add(where, f"a secret stood here, and is ${chosen} now")
        return self.need(chosen)

    def text(self, value: object, *, where: str, name: str = "", variable: str = "") -> str:
        """A value as a string of our config. Its references to variables become ours; what has a
        secret's `name`, or looks like a secret, becomes a reference to `variable`.
        """
        raw = (
            value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
        )
        if (found := _ENVIRON.fullmatch(raw)) is not None:
            return self.need(found[1])
        if REFERENCE.search(raw) is None:
            if raw and is_secret(name, raw):
                return self.secret(raw, name=variable or name, where=where)
            return raw.replace("$", "$$")
        written, at = "", 0
        for found in REFERENCE.finditer(raw):
            written += raw[at : found.start()].replace("$", "$$") + self._reference(found[1], where)
            at = found.end()
        return written + raw[at:].replace("$", "$$")

    def _reference(self, inside: str, where: str) -> str:
        if inside in self._known:
            return self._known[inside].replace("$", "$$")
        word = inside.removeprefix("env:")
        if inside.startswith("input:"):
            word = re.sub(r"\W", "_", inside.removeprefix("input:")).upper()
            self.add(where, f"the editor asks for {inside}; it is ${word} now")
            return self.need(word)
        word, default, _ = word.partition(":-")
        if _NAME.fullmatch(word) is None:
            self.add(where, f"${{{inside}}} is unknown here, and stands as it is")
            return f"$${{{inside}}}"
        if default:
            self.add(where, f"the default of ${word} was not carried: an unset variable is an error")
        return self.need(word)
