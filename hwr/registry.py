"""Names for models, recipes and datasets."""

from collections.abc import Callable
from typing import Generic, TypeVar

from hwr.errors import unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """A table from name to entry that helps when a name is mistyped.

    ``kind`` is the word for one entry in messages::

        models = Registry[Callable[..., Module]]("model")

        @models.register("resnet18")
        def resnet18(...): ...

        models.get("resnet18")
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that enters a function or class as ``name`` and returns it unchanged.

        Raises ``ValueError`` if the name is taken.
        """

        def enter(entry: T) -> T:
            if name in self._entries:
                raise ValueError(
                    f"{self.kind} {name!r} is registered twice: {self._entries[name]!r} has the "
                    f"name already, {entry!r} wants it; give one of them another name"
                )
            self._entries[name] = entry
            return entry

        return enter

    def get(self, name: str) -> T:
        """The entry called ``name``. Raises :class:`~hwr.errors.UnknownName`."""
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name]

    def names(self) -> tuple[str, ...]:
        """All names, in the order of registration."""
        return tuple(self._entries)
