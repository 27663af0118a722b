// What must hold between several keys. These checks run even if single keys are wrong, so that all problems are
// reported at once: each looks at the values that it reads, and leaves wrong ones to the checks of their own keys. A
// text here says what is wrong and what to do. What needs the values that have been worked out (how much memory they
// take) is asked afterwards, in coordinator/config-faults.ts.

import * as z from 'zod'
import { faultOfPortForwards } from '../../coordinator/port-forwards.ts'
import { isEndpoint } from './forward.ts'
import { poolLimit, rangeOf } from './nat.ts'

/** As far as these checks read it. */
interface Settings {
  readonly inside: readonly string[]
  readonly outside: readonly string[]
  readonly nat: { readonly pool: readonly string[]; readonly ports: { readonly from: number; readonly to: number } }
  readonly forward: readonly { readonly proto: 'tcp' | 'udp'; readonly from: string; readonly to: string }[]
}

/** The mark of an issue whose message is the whole sentence (config.ts). */
export const WHOLE = { whole: true } as const

const rule = (path: readonly string[], fault: (settings: Settings) => string | undefined) =>
  z.refine<Settings>((settings) => fault(settings) === undefined, {
    when: () => true,
    path: [...path],
    params: WHOLE,
    error: (issue) => fault(issue.input as Settings),
  })

export const wholeRules = [
  rule(['outside'], sharedInterface),
  rule(['nat', 'ports'], reversedPorts),
  rule(['forward'], portForwardFault),
] as const

function sharedInterface({ inside, outside }: Settings): string | undefined {
  if (!Array.isArray(inside) || !Array.isArray(outside)) return undefined
  const both = outside.find((name) => inside.includes(name))
  if (both === undefined) return undefined
  return `${both} is named inside, too; an interface is on one side: outside is the one towards the rest of the world`
}

function reversedPorts({ nat }: Settings): string | undefined {
  const { from, to } = nat?.ports ?? {}
  if (!Number.isInteger(from) || !Number.isInteger(to) || from <= to) return undefined
  return `from (${from}) is above to (${to}); exchange them, or set both: the defaults are 16384 and 60991`
}

/** Checked once each port forward is valid by itself; until then the error of that one is enough. */
function portForwardFault({ forward, nat }: Settings): string | undefined {
  const { pool, ports } = nat ?? {}
  if (!Array.isArray(forward) || !forward.every(isPortForward)) return undefined
  if (!Array.isArray(pool) || !pool.every(rangeOf) || poolLimit(pool) !== undefined) return undefined
  if (!Number.isInteger(ports?.from) || !Number.isInteger(ports?.to)) return undefined
  return faultOfPortForwards(forward, pool, ports)
}

const isPortForward = (forward: Partial<Settings['forward'][number]> | null): boolean =>
  (forward?.proto === 'tcp' || forward?.proto === 'udp') &&
  isEndpoint(forward.from ?? '', false) &&
  isEndpoint(forward.to ?? '', true)
