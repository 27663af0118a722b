// The key `limits`: how much an inside host may have, by an ordered list of which the first rule that matches decides.

import * as z from 'zod'
import type { HostLimitsConfig } from '../../coordinator/config.ts'
import { LIMITS_IN_WORDS, readLimits } from '../limits-text.ts'
import { isPrefix, PREFIX, prefixText } from './addresses.ts'
import { integer } from './values.ts'

/** Every rule that doesn't match costs each new flow some nanoseconds. */
const MAX_RULES = 1024
/** As many connections as can be tracked; a rate is counted in twenty bits. */
const MOST = 16_777_216
const MOST_A_SECOND = 1_000_000

/** A line that is no rule has stayed a line. */
function whatIsAllowed(written: unknown): string {
  const read = typeof written === 'string' ? readLimits(written) : {}
  return 'fault' in read ? `${LIMITS_IN_WORDS}; ${read.fault}` : LIMITS_IN_WORDS
}

const rule = z.strictObject(
  {
    inside: z
      .string(PREFIX)
      .refine(isPrefix, { error: (issue) => prefixText(issue.input) })
      .optional()
      .describe('Addresses inside. Without it all.'),
    connections: integer(0, MOST).optional().describe('Connections at a time, from either side.'),
    ports: integer(0, MOST)
      .optional()
      .describe('External ports at a time, of all protocols together; those in quarantine count.'),
    newConnections: integer(0, MOST_A_SECOND).optional().describe('Connections that begin in a second.'),
    expectations: integer(0, MOST).optional().describe('Connections that helpers have announced for it at a time.'),
    icmpErrors: integer(0, MOST_A_SECOND)
      .optional()
      .describe('ICMP errors and TCP resets that the gateway itself sends to it in a second.'),
    waitingPackets: integer(0, MOST)
      .optional()
      .describe('Packets of full size that wait for neighbours at a time; one that is asked for counts as four.'),
    sequenceEdits: integer(0, MOST)
      .optional()
      .describe('Connections at a time whose sequence numbers are adjusted, because a helper has rewritten them.'),
    helpedConnections: integer(0, MOST)
      .optional()
      .describe('Connections at a time that a helper reads and that have sent data; the next one goes without it.'),
    fragmentRecords: integer(0, MOST)
      .optional()
      .describe('Fragmented packets at a time whose fragments have not all come; the oldest makes room.'),
  } satisfies Record<keyof HostLimitsConfig, z.ZodType>,
  { error: (issue) => whatIsAllowed(issue.input) },
)

export const limits = z
  .array(rule, `a list of rules, each ${LIMITS_IN_WORDS}`)
  .max(MAX_RULES, `at most ${MAX_RULES} rules`)
  .default([])
  .describe(
    'What an inside host may have at most: the first rule that matches it decides. By default a quarter of what ' +
      'all hosts share, of one external address’s ports, and 4000 new connections a second. As a variable ' +
      '`inside 10.0.0.0/24 connections 2000`, separated by commas.',
  )
