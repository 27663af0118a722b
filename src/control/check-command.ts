// `natloom check`: prints the configuration in force as a complete natloom.yaml, with a comment beside each value that
// tells which line or variable has set it. `natloom check --host`: prints what the checks of the host have found.

import { Document, isNode, isSeq } from 'yaml'
import type { NamedFinding } from '../coordinator/host-checks/checks.ts'
import type { Loaded } from './config.ts'
import type { Output } from './conntrack-command.ts'
import { EXIT } from './exit-codes.ts'
import { ruleText } from './filter-text.ts'
import { KEYS } from './keys.ts'
import { limitsText } from './limits-text.ts'
import { ELEMENT_SHORTHANDS } from './schema.ts'
import { timeoutSettings } from './timeouts.ts'

/**
 * An element of `helpers`: one word if that says all. Paths are absolute, so that the output may be stored anywhere.
 */
function helperElement({ module, ...more }: Loaded['config']['helpers'][number]): unknown {
  const [key] = Object.entries(ELEMENT_SHORTHANDS.helpers!(module))
  return Object.keys(more).length === 0 ? module : { ...Object.fromEntries([key!]), ...more }
}

/** A complete configuration file: read again without variables, it gives the same configuration. */
export function effectiveConfig({ config, settings, sources }: Loaded, output: Output = 'text'): string {
  const timeouts = timeoutSettings(settings.timeouts.preset, config.timeouts)
  const helpers = config.helpers.map(helperElement)
  const filter = settings.filter.map(ruleText)
  const limits = settings.limits.map(limitsText)
  const { workers, capacity } = config
  const document = new Document({ ...settings, filter, limits, helpers, workers, timeouts, capacity })
  if (output === 'json') return `${JSON.stringify(document.toJS(), null, 2)}\n`
  for (const { path } of KEYS) {
    const node = document.getIn(path, true)
    if (!isNode(node)) continue
    if (isSeq(node)) node.flow = true
    const origin = sources.origin(path)
    if (origin !== undefined) node.comment = ` ${origin}`
  }
  return String(document)
}

/** What the checks of the host have found, for people or as JSON, and the exit code that says how bad it is. */
export function hostReport(findings: readonly NamedFinding[], output: Output): { text: string; exitCode: number } {
  const errors = findings.filter(({ severity }) => severity === 'error').length
  const warnings = findings.length - errors
  const exitCode = errors > 0 ? EXIT.host : warnings > 0 ? EXIT.hostWarnings : EXIT.ok
  if (output === 'json') return { text: JSON.stringify({ errors, warnings, findings }, null, 2), exitCode }
  const start = errors > 0 ? 'natloom run would refuse to start' : 'natloom run would start'
  const counts = [counted(errors, 'error'), counted(warnings, 'warning')].filter((text) => text !== '').join(', ')
  return { text: [...findings.map(findingText), `${counts || 'nothing found'}: ${start}`].join('\n'), exitCode }
}

function findingText({ severity, check, what, mend }: NamedFinding): string {
  const [first, ...more] = what.split('\n')
  const lines = [...more, ...(mend === '' ? [] : [`mend: ${mend}`])].map((line) => `    ${line}`)
  return [`${severity}: ${check}: ${first}`, ...lines, ''].join('\n')
}

const counted = (count: number, what: string): string =>
  count === 0 ? '' : `${count} ${what}${count === 1 ? '' : 's'}`
