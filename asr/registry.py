"""Families of parts that are chosen by name: one file in the family's folder is one part.

`Registry("asr.model.attention", "Attention")` finds `clustered` in `asr/model/attention/clustered.py`: the class there whose
`name` is `"clustered"`. Listing names imports nothing, so a misspelt name is answered before torch is loaded; and a name from a
checkpoint reaches only classes in the family's folder.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from pathlib import Path
from typing import Any

from asr.errors import UserError, nearest


class Registry:
    def __init__(self, package: str, kind: str):
        """package: the dotted name of the folder; kind: what messages call one part ("attention", "corpus")."""
        self.package, self.kind = package, kind

    def names(self) -> list[str]:
        """The names of all parts: the modules in the folder that define a class with that `name`."""
        package = importlib.util.find_spec(self.package)
        names = []
        for module in pkgutil.iter_modules(package.submodule_search_locations if package else []):
            spec = importlib.util.find_spec(f"{self.package}.{module.name}")
            if spec and spec.origin and f'name = "{module.name}"' in Path(spec.origin).read_text(encoding="utf8"):
                names.append(module.name)
        return sorted(names)

    def get(self, name: str) -> type[Any]:
        """The class called `name`. Raises UserError with the nearest names if there is none."""
        if name not in self.names():
            raise UserError(f"There is no {self.kind} called {name!r}: {nearest(name, self.names())}.")
        module = importlib.import_module(f"{self.package}.{name}")
        for part in vars(module).values():
            if inspect.isclass(part) and part.__module__ == module.__name__ and getattr(part, "name", None) == name:
                return part
        raise LookupError(f"{module.__name__} defines no class with name = {name!r}")

    def create(self, settings: dict[str, Any], **more: Any) -> Any:
        """Builds the part `settings["name"]` from the other settings. Raises UserError for an unknown or a missing setting."""
        settings = dict(settings)
        part = self.get(settings.pop("name"))
        accepted = inspect.signature(part).parameters
        for key in settings:
            if key not in accepted:
                raise UserError(f"The {self.kind} {part.name} takes no setting {key!r}: {nearest(key, accepted)}.")
        for key, parameter in accepted.items():
            variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if parameter.default is parameter.empty and not variadic and key not in {*settings, *more}:
                raise UserError(f"The {self.kind} {part.name} needs {self.kind.lower()}.{key}=…")
        return part(**settings, **more)
