"""Anderson acceleration, type II: the next point is the combination of the last ones whose residuals nearly cancel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from decomp.messages import FloatArray

ROUNDING = 1e-9  # relative to the residual: residuals that differ by less say nothing of a direction


@dataclass(frozen=True, eq=False)
class Memory:
    """Past points u (j, d), their images F(u) (j, d); the least residual |F(u) - u| so far and the image there (d,)."""

    points: FloatArray
    images: FloatArray
    best: float
    safe: FloatArray

    @classmethod
    def empty(cls, d: int) -> Memory:
        """Nothing seen yet of a map in d dimensions."""
        return cls(np.zeros((0, d)), np.zeros((0, d)), np.inf, np.zeros(d))


def accelerate(
    memory: Memory, point: FloatArray, image: FloatArray, metric: FloatArray, depth: int, doubling: float = 2.0
) -> tuple[FloatArray, Memory]:
    """The next point of the fixed-point iteration u = F(u), and the memory with this one added.

        G_k = F(u_k) - u_k;   gamma = argmin |G_k - dG gamma|;   u_(k+1) = F(u_k) - dF gamma

    dG, dF hold the differences of up to `depth` neighbours. metric (d,) >= 0 weighs the squares; coordinates with 0
    follow but are not looked at.

    Safeguard: when |G_k| exceeds `doubling` times the least residual so far, the memory is dropped and the iteration
    goes back to the plain step from the point of least residual. From there a nonexpansive F cannot do worse, so a
    leap that a kink of F has made meaningless costs one evaluation and is undone. Where answers are whole numbers the
    residual often stays as it is: its differences are rounding, and a leap along them would go anywhere.
    Walker and Ni (2011); safeguards: Zhang, O'Donoghue and Boyd (2020).
    """
    root = np.sqrt(metric)
    residual = float(np.linalg.norm(root * (image - point)))
    if residual > doubling * memory.best:
        return memory.safe, Memory.empty(len(point))
    best, safe = (residual, image) if residual <= memory.best else (memory.best, memory.safe)
    points = np.vstack([memory.points, point])[-(depth + 1) :]
    images = np.vstack([memory.images, image])[-(depth + 1) :]
    after = Memory(points, images, best, safe)
    dG = (root * np.diff(images - points, axis=0)).T
    size = np.linalg.norm(dG, axis=0)
    moved = size > ROUNDING * residual
    if not moved.any():
        return image, after
    # columns of equal length: the cut-off for nearly dependent ones is then a statement about directions
    gamma, *_ = np.linalg.lstsq(dG[:, moved] / size[moved], root * (image - point), rcond=1e-8)
    return image - np.diff(images, axis=0)[moved].T @ (gamma / size[moved]), after
