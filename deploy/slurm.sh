#!/usr/bin/env bash
# A run on the nodes of a Slurm job: Ray is started on all of them, looked at by the doctor, used, and ended.
#   sbatch deploy/slurm.sh /shared/ours.yaml /shared/runs/ours [dotted.key=value ...]
# Before: an environment with LiIT, data, configuration and output on storage that every node sees under the same path; the environment
# is active in the shell that calls sbatch. Sizes are those of jobs/configs/llava-1.5-7b.yaml, times two.
# Checked by tests/deploy/test_deploy.py: shellcheck, and a run on one machine with stand-ins for srun and scontrol. Never run under Slurm.
#SBATCH --job-name=liit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=72
#SBATCH --gpus-per-node=8
#SBATCH --mem=0
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=liit-%j.log
# A job that is requeued runs the same command, which continues the run.
set -euo pipefail

usage="usage: sbatch slurm.sh /absolute/CONFIG.yaml /absolute/OUTPUT [dotted.key=value ...]"
config=${1:?$usage} output=${2:?$usage}
shift 2
if [[ $config != /* || $output != /* ]]; then
  echo "$usage: every node must see both under these paths" >&2
  exit 2
fi

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
cpus=${SLURM_CPUS_PER_TASK:-1} gpus=${SLURM_GPUS_ON_NODE:-0}
ip=${HEAD_IP:-$(hostname -I | cut -d ' ' -f 1)} # this script runs on the first node; HEAD_IP where its first address is not the fast one
address=$ip:$((20000 + SLURM_JOB_ID % 10000))   # below the ports that Linux hands out, above those of Ray's workers

export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))') # others on the network are not let in
export RAY_AUTH_TOKEN
export RAY_TMPDIR=/tmp/liit-$SLURM_JOB_ID # /tmp/ray may be another user's, or name a Ray that was killed
export RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S=600 # imports of many nodes from one disk

# on NODES [OPTION ...] COMMAND ...: the subshell that it is called in becomes the command on so many nodes, beside what runs there.
on() {
  exec srun --overlap --export=ALL --nodes="$1" --ntasks="$1" --cpus-per-task="$cpus" "${@:2}"
}
finish() {
  trap - EXIT
  kill "${started[@]}" 2> /dev/null || true # srun passes it on to Ray, which ends what it started
  wait || true
  (on "${#nodes[@]}" rm -rf "$RAY_TMPDIR") || true
}
started=()
trap finish EXIT

on 1 --nodelist="${nodes[0]}" ray start --head --block --node-ip-address="$ip" --port="${address#*:}" \
  --num-cpus="$cpus" --num-gpus="$gpus" &
started+=($!)
for _ in $(seq 60); do
  if ray health-check --address "$address" > /dev/null 2>&1; then break; fi
  kill -0 "${started[0]}" # else it has said why it ended
  sleep 2
done
if ((${#nodes[@]} > 1)); then
  on $((${#nodes[@]} - 1)) --exclude="${nodes[0]}" ray start --block --address="$address" \
    --num-cpus="$cpus" --num-gpus="$gpus" &
  started+=($!)
fi

export RAY_ADDRESS=$address
python - "${#nodes[@]}" << 'PYTHON'
import sys
import time

import ray

ray.init(log_to_driver=False)
deadline = time.monotonic() + 300
while (alive := sum(node["Alive"] for node in ray.nodes())) < int(sys.argv[1]):
    if time.monotonic() > deadline:
        sys.exit(f"{alive} of {sys.argv[1]} nodes joined Ray within five minutes; what the others said is above")
    time.sleep(2)
PYTHON

liit doctor "$config" "$@" # its exit code is 1 where something is to do
liit run "$config" "$@" --output "$output"
