"""The one place where an implementation of a step is chosen."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


class Step:
    """A step of the arithmetic: a plain PyTorch function, and what stands in for it on some devices.

    @step
    def hash_codes(queries, ...): ...       # plain PyTorch: the meaning, and what runs by default

    @hash_codes.on("cuda")
    def hash_codes_triton(queries, ...): ...  # takes its place when the first argument is on a GPU

    `hash_codes.plain` stays reachable, so that a test can compare the two.
    """

    def __init__(self, plain: Callable[..., Any]) -> None:
        functools.update_wrapper(self, plain)
        self.plain = plain
        self.implementations: dict[str, Callable[..., Any]] = {}

    def on(self, device_type: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator: makes a function of the same signature the step's implementation on devices of this type."""

        def register(implementation: Callable[..., Any]) -> Callable[..., Any]:
            self.implementations[device_type] = implementation
            return implementation

        return register

    def __call__(self, first: Any, *arguments: Any, **keywords: Any) -> Any:
        implementation = self.implementations.get(first.device.type, self.plain)
        return implementation(first, *arguments, **keywords)


step = Step
