#!/usr/bin/env bash
# How does a client that knows HTTP and nothing else follow a request to its outcome? Written from RFC 9110 alone.
#
# follow.sh METHOD URL [arguments of curl ...]
#
# The outcome's body goes to standard output, each exchange and pause to standard error. Ends with 0 for a 2xx, 3 for 410
# (§15.5.11: it was there and is no more), 4 for another status from 400 on, 5 when it was led nowhere.
set -euo pipefail

STEPS_MAX=50
method=$1 url=$2
shift 2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The value of a field of the last answer. Names are case-insensitive (§5.1).
field() {
    tr -d '\r' <"$scratch/head" | awk -v name="${1,,}:" 'tolower(substr($0, 1, length(name))) == name {
        value = substr($0, length(name) + 1); gsub(/^[ \t]+|[ \t]+$/, "", value); print value; exit }'
}

# A reference relative to the address that was asked (§10.2.2, RFC 3986 §5.2).
resolve() {
    local origin=${url%%://*}://
    local rest=${url#*://}
    case $1 in
        *://*) echo "$1" ;;
        //*) echo "${url%%:*}:$1" ;;
        /*) echo "$origin${rest%%/*}$1" ;;
        *) rest=${rest%%\?*} && echo "$origin${rest%/*}/$1" ;;
    esac
}

# Seconds to wait: a number of them, or a moment (§10.2.3).
pause() {
    local after=$1
    if [[ ! $after =~ ^[0-9]+$ ]]; then
        after=$(($(date -d "$after" +%s) - $(date +%s)))
        ((after >= 0)) || after=0
    fi
    echo "wait $after" >&2
    sleep "$after"
}

ask() {
    status=$(curl --silent --show-error --request "$method" --dump-header "$scratch/head" --output "$scratch/body" \
        --write-out '%{http_code}' "$@" "$url")
    echo "$method $url $status" >&2
}

: >"$scratch/body"
ask "$@"
for ((step = 0; step < STEPS_MAX; step++)); do
    location=$(field location) after=$(field retry-after)
    case $status in
        202)
            # §15.3.3: the answer points to a status monitor; without an address the monitor is what was asked.
            [[ -z $location ]] || url=$(resolve "$location")
            method=GET
            pause "${after:-1}"
            ;;
        303)
            # §15.4.4: what is there is to be had by GET, whatever was asked for.
            [[ -n $location ]] || exit 5
            url=$(resolve "$location") method=GET
            ;;
        301 | 302 | 307 | 308)
            [[ -n $location ]] || exit 5
            url=$(resolve "$location")
            ;;
        503)
            # §15.6.4 with §10.2.3: the same again, later.
            [[ -n $after ]] || break
            pause "$after"
            ;;
        200)
            # A monitor says when to come back for as long as there is more to come.
            [[ $method == GET && -n $after ]] || break
            pause "$after"
            ;;
        *) break ;;
    esac
    : >"$scratch/body"
    if [[ $method == GET ]]; then ask; else ask "$@"; fi
done
cat "$scratch/body"
case $status in
    2*) exit 0 ;;
    410) exit 3 ;;
    4* | 5*) exit 4 ;;
    *) exit 5 ;;
esac
