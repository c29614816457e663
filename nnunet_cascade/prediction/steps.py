"""The steps of a case: what yields them says what is done, what runs them says where and when."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds by step."""

    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def step(self, name: str) -> Generator[None, None, None]:
        """Add the time that what is done inside takes."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - begin, 3)

    def timed(
        self, name: str, work: Callable[_Arguments, _Found], *given: _Arguments.args, **named: _Arguments.kwargs
    ) -> Callable[[], _Found]:
        """Return a call that adds its time to a step."""

        def run() -> _Found:
            with self.step(name):
                return work(*given, **named)

        return run


@dataclass(frozen=True, slots=True)
class Step(Generic[_Found]):
    """A step of a case, to be run by whoever drives the case.

    Attributes:
        needs: What it keeps busy: reading, writing, the networks, the source of lung masks, or one processor.
        run: Does it.
    """

    needs: Literal["reading", "networks", "lungs", "processor", "writing"]
    run: Callable[[], _Found]


CaseSteps = Generator[tuple[Step[Any], ...], Sequence[Any], _Found]
"""Yields steps, those that may run side by side together, and takes their results in the same order."""


def one_step(step: Step[_Found]) -> CaseSteps[_Found]:
    """Yield a single step; return its result."""
    (found,) = yield (step,)
    return found


def run_steps(steps: CaseSteps[_Found]) -> _Found:
    """Run the steps of a case one after the other, in this thread."""
    together = next(steps)
    while True:
        found = [step.run() for step in together]
        try:
            together = steps.send(found)
        except StopIteration as end:
            return end.value
