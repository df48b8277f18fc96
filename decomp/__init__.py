"""Price-coordinated decomposition over MPI. This package knows nothing of electricity."""
