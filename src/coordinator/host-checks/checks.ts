// All checks of a host, in the order in which their findings are told. `natloom run` asks them before it changes
// anything: it refuses to start on an error and logs warnings. `natloom check --host` asks the same ones and prints
// what they find. So what one calls an error, the other refuses.

import { HostError } from '../../host/errors.ts'
import { type HostFacts, hostFacts } from '../../host/facts.ts'
import type { GatewayConfig } from '../config.ts'
import { GatewayError } from '../errors.ts'
import { type Finding, type HostCheck, textOf } from './finding.ts'
import { interfaces, outsideAddress, policyRules, poolArp } from './interfaces.ts'
import { forwardAddresses, forwardTargets, portRange, servedForwards, socketsInNatPorts } from './ports.ts'
import { byteOrder, forwarding, instances, memory, rights, tools } from './process.ts'
import { foreignForwardChains, foreignNat, legacyRules } from './rules.ts'

/** Names are what `check --host` prints before a finding. */
type NamedChecks = Readonly<Record<string, HostCheck>>

/** Without these nothing else can be looked at. */
const FIRST: NamedChecks = { 'byte-order': byteOrder, rights, tools }
const THEN = {
  instances,
  interfaces,
  'outside-address': outsideAddress,
  'pool-arp': poolArp,
  'policy-rules': policyRules,
  'kernel-nat': foreignNat,
  'port-range': portRange,
  sockets: socketsInNatPorts,
  'forwarded-sockets': servedForwards,
  'forwarded-addresses': forwardAddresses,
  'forwarded-targets': forwardTargets,
  'forward-chains': foreignForwardChains,
  'legacy-rules': legacyRules,
  'ip-forward': forwarding,
  memory,
} satisfies NamedChecks

/**
 * What may become so while a gateway runs, and is followed by nothing else there: these are asked again and again
 * (../host-watch.ts).
 */
const AGAIN = [
  'pool-arp',
  'policy-rules',
  'kernel-nat',
  'forwarded-addresses',
  'forwarded-targets',
  'forward-chains',
  'legacy-rules',
  'ip-forward',
] as const satisfies readonly (keyof typeof THEN)[]
const CHECKED_AGAIN: NamedChecks = Object.fromEntries(AGAIN.map((name) => [name, THEN[name]]))

export const CHECK_NAMES: readonly string[] = Object.keys({ ...FIRST, ...THEN })

export type NamedFinding = Finding & { readonly check: string }

/** What the process lacks to look at anything at all. */
export const prerequisites = (config: GatewayConfig, host: HostFacts): NamedFinding[] => look(FIRST, config, host)

/** Everything that the checks find. A check that can't look is an error too: a start would fail there. */
export function findingsOf(config: GatewayConfig, host: HostFacts): NamedFinding[] {
  const first = prerequisites(config, host)
  return first.some(({ severity }) => severity === 'error') ? first : [...first, ...look(THEN, config, host)]
}

const look = (checks: NamedChecks, config: GatewayConfig, host: HostFacts): NamedFinding[] =>
  Object.entries(checks).flatMap(([name, check]) =>
    findingsOrFault(() => check(config, host)).map((finding) => ({ check: name, ...finding })),
  )

function findingsOrFault(check: () => readonly Finding[]): readonly Finding[] {
  try {
    return check()
  } catch (error) {
    if (!(error instanceof HostError)) throw error
    return [{ severity: 'error', code: error.code, what: error.message, mend: '', couldNotLook: true }]
  }
}

/** This host, as it is now. */
export const factsFor = ({ name, inside, outside, statePath }: GatewayConfig): HostFacts =>
  hostFacts(name, [...inside, ...outside], statePath)

/**
 * What a start finds once name and interfaces are its own and it takes over what a killed natloom has left: of other
 * natlooms nothing.
 */
export const findingsAtStart = (config: GatewayConfig, host: HostFacts): NamedFinding[] =>
  findingsOf(config, { ...host, inUse: () => undefined, leftBehind: () => false })

/** What the checks that are asked again while a gateway runs find on this host now. */
export const lookAgainAtHost = (config: GatewayConfig): NamedFinding[] => look(CHECKED_AGAIN, config, factsFor(config))

/** Those of the start's findings that are looked at again. */
export const askedAgain = (findings: readonly NamedFinding[]): NamedFinding[] =>
  findings.filter(({ check }) => check in CHECKED_AGAIN)

/** Throws GatewayError with all errors among the findings, if there are any. Its code is that of the first. */
export function refuseErrors(findings: readonly Finding[]): void {
  const errors = findings.flatMap((finding) => (finding.severity === 'error' ? [finding] : []))
  if (errors.length > 0) throw new GatewayError(errors[0]!.code, errors.map(textOf).join('\n'))
}
