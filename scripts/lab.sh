#!/usr/bin/env bash
# npm run lab [-- scenario ...]: what the scenario needs, then the lab itself.

set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/ready.sh lab "$@"
exec node dist/src/control/main.js lab "$@"
