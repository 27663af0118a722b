// The sessions that bench:helpers tries helpers with, alone (helpers.ts) and in a shard (helpers-shard.ts).

import {
  type Dialogue,
  FTP_ACTIVE,
  FTP_PASSIVE,
  FTP_PASSIVE_INSIDE,
  IRC_SESSION,
  TFTP_SESSION,
} from '../test/helpers/dialogues.ts'
import type { Inside } from '../test/helpers/gateway-script.ts'

export interface Session {
  readonly title: string
  readonly helper: string
  readonly session: Dialogue
  readonly inside: Inside
}

export const SESSIONS: readonly Session[] = [
  { title: 'active FTP', helper: 'ftp', session: FTP_ACTIVE, inside: 'client' },
  { title: 'passive FTP', helper: 'ftp', session: FTP_PASSIVE, inside: 'client' },
  { title: 'passive FTP, server inside', helper: 'ftp', session: FTP_PASSIVE_INSIDE, inside: 'server' },
  { title: 'IRC', helper: 'irc', session: IRC_SESSION, inside: 'client' },
  { title: 'TFTP', helper: 'tftp', session: TFTP_SESSION, inside: 'client' },
]
