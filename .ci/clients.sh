#!/bin/sh
# Other people's programs that the tests of real clients need, made in a folder that may be kept between runs:
#   settings=$(.ci/clients.sh FOLDER) && eval "$settings"
# Prints the settings that name them. What is already there is not made again; a new version here is a new folder there.
set -eu

mkdir -p "$1"
folder=$(cd "$1" && pwd)

venv() { # NAME VERSION: a virtual environment with this one package and what it needs
    place=$folder/$1-$2
    if [ ! -e "$place/.made" ]; then
        rm -rf "$place"
        "${PYTHON:-python3}" -m venv "$place" >&2
        "$place/bin/pip" install --quiet --disable-pip-version-check "$1==$2" >&2
        touch "$place/.made"
    fi
}

modules() { # NAME VERSION NAME VERSION: one node_modules with both packages
    place=$folder/node-$2-$4
    if [ ! -e "$place/.made" ]; then
        rm -rf "$place"
        mkdir "$place"
        npm install --prefix "$place" --no-audit --no-fund --ignore-scripts --loglevel=error "$1@$2" "$3@$4" >&2
        touch "$place/.made"
    fi
}

venv openai 1.109.1
echo "export OPENAI1_PYTHON='$place/bin/python'"
venv mock-ai-api 0.1.1 # in an environment of its own, since it pins an old fastapi
echo "export MOCK_AI_API='$place/bin/mock-ai-api'"
if command -v npm >/dev/null; then
    modules @copilotkit/aimock 1.43.0 openai 7.57.0
    echo "export RELAY_NODE_MODULES='$place/node_modules'"
else
    echo "clients.sh: no npm here, so the tests with programs in JavaScript are skipped" >&2
fi
