#!/bin/sh
# Starts SeaweedFS (the program in the arguments) with an identity for each service, one for VODs, and one of an
# administrator. The secrets come from the environment; the permissions of each identity are in policies/.
set -eu
folder=$(dirname "$0")
config=${TMPDIR:-/tmp}/s3.json

for name in clip-cutter clip-gateway janitor sources; do
    # Checked here, because a failure in the here-document below would go unnoticed.
    [ -s "$folder/policies/$name.json" ] && [ -r "$folder/policies/$name.json" ] || {
        echo "$folder/policies/$name.json is missing, empty or not readable" >&2
        exit 1
    }
done
: "${SOURCE_BUCKET:?}"

# NAME: print the policy of that name, as a document in a string
policy() {
    printf '{"name": "%s", "content": "' "$1"
    sed -e 's/"/\\"/g' -e "s/:::vods/:::$SOURCE_BUCKET/" "$folder/policies/$1.json" | tr -d '\n'
    printf '"}'
}

# NAME ACCESS_KEY SECRET_KEY: print an identity with the policy of its name
identity() {
    printf '{"name": "%s", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], "policyNames": ["%s"]}' \
        "$1" "$2" "$3" "$1"
}

rm -f "$config"
(
    umask 077
    cat >"$config" <<EOF
{
  "policies": [$(policy clip-cutter), $(policy clip-gateway), $(policy janitor), $(policy sources)],
  "identities": [
    $(identity clip-cutter clip-cutter "$CUTTER_SECRET_KEY"),
    $(identity clip-gateway clip-gateway "$GATEWAY_SECRET_KEY"),
    $(identity janitor janitor "$JANITOR_SECRET_KEY"),
    $(identity sources "$SOURCE_ACCESS_KEY" "$SOURCE_SECRET_KEY"),
    {"name": "admin", "credentials": [{"accessKey": "admin", "secretKey": "$ADMIN_SECRET_KEY"}], "actions": ["Admin"]}
  ]
}
EOF
)
exec "$@" -s3.config="$config"
