"""The microgrid of paper 2 in the energy, reactive-power and ancillary-service markets."""
