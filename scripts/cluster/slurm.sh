#!/usr/bin/env bash
# In: data and weights in a shared folder, a PostgreSQL that all nodes reach. Out: one study, trained by a job array.
#
#   export YOLO_ATTENTION_NAS_STORAGE=postgresql+psycopg://me@db.example.org/nas    # no password in it
#   export PGPASSFILE=$HOME/.pgpass                                                 # db.example.org:5432:*:me:PASSWORD
#   export NAS_VENV=/shared/venv NAS_STUDY=mine NAS_SHARED=/shared/nas
#   export NAS_DATA=/shared/data/my-data.yaml NAS_WEIGHTS=/shared/weights/yolov10n.pt
#   sbatch --array=0-8 scripts/cluster/slurm.sh --trials 300 imgsz=320
#
# Task 0 is the search: it makes the study, prepares the base, trains placements, and trains the finalists at the end.
# All other tasks are workers. What stands behind the script goes to the search; the workers read it in the study.
# Change below: the times, memory and partition of your cluster. Each task has one GPU; all of one kind.
#
# At the time limit Slurm sends USR1; the training is closed, tried again by somebody, and the task queues again. A task
# that is pre-empted or whose node fails is queued again by Slurm itself. `scancel` ends tasks for good.
#
#SBATCH --job-name=nas
#SBATCH --array=0-4
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@90
#SBATCH --open-mode=append
#SBATCH --output=%x-%A-%a.log
set -euo pipefail

: "${YOLO_ATTENTION_NAS_STORAGE:?a URL such as postgresql+psycopg://me@db.example.org/nas}"
: "${NAS_VENV:?the environment with the project}" "${NAS_STUDY:?the name of the study}"
: "${NAS_SHARED:?a folder that all nodes reach}" "${NAS_DATA:?the YAML of the dataset}" "${NAS_WEIGHTS:?a .pt file}"
if [[ $YOLO_ATTENTION_NAS_STORAGE == *://*:*@* ]]; then
  echo "slurm.sh: no password in YOLO_ATTENTION_NAS_STORAGE, please: PGPASSFILE is for it" >&2
  exit 2
fi
look=${NAS_LOOK:-15} patience=${NAS_PATIENCE:-3600} # seconds between looks for the study, and until a worker gives up
scratch=${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/nas-${SLURM_JOB_ID:?run it by sbatch}
mkdir -p "$scratch" "$NAS_SHARED"
export PATH=$NAS_VENV/bin:$PATH OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
export XDG_CACHE_HOME=$scratch/cache YOLO_CONFIG_DIR=$scratch/ultralytics # a home on NFS is no place for these

child='' limit='' stopped='' heard='' # `limit`: the time is up; `stopped`: any signal came
# shellcheck disable=SC2317,SC2329  # the traps call it
forward() {
  stopped=yes heard=yes
  [[ $1 != USR1 ]] || limit=yes
  [[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true
}
trap 'forward USR1' USR1
trap 'forward TERM' TERM

run() { # in the background: bash hears no signal while it waits for a command in the foreground
  local code=0
  [[ -z $stopped ]] || return 130
  "$@" &
  child=$!
  while heard='' code=0 && { wait "$child" || code=$?; } && [[ -n $heard ]]; do :; done # a signal ends a `wait` early
  child=''
  return "$code"
}

search() {
  run python -m nas search --name "$NAS_STUDY" --data "$NAS_DATA" --weights "$NAS_WEIGHTS" \
    --artifacts "$NAS_SHARED/artifacts" --output "$NAS_SHARED/runs" "$@" device=0
}

worker() {
  local end=$((SECONDS + patience))
  until run sleep "$look" && run python -m nas status "$NAS_STUDY" >"$scratch/status" 2>&1; do
    [[ -z $stopped ]] || return 130
    if ((SECONDS > end)); then
      echo "slurm.sh: no study $NAS_STUDY after $patience s: $(tail -n 1 "$scratch/status")" >&2
      return 1
    fi
  done
  run python -m nas worker "$YOLO_ATTENTION_NAS_STORAGE" "$NAS_STUDY" --data "$NAS_DATA" --weights "$NAS_WEIGHTS" \
    --artifacts "$NAS_SHARED/artifacts" --output "$scratch/runs" device=0
}

code=0
if ((${SLURM_ARRAY_TASK_ID:-0} == 0)); then search "$@" || code=$?; else worker || code=$?; fi
rm -rf "$scratch"
if [[ -n $limit && $code -ne 0 ]]; then # Slurm itself does not queue a task again whose time was up
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
