"""Wind turbine behind a converter. Paper 2, eqs. (9)-(15), (24)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import pyomo.environ as pyo
from pydantic import model_validator

from decomp.messages import FloatArray
from problems.microgrid.capability import armature_disc, field_disc
from problems.microgrid.converter import Converter
from problems.microgrid.unit import AlgebraicTerm, Positive


class WindTurbine(Converter):
    """Table [wind.NAME].

    cut_in_ms, rated_ms, cut_out_ms  v_in, v_r, v_out of the power curve (24)
    x_pu, converter_v_pu             reactance between converter and grid, and the converter's greatest voltage V_c,max
    """

    cut_in_ms: Positive
    rated_ms: Positive
    cut_out_ms: Positive
    x_pu: Positive
    converter_v_pu: Positive

    @model_validator(mode="after")
    def _speeds_rise(self) -> Self:
        if not self.cut_in_ms < self.rated_ms < self.cut_out_ms:
            raise ValueError(
                f"wind speeds must rise: cut_in_ms = {self.cut_in_ms:g}, rated_ms = {self.rated_ms:g}, "
                f"cut_out_ms = {self.cut_out_ms:g}"
            )
        return self

    def capability(self, b: pyo.Block, steps: Sequence[int], p_max_mw: FloatArray) -> list[AlgebraicTerm]:
        """Q <= min(Q_c, Q_y) of (11) and (12), and the other side of the same discs."""
        current = armature_disc(self.rating_mva, self.v_pu)
        voltage = field_disc(self.rating_mva, self.v_pu, self.converter_v_pu, self.x_pu)
        return [
            *current.add(b, "current", b.terminal_mw, b.q_mvar, steps, p_max_mw),
            *voltage.add(b, "converter_voltage", b.terminal_mw, b.q_mvar, steps, p_max_mw),
        ]
