#!/usr/bin/env bash
# Train on machines that ssh reaches, and that see /shared at the same path:
#
#     examples/cluster/ssh.sh node1 node2 node3
#
# Any of them may fail, and come back with the same ssh command; this machine is where they meet.
set -euo pipefail

port=29400
launch="env TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun --nnodes 1:$# --nproc-per-node ${PROCESSES:-gpu} \
    --max-restarts 100 --rdzv-backend c10d --rdzv-endpoint $(hostname -f):$port --rdzv-id run7 \
    --rdzv-conf is_host=false -m"
train="densevision train depth --out /shared/run7 --resume auto --micro-batches 64 --save-every 300s"

python "$(dirname "$0")/rendezvous.py" 0.0.0.0 "$port" &
store=$!
trap 'kill "$store" || true' EXIT
agents=()
for host in "$@"; do
    # With a terminal (-tt), the training ends where its ssh ends.
    ${SSH:-ssh -tt} "$host" "$launch $train" &
    agents+=($!)
done
status=1
for agent in "${agents[@]}"; do
    # Done if one machine finishes the run; the others were lost, or finish with it.
    if wait "$agent"; then status=0; fi
done
exit "$status"
