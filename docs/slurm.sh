#!/bin/bash
#SBATCH --job-name=tatonnement
#SBATCH --ntasks=64
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --signal=USR1@120
#SBATCH --requeue

# One rank a task, one thread a rank. Set up once, on the login node, with the cluster's own MPI:
#   module load python/3.11 openmpi        # whatever your site calls them
#   python3 -m venv ~/tatonnement-env && source ~/tatonnement-env/bin/activate
#   pip install . && pip install --no-binary=mpi4py mpi4py
# Not the extra [mpi]: its wheels bring an MPI of their own, which does not know this cluster's network.
#
# Two minutes before the time limit all ranks get SIGUSR1: the run writes a checkpoint and ends as `interrupted`, the job
# is queued again, and goes on from there. See docs/restart.md.

set -eu
module load python/3.11 openmpi
source ~/tatonnement-env/bin/activate
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

case=${1:?usage: sbatch docs/slurm.sh CASE.toml [more arguments of tatonnement run]}
shift
out="results/${SLURM_JOB_NAME}-${SLURM_JOB_ID}"
resume=()
if compgen -G "$out/checkpoints/round-*/manifest.json" > /dev/null; then resume=(--resume "$out"); fi  # a complete one
srun --kill-on-bad-exit=1 tatonnement run "$case" --out "$out" "${resume[@]}" "$@"
if grep -q '"status": "interrupted"' "$out/result.json"; then scontrol requeue "$SLURM_JOB_ID"; fi
