"""What engines and middlewares say, made fit for who hears it: clean, and of the types that are promised."""

from __future__ import annotations

from typing import Any, cast, get_args

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from webchat_widget.events import Aside, Carried, Event, Said, TextChunk, ThinkingChunk, ThinkingModeDelta
from webchat_widget.sem.text import clean

from .arguments import cleaned
from .own_events import MAX_BYTES, BadEvent, built, fit

__all__ = ["Unheard", "heard"]

_PIECES = (TextChunk, ThinkingChunk, ThinkingModeDelta)
_KINDS: tuple[type, ...] = get_args(Said)


class Unheard(ValueError):
    """Something that nobody can take. The message goes on where `The engine x` begins."""


def heard(said: Any) -> Said:
    """An event as it may be passed on; a piece of clean text costs next to nothing.

    An `Event` of a person's own is passed as it is: `own_events.upserted` makes its row. Raises Unheard.
    """
    if isinstance(said, _PIECES) and isinstance(said.text, str):
        text = clean(said.text)
        return said if text is said.text else replace(said, text=text)
    if isinstance(said, Event):
        return said
    if not isinstance(said, _KINDS):
        what = f"the class {said.__name__}" if isinstance(said, type) else type(said).__name__
        raise Unheard(f"yielded {what}: what is yielded must be an event of webchat_widget.events.")
    name = type(said).__name__
    try:
        # What a server carries it wants back as it is, and not as a reader could show it.
        fields = (cleaned if isinstance(said, Carried) else fit)(built(cast(Struct, said), name))
        size = len(msgspec.json.encode(fields)) if isinstance(said, Aside) else 0
        if size > MAX_BYTES:
            raise Unheard(f"yielded {name} of {size:,} bytes, and one may have {MAX_BYTES:,}.")
        return cast(Said, msgspec.convert(fields, type(said)))
    except BadEvent as error:
        raise Unheard(f"yielded what can't be shown. {error}") from None
    except Unheard:
        raise
    except (ValueError, msgspec.ValidationError) as error:
        raise Unheard(f"yielded {name} with a field that does not fit: {error}.") from None
