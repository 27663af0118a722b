#!/usr/bin/env bash
# ready.sh lab|test|bench [what the lab is asked for]: what such a run needs, the host's programs first, then dist/.

set -euo pipefail
cd "$(dirname "$0")/.."

bash deploy/prerequisites.sh "$@"
bash scripts/build.sh
