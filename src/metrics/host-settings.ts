// What somebody else has changed of what natloom has set on its host, and what the checks of the host find while it
// runs, as metrics. Read at each scrape.

import { Counter, Gauge, type Registry } from 'prom-client'

/** Implemented by coordinator/host-watch.ts. */
export interface HostSettingsState {
  /** How often each was set again. */
  readonly restored: Readonly<Record<string, number>>
  readonly findings: readonly { readonly check: string; readonly severity: string }[]
}

export function registerHostSettings(registry: Registry, settings: HostSettingsState): void {
  const registers = [registry]
  const restored: Counter = new Counter({
    name: 'natloom_host_settings_restored_total',
    help: 'Settings of natloom’s on the host that somebody else had changed, and that natloom set again',
    labelNames: ['what'],
    registers,
    collect(): void {
      restored.reset()
      for (const [what, count] of Object.entries(settings.restored)) restored.inc({ what }, count)
    },
  })
  const findings: Gauge = new Gauge({
    name: 'natloom_host_findings',
    help: 'What the checks of the host find while natloom runs, by check; natloom check --host says what it is',
    labelNames: ['check', 'severity'],
    registers,
    collect(): void {
      findings.reset()
      for (const { check, severity } of settings.findings) findings.inc({ check, severity })
    },
  })
}
