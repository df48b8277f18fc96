"""A problem put together in the case file: a coordinator by name, and blocks from modules of the user's own."""

from problems.own_blocks.problem import OwnBlocks

__all__ = ["OwnBlocks"]
