#!/bin/sh
# Writes .env with fresh secrets, unless there is one: `docker compose` reads it by itself.
set -eu
cd "$(dirname "$0")"
if [ -e .env ]; then
    echo ".env is there already; nothing changed" >&2
    exit 0
fi
umask 077
while IFS= read -r line; do
    case $line in
        [A-Z]*=) line=$line$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n') ;;
    esac
    printf '%s\n' "$line"
done < .env.example > .env.new
mv .env.new .env
