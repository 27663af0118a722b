#!/usr/bin/env bash
# npm run build: dist/ from the sources. The compiler first; then the declarations of the helper API, the only ones that the
# package has (package.json, exports); then the datapath's entries as a file each, which is what threads run: modules
# that are one file are compiled and inlined together.

set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/node_modules/.bin:$PATH"

tsc -p tsconfig.json
tsc src/helpers/helper.ts --declaration --emitDeclarationOnly --target es2023 --module nodenext --outDir dist/src/helpers

# Its progress is of no interest; what is wrong, it says on standard error.
for entry in shard dispatcher un-nat/replay-shard; do
  rolldown "dist/src/datapath/$entry.js" --file "dist/src/datapath/$entry.bundle.js" \
    --format esm --platform node --external '#faults' --sourcemap --logLevel silent > /dev/null
done
