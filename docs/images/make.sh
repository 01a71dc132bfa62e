#!/usr/bin/env bash
# Takes docs/images/run.png anew: a real run on a terminal of 100 columns, in mid-run and at its end.
# By hand, from the root of the repository: docs/images/make.sh [BINARY]. Needs tmux, aha, chromium.
set -euo pipefail
binary=$(realpath "${1:-target/release/batchclass}")
fixture=$PWD/fixtures/banking77
picture=$PWD/docs/images/run.png
scratch=$(mktemp -d)
trap 'tmux -L picture kill-server 2>/dev/null || true; kill "${server:-0}" 2>/dev/null || true; rm -rf "$scratch"' EXIT

"$binary" simulate --port 0 --tokens-per-minute 200000 >"$scratch/address" 2>/dev/null &
server=$!
until grep -q http "$scratch/address"; do sleep 0.1; done
base_url=$(awk '{print $NF}' "$scratch/address")

ln -s "$binary" "$scratch/batchclass"
cp "$fixture/questions.parquet" "$scratch/"
cp "$fixture/simulate.toml" "$scratch/batchclass.toml"
cat >"$scratch/session" <<SESSION
cd "$scratch"
export PATH="$scratch:\$PATH" BATCHCLASS_BASE_URL=$base_url PS1='$ '
SESSION
tmux -L picture new-session -d -x 100 -y 16 "bash --rcfile $scratch/session -i"
sleep 1
tmux -L picture send-keys "clear; batchclass questions.parquet out/" Enter
sleep 35
tmux -L picture capture-pane -e -p >"$scratch/running"
until grep -q 'output  ' "$scratch/done" 2>/dev/null; do
    sleep 2
    tmux -L picture capture-pane -e -p >"$scratch/done"
done
{
    echo '<body style="margin:0;background:#1b1d23;color:#d8dee9;font:15px/1.35 DejaVu Sans Mono,monospace;padding:18px 22px">'
    for frame in running done; do
        printf '<pre style="margin:0 0 14px;font:inherit">'
        sed -e :a -e '/^\n*$/{$d;N;ba' -e '}' "$scratch/$frame" | aha --no-header --black
        printf '</pre>'
        [ "$frame" = done ] || echo '<hr style="border:0;border-top:1px dashed #4c566a;margin:0 0 14px">'
    done
    echo '</body>'
} >"$scratch/run.html"
chromium --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --user-data-dir="$scratch/chromium" --hide-scrollbars \
    --window-size=980,325 --screenshot="$picture" "file://$scratch/run.html" >/dev/null 2>&1
echo "$picture"
