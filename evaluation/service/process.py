"""Run a function in a process of its own: FAISS and torch bring two OpenMP runtimes and never share one."""

from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from typing import Any


def in_own_process(module: str, function: str, *arguments: Any, **options: Any) -> Any:
    """Call a function by its names in a new interpreter and return its result, or raise what it raised.

    By name, so that the caller does not import what it keeps out of its own process. The new interpreter imports the
    program's main module again, so the commands that use this import FAISS or torch inside their functions only.

    Raises:
        concurrent.futures.process.BrokenProcessPool: the process ended without an answer, e.g. by a crash.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_call, module, function, arguments, options).result()


def _call(module: str, function: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return getattr(import_module(module), function)(*arguments, **options)
