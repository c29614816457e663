#!/usr/bin/env bash
#SBATCH --job-name=cascade
#SBATCH --array=0-7
#SBATCH --cpus-per-task=8
#SBATCH --gres=gpu:1
#SBATCH --mem=24G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=cascade_%A_%a.log
#
# Predict a folder of CTs with an array of tasks. Each task predicts its share; all write into one folder.
#
#   sbatch slurm.sh IMAGES RESULTS BUNDLE [further options of nnc-cascade-predict]
#
# Activate the environment with nnunet-cascade before you call sbatch; the tasks inherit it.
# A task that is preempted, runs out of time or loses its machine resumes when it starts again.
# To repeat single tasks, say how many there were: sbatch --array=3,5 --export=ALL,PARTS=8 slurm.sh ...
set -euo pipefail

fail() {
  echo "slurm.sh: $*" >&2
  exit 2
}

(( $# >= 3 )) || fail "expected IMAGES RESULTS BUNDLE; found $# arguments"
[[ -n "${SLURM_ARRAY_TASK_ID:-}" ]] || fail "this is not a task of an array; submit it with sbatch"

if [[ -z "${PARTS:-}" ]]; then
  first="${SLURM_ARRAY_TASK_MIN:-0}" last="${SLURM_ARRAY_TASK_MAX:-0}"
  # The number of parts defines the shares: an array with tasks other than 0 to N-1 would leave cases out.
  (( first == 0 && last == SLURM_ARRAY_TASK_COUNT - 1 )) ||
    fail "the array is not 0 to N-1; say how many parts there are with --export=ALL,PARTS=N"
  PARTS="$SLURM_ARRAY_TASK_COUNT"
fi

export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"

# With exec, Slurm's signals reach the command itself, which then writes its run report and ends.
exec nnc-cascade-predict -i "$1" -o "$2" -m "$3" "${@:4}" \
  -num_parts "$PARTS" -part_id "$SLURM_ARRAY_TASK_ID" --continue_prediction
