"""The fast reader's jitted half: what its Python half calls (reader/rows.py)."""

from __future__ import annotations

from .bodies import gather, look_up, pack, split, spread, tally
from .hashed import put
from .merging import merge
from .ordering import finish
from .times import convert
from .walking import leap, walk

READER_ENTRIES = [leap, walk, put, convert, merge, finish, tally, spread, look_up, gather, split, pack]
