#!/usr/bin/env bash
# npm run build: dist/ from the sources. The compiler first; then the declarations of what authors of helpers import,
# the only ones that the package has (package.json, exports), of sources that the compiler has just checked; then the
# datapath's entries as a file each, which is what threads run: modules that are one file are compiled and inlined
# together. Their source maps name the TypeScript sources, as all others do. Last, what is left in dist/ of sources that
# are no more is removed, since the package has whatever lies there.

set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/node_modules/.bin:$PATH"

tsc -p tsconfig.json
tsc src/helpers/helper.ts src/testing/helper-script.ts --declaration --emitDeclarationOnly --noCheck --strict \
  --target es2023 --module nodenext --rewriteRelativeImportExtensions --rootDir src --outDir dist/src

# Its progress is of no interest; what is wrong, it says on standard error.
for entry in shard dispatcher un-nat/replay-shard; do
  rolldown "src/datapath/$entry.ts" --file "dist/src/datapath/$entry.bundle.js" --format esm --platform node \
    --external '#faults' --sourcemap --sourcemapExcludeSources --logLevel silent > /dev/null
done

find dist -name '*.js' ! -name '*.bundle.js' | while read -r compiled; do
  source="${compiled#dist/}"
  [ -e "${source%.js}.ts" ] || rm "$compiled" "$compiled.map"
done
