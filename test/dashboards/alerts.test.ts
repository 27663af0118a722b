import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { METRICS } from '../../src/counters/counters.ts'
import { HELPER_FAILURES } from '../../src/metrics/helpers.ts'
import { HOST_PORTS_CONTESTED } from '../../src/metrics/host-ports.ts'
import { RULES_IN_FORCE, RULES_RESTORED } from '../../src/metrics/host-rules.ts'
import { HOST_FAILING } from '../../src/metrics/host-settings.ts'
import { HEARTBEAT_AGE, RESTARTS } from '../../src/metrics/supervision.ts'

const directory = fileURLToPath(new URL('../../dashboards/', import.meta.url))

describe('the alert rules', () => {
  it('ask for metrics that natloom has', () => {
    const known = new Set<string>(
      [
        ...Object.values(METRICS),
        RESTARTS,
        HEARTBEAT_AGE,
        RULES_RESTORED,
        RULES_IN_FORCE,
        HELPER_FAILURES,
        HOST_PORTS_CONTESTED,
        HOST_FAILING,
      ].map(({ name }) => name),
    )
    const { groups } = parse(readFileSync(`${directory}alerts.yaml`, 'utf8')) as {
      groups: { rules: { expr: string }[] }[]
    }
    const asked = groups.flatMap(({ rules }) => rules.flatMap(({ expr }) => expr.match(/natloom_\w+/g) ?? []))
    expect(asked.length).toBeGreaterThan(0)
    expect(asked.filter((name) => !known.has(name))).toEqual([])
  })

  it('are each tested, that they fire and that they stay silent', () => {
    const alertsOf = (file: string, pattern: RegExp) => readFileSync(`${directory}${file}`, 'utf8').match(pattern)
    const rules = alertsOf('alerts.yaml', /(?<=- alert: )\w+/g)
    const fired = alertsOf('alerts.test.yaml', /(?<=alertname: )\w+(?=\n +exp_alerts:)/g)
    expect([...new Set(fired)].sort()).toEqual(rules?.sort())
  })
})
