#!/usr/bin/env bash
# What the launcher has each worker of a TPU VM do: bash worker.sh setup PYTHON EXTRAS | start | status | log FROM | tail | stop.
# Beside this file are the code (tree.tar.gz), the command (command.sh), the name of the launch (id) and, where some
# were given, variables (variables.sh). It leaves log.txt, started (process and boot), exit_code, and held after stop.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"

is_running() {
    [ -f started ] || return 1
    read -r process boot <started
    [ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ] && kill -0 "$process" 2>/dev/null
}

case "${1:-}" in
setup) # an interpreter of our own, as the image may carry an older one
    rm -rf code && mkdir code && tar -xzf tree.tar.gz -C code
    export PATH="$HOME/.local/bin:$PATH"
    if ! command -v uv >/dev/null; then
        curl -LsSf https://astral.sh/uv/install.sh | sh || python3 -m pip install --user --quiet uv
    fi
    [ -x venv/bin/python ] || uv venv --quiet --python "$2" venv
    uv pip install --quiet --python venv/bin/python --editable "code[$3]"
    ;;
start) # the launcher starts what does not run; one that hangs is ended
    if is_running; then kill -KILL -- "-$process" || true; fi
    rm -f exit_code held
    setsid nohup bash "$here/worker.sh" run >>log.txt 2>&1 </dev/null &
    echo "$! $(cat /proc/sys/kernel/random/boot_id)" >started
    ;;
run) # stop sends SIGTERM to this whole process group; the training saves and tells its exit code
    trap : TERM
    [ ! -f variables.sh ] || . ./variables.sh
    code=0
    (cd code && PATH="$here/venv/bin:$PATH" PYTHONUNBUFFERED=1 exec bash "$here/command.sh") || code=$?
    echo "$code" >exit_code.new && mv exit_code.new exit_code
    ;;
status)
    if [ -f exit_code ]; then said="exit $(cat exit_code)"
    elif is_running; then said=running
    elif [ -f started ]; then said=gone
    else said=none; fi
    [ ! -f held ] || said="held $said"
    size=0
    [ ! -f log.txt ] || size=$(stat -c %s log.txt)
    echo "tx_jax-worker $(cat id 2>/dev/null || echo -) $size $said"
    ;;
log)
    [ ! -f log.txt ] || tail -c "+$2" log.txt
    ;;
tail)
    [ ! -f log.txt ] || tail -n 3 log.txt
    ;;
stop)
    touch held
    if is_running; then kill -TERM -- "-$process"; fi
    ;;
*)
    echo "worker.sh: unknown word '${1:-}'" >&2
    exit 2
    ;;
esac
