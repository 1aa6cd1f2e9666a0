"""For every test: it starts no program, and builds nothing, that a machine which has nothing would not get."""

from __future__ import annotations

from tests import programs

programs.watch()
