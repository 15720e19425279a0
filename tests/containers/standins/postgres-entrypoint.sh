#!/bin/sh
# What the official image's entry point does with the variables that we use.
set -eu
if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p -m 0700 "$PGDATA"
    printf '%s' "$POSTGRES_PASSWORD" > /tmp/password
    user=${POSTGRES_USER:-postgres}
    # shellcheck disable=SC2086 # several options
    initdb -D "$PGDATA" --username="$user" --pwfile=/tmp/password --auth=scram-sha-256 --encoding=UTF8 \
        --locale=C.UTF-8 ${POSTGRES_INITDB_ARGS:-}
    rm /tmp/password
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
    printf "listen_addresses = '*'\nunix_socket_directories = '/var/run/postgresql'\n" >> "$PGDATA/postgresql.conf"
    if [ "${POSTGRES_DB:-postgres}" != postgres ]; then
        echo "CREATE DATABASE $POSTGRES_DB;" | postgres --single -D "$PGDATA" postgres
    fi
fi
exec "$@"
