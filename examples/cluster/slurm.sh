#!/usr/bin/env bash
# Train on a SLURM cluster: sbatch examples/cluster/slurm.sh
#
# A node that fails ends its part alone (--no-kill); if it is the first one, or the time is over, the job is queued again
# and continues. SIGTERM, 120 s before the end, saves the state.
#SBATCH --job-name=run7
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --no-kill
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
port=29400
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
python "${SLURM_SUBMIT_DIR:-.}/examples/cluster/rendezvous.py" 0.0.0.0 "$port" &

srun --no-kill --kill-on-bad-exit=0 torchrun --nnodes "1:$SLURM_JOB_NUM_NODES" --nproc-per-node 8 --max-restarts 100 \
    --rdzv-backend c10d --rdzv-endpoint "$head:$port" --rdzv-id "$SLURM_JOB_ID" --rdzv-conf is_host=false \
    -m densevision train depth --out /shared/run7 --resume auto --micro-batches 64 --save-every 300s
