#!/usr/bin/env bash
# A run on all hosts of a TPU pod slice:
#   NAME=my-tpu ZONE=us-central2-b scripts/launch/tpu_pod.sh \
#     --config=configs/edge_pruning.py:fashion_mnist --workdir=/shared/run \
#     --data_root=/shared/data --config.train.devices=all
# The checkout lies in ~/jaxedge on every host, with pip install -e '.' and
# jax[tpu]; the workdir is on a file system that all of them see.
set -euo pipefail

printf -v arguments ' %q' "$@"
exec gcloud compute tpus tpu-vm ssh "${NAME:?}" --zone="${ZONE:?}" --worker=all \
  --command="cd ~/jaxedge && jaxedge ${JAXEDGE_COMMAND:-run} --distributed=auto$arguments"
