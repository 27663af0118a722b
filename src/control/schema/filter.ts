// The key `filter`: which flows may be opened, by an ordered list of which the first rule that matches decides.

import * as z from 'zod'
import { parsePorts } from '../../coordinator/filter.ts'
import { RULE_IN_WORDS, readRule } from '../filter-text.ts'
import { FLOW_PROTOCOLS } from '../protocols.ts'
import { isPrefix, PREFIX, prefixText } from './addresses.ts'
import { choice } from './values.ts'

/** Every rule that doesn't match costs each new flow some nanoseconds. */
const MAX_RULES = 1024

const PROTOCOL = `${Object.keys(FLOW_PROTOCOLS).join(', ')}, or a number from 0 to 255`
const PORT = 'a port from 1 to 65535, or a range a-b'
const WITH_WINDOWS: readonly unknown[] = [undefined, 'tcp', FLOW_PROTOCOLS.tcp]
const WITH_PORTS: readonly unknown[] = [undefined, 'tcp', 'udp', FLOW_PROTOCOLS.tcp, FLOW_PROTOCOLS.udp]

const prefix = () => z.string(PREFIX).refine(isPrefix, { error: (issue) => prefixText(issue.input) })

function isPorts(written: string | number): boolean {
  try {
    return parsePorts(String(written)).from > 0
  } catch {
    return false
  }
}

/** A line that is no rule has stayed a line. */
function whatIsAllowed(written: unknown): string {
  const read = typeof written === 'string' ? readRule(written) : {}
  return 'fault' in read ? `${RULE_IN_WORDS}; ${read.fault}` : RULE_IN_WORDS
}

const rule = z
  .strictObject(
    {
      action: choice('allow', 'deny').describe('allow or deny.'),
      direction: choice('in', 'out')
        .optional()
        .describe('out: flows opened from inside; in: flows opened from outside. Without it both.'),
      state: choice('new', 'related')
        .optional()
        .describe('related: flows that a helper has announced; new: all others. Without it both.'),
      proto: z
        .union([z.enum(Object.keys(FLOW_PROTOCOLS)), z.int(PROTOCOL).min(0, PROTOCOL).max(255, PROTOCOL)], PROTOCOL)
        .optional()
        .describe('A protocol, by name or number. Without it all.'),
      windows: choice('liberal')
        .optional()
        .describe('liberal: of flows that it allows, TCP segments outside of the windows pass.'),
      inside: prefix().optional().describe('Addresses inside, untranslated.'),
      remote: prefix().optional().describe('Addresses outside.'),
      port: z
        .union([z.int(PORT), z.string(PORT)], PORT)
        .refine(isPorts, PORT)
        .optional()
        .describe(
          'The port that the flow is opened to, or a range a-b: of the remote end if it goes out, ' +
            'of the inside end, translated, if it comes in. Such a rule matches TCP and UDP only.',
        ),
    },
    { error: (issue) => whatIsAllowed(issue.input) },
  )
  .refine(({ port, proto }) => port === undefined || WITH_PORTS.includes(proto), {
    path: ['proto'],
    error: 'tcp, udp or none, because the rule has a port',
  })
  .refine(
    ({ windows, action, proto }) => windows === undefined || (action === 'allow' && WITH_WINDOWS.includes(proto)),
    {
      path: ['windows'],
      error: 'only with allow, and with tcp or no protocol',
    },
  )

export const filter = z
  .array(rule, `a list of rules, each ${RULE_IN_WORDS}`)
  .max(MAX_RULES, `at most ${MAX_RULES} rules`)
  .default([])
  .describe(
    'Which flows may be opened: the first rule that matches decides, and what none matches is allowed. ' +
      'As a variable `deny out tcp port 25`, separated by commas.',
  )
