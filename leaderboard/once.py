"""Answers worked out once, whoever asks: the first makes one while the others wait. A failure is not kept."""

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class _Slot:
    """Room for one answer, and who may fill it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.full = False
        self.value: Any = None


class Once:
    """Answers by key, all of them or the `most` asked for last."""

    def __init__(self, most: int = sys.maxsize):
        self._most = most
        self._slots: OrderedDict[Hashable, _Slot] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._slots)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The answer to `key`, else what `make` gives."""
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
        with slot.lock:
            if not slot.full:
                self._fill(key, slot, make)
            made: T = slot.value
            return made

    def _fill(self, key: Hashable, slot: _Slot, make: Callable[[], T]) -> None:
        try:
            slot.value = make()
        except BaseException:
            with self._lock:
                if self._slots.get(key) is slot:
                    del self._slots[key]
            raise
        with self._lock:
            slot.full = True
            self._slots.setdefault(key, slot)  # gone where another failed before us
            self._slots.move_to_end(key)
            full = [k for k, s in self._slots.items() if s.full]  # what is being made stays
            for old in full[: max(0, len(full) - self._most)]:
                del self._slots[old]
