// What somebody else has changed of what natloom has set on its host, and what the checks of the host find while it
// runs, and what of it can't be looked at or followed, as metrics. Read at each scrape.
//
// A gauge that tells of the host has what the last look has seen. If that look failed, it has no sample, and
// natloom_host_failing says why there is none.

import { Counter, Gauge, type Registry } from 'prom-client'

/** Implemented by coordinator/host-watch.ts. */
export interface HostSettingsState {
  /** How often each was set again. */
  readonly restored: Readonly<Record<string, number>>
  /** A check that could not look has one that says so, beside those that it has found before. */
  readonly findings: readonly { readonly check: string; readonly severity: string; readonly couldNotLook?: true }[]
  /** How much of a part of the host can't be looked at or followed now. */
  failing(part: HostPart): number
}

export const HOST_PARTS = ['rules', 'settings', 'qdiscs', 'checks', 'ports', 'addresses', 'packet-sockets'] as const
/** What of its host a gateway looks at or follows. */
export type HostPart = (typeof HOST_PARTS)[number]

export const HOST_FAILING = {
  name: 'natloom_host_failing',
  help: 'Looks and steps that fail now, by the part of the host; what they would tell has no sample meanwhile',
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
      const blind = new Set(settings.findings.flatMap(({ check, couldNotLook }) => (couldNotLook ? [check] : [])))
      for (const { check, severity } of settings.findings) if (!blind.has(check)) findings.inc({ check, severity })
    },
  })
  const failing: Gauge = new Gauge({
    ...HOST_FAILING,
    labelNames: ['part'],
    registers,
    collect(): void {
      for (const part of HOST_PARTS) failing.set({ part }, settings.failing(part))
    },
  })
}
