#!/usr/bin/env bash
# A run on several hosts under SLURM; a task is a host with its accelerators:
#   sbatch --nodes=4 scripts/launch/slurm.sh \
#     --config=configs/edge_pruning.py:fashion_mnist --workdir=/shared/run \
#     --data_root=/shared/data --config.train.devices=all
# jaxedge has to be installed on every host, and all of them see the workdir. Two
# minutes before its time is over the job is told to stop, saves, and goes back
# into the queue, from where it goes on.
#SBATCH --job-name=jaxedge
#SBATCH --ntasks-per-node=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

srun --kill-on-bad-exit=1 jaxedge "${JAXEDGE_COMMAND:-run}" --distributed=auto "$@" &
step=$!
stopped=
# The signal comes to this shell alone, which hands it to srun and that to the
# tasks, and lives on to ask for a new turn.
trap 'stopped=yes; kill -TERM "$step"' TERM
status=0
wait "$step" || status=$?
if [[ -n "$stopped" ]]; then
  wait "$step" || true
  exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
