"""`prox(P, eta)`: argmin over W of E(W) + |W - P|^2 / (2 eta), where it has a closed form."""
from __future__ import annotations

from typing import TYPE_CHECKING

from nldsl.frontend import syntax
from nldsl.graph.scope import Site
from nldsl.graph.values import Array

if TYPE_CHECKING:
    from nldsl.graph.levels import MemoryInstance


def closed_form(memory: MemoryInstance, text: syntax.Update, site: Site) -> Array:
    site.world.fail("N506", "this objective has no closed form that the compiler knows", text.value.span,
                    help=f"`{text.place} <- {text.place} - eta * grad({text.place})`")
