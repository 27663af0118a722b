// `natloom check`: prints the configuration in force as a complete natloom.yaml, with a comment beside each value that
// tells which line or variable has set it.

import { Document, isNode, isSeq } from 'yaml'
import type { Loaded } from './config.ts'
import { ruleText } from './filter-text.ts'
import { KEYS } from './keys.ts'
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
export function effectiveConfig({ config, settings, sources }: Loaded): string {
  const timeouts = timeoutSettings(settings.timeouts.preset, config.timeouts)
  const helpers = config.helpers.map(helperElement)
  const filter = settings.filter.map(ruleText)
  const { workers, capacity } = config
  const document = new Document({ ...settings, filter, helpers, workers, timeouts, capacity })
  for (const { path } of KEYS) {
    const node = document.getIn(path, true)
    if (!isNode(node)) continue
    if (isSeq(node)) node.flow = true
    const origin = sources.origin(path)
    if (origin !== undefined) node.comment = ` ${origin}`
  }
  return String(document)
}
