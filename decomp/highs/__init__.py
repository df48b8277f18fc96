"""Compiled programs and the solves on them: warm linear programs, mixed-integer ones, quadratic penalties."""
