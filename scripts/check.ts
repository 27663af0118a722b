// The project's own rules, beside those of compiler and linter: `npm run check:rules`, part of `npm run check`. Prints
// each place where one is broken, the rule, and what to do; ends with 1 if there is any.
//
//   node dist/scripts/check.js [layers|lengths|parameters|readmes ...]        all by default

import { fileURLToPath } from 'node:url'
import { describeFinding, type Finding } from './checks/finding.ts'
import { checkLayers } from './checks/layers.ts'
import { checkLengths } from './checks/lengths.ts'
import { checkParameters } from './checks/parameters.ts'
import { checkReadmes } from './checks/readmes.ts'

const CHECKS: Readonly<Record<string, (root: string) => Finding[] | Promise<Finding[]>>> = {
  layers: checkLayers,
  lengths: checkLengths,
  parameters: checkParameters,
  readmes: checkReadmes,
}

const root = fileURLToPath(new URL('../..', import.meta.url))
const asked = process.argv.slice(2)
for (const name of asked.length > 0 ? asked : Object.keys(CHECKS)) {
  const check = CHECKS[name]
  if (check === undefined) {
    console.error(`there is no check ${name}: ${Object.keys(CHECKS).join(', ')}`)
    process.exit(2)
  }
  const findings = await check(root)
  if (findings.length === 0) continue
  console.error(`${name}: ${findings.length} found`)
  for (const finding of findings) console.error(`  ${describeFinding(finding)}`)
  process.exitCode = 1
}
