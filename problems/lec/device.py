"""What a device is to its community: a table of settings that adds itself to the model and says what it gives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import pyomo.environ as pyo
from pydantic import BaseModel, ConfigDict, Field

from decomp.blocks.compile.outer_approximation import ConvexTerm
from decomp.messages import FloatArray
from problems.lec.data import LecData

Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Efficiency = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]

Series = Sequence[Any]  # (T,) numbers, variables or linear expressions


@dataclass(frozen=True, eq=False)
class Contribution:
    """What a device adds to the balances and the cost. Everything that leaves the device is positive.

    p_kw, q_kvar, heat_kw  (T,) generation of active power, reactive power and heat; None = nothing
    cost_sek               cost of the whole horizon
    convex                 convex terms of its model
    states                 further series for the result files by (quantity, unit): ("soc", "kwh")
    """

    p_kw: Series | None = None
    q_kvar: Series | None = None
    heat_kw: Series | None = None
    cost_sek: Any = 0.0
    convex: Sequence[ConvexTerm] = ()
    states: Mapping[tuple[str, str], Series] = field(default_factory=dict)


class Device(BaseModel):
    """One device's table in the case file.

    A new device is one file in `problems/lec/devices`: a subclass with its settings as fields and the method `add`.
    The file's name is the name of its table. A device of one's own elsewhere is named by its class in the case file:
    `device = [{ kind = "my_module:Windmill", ... }]`.

    name  by which its series appear in the results; by default the name of its table
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]*$")] = ""

    @abstractmethod
    def add(self, b: pyo.Block, data: LecData) -> Contribution:
        """Add variables and constraints to the device's own block `b`; names are read by users in error messages."""

    def advice(self) -> str:
        """What to change where the device takes part in a conflict that leaves no schedule; "" = nothing to say."""
        return ""

    def q_capability_kvar(self, data: LecData) -> tuple[FloatArray, FloatArray]:
        """(T,), (T,): the least and the greatest reactive power it can ever inject."""
        return np.zeros(data.n), np.zeros(data.n)

    def p_capability_kw(self, data: LecData) -> tuple[FloatArray, FloatArray] | None:
        """(T,), (T,): the least and the greatest active power it can ever inject; None = it does not say.

        Needed where active power is a product: what the DSO may ask for, and what its bound is proven over.
        """
        return None


def before(series: Any, k: int, start: Any) -> Any:
    """The value of a state one step before step k."""
    return series[k - 1] if k > 0 else start
