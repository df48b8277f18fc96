#!/bin/bash
#SBATCH --job-name=tatonnement
#SBATCH --ntasks=64
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --output=%x-%j.log

# One rank a task, one thread a rank. Set up once, on the login node, with the cluster's own MPI:
#   module load python/3.11 openmpi        # whatever your site calls them
#   python3 -m venv ~/tatonnement-env && source ~/tatonnement-env/bin/activate
#   pip install . && pip install --no-binary=mpi4py mpi4py
# Not the extra [mpi]: its wheels bring an MPI of their own, which does not know this cluster's network.

set -eu
module load python/3.11 openmpi
source ~/tatonnement-env/bin/activate
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

case=${1:?usage: sbatch docs/slurm.sh CASE.toml [more arguments of mpi_run.py]}
shift
srun python -m mpi4py mpi_run.py "$case" --out "results/${SLURM_JOB_NAME}-${SLURM_JOB_ID}" "$@"
